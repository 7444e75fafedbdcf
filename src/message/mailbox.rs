//! The mailbox list of a header such as From, read so that nobody can be deceived.
//!
//! Which address a header names decides who a mail is from, so the structure (quotes, comments,
//! angle brackets, commas, groups) is read here strictly: what is not plainly one thing is an error.
//! mail-parser decodes what has no say in that, the display name.

use std::borrow::Cow;

use super::address::Address;
use super::header::decode_phrase;

/// One mailbox (RFC 5322 §3.4): a display name, if it has a visible one, and an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    /// Decoded (quotes and RFC 2047 undone), on one line, trimmed, never empty.
    pub name: Option<String>,
    /// The address.
    pub address: Address,
}

/// The mailboxes of a header's value, with whether a group held them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxList {
    /// In order; may be empty for a group.
    pub mailboxes: Vec<Mailbox>,
    /// Whether group syntax stood around any of them.
    pub grouped: bool,
}

/// A mailbox before its parts are judged.
#[derive(Default)]
struct Pieces {
    /// What stands outside of angle brackets and comments, quotes kept.
    phrase: String,
    /// What stands inside of the angle brackets.
    angle: Option<String>,
}

impl Mailbox {
    /// A mailbox with this name, cleaned: control characters and folds become single spaces.
    pub fn new(name: Option<&str>, address: Address) -> Self {
        Self {
            name: name.map(clean).filter(|name| !name.is_empty()),
            address,
        }
    }

    /// The mailbox as a header's value, folded, the name quoted or in RFC 2047 words.
    pub fn to_header_value(&self, column: usize) -> Vec<u8> {
        use mail_builder::headers::{Header, address::Address as Builder};
        let address = self.address.to_ascii();
        let address: Cow<str> = address.map_or_else(|| self.address.as_str().into(), Cow::Owned);
        let Some(name) = &self.name else {
            return address.into_owned().into_bytes();
        };
        let mut value = Vec::new();
        Builder::new_address(Some(name.as_str()), address).write_header(&mut value, column);
        while value.ends_with(b"\r\n") {
            value.truncate(value.len() - 2);
        }
        value
    }
}

/// The mailbox as a header's value on one line.
impl std::fmt::Display for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = self.to_header_value(0);
        f.write_str(&String::from_utf8_lossy(&value).replace("\r\n", ""))
    }
}

/// Reads a mailbox list or group list (RFC 5322 §3.4, RFC 6854), folds allowed; none where it is
/// malformed or could be read in two ways.
pub fn parse_list(value: &str) -> Option<MailboxList> {
    let mut list = MailboxList {
        mailboxes: Vec::new(),
        grouped: false,
    };
    let mut pieces = Pieces::default();
    let mut rest = value.chars();
    let mut in_group = false;
    while let Some(c) = rest.next() {
        match c {
            '"' => quoted(&mut rest, &mut pieces)?,
            '(' => comment(&mut rest)?,
            '<' => angle(&mut rest, &mut pieces)?,
            ',' => list.push(&mut pieces)?,
            ':' if !in_group && pieces.angle.is_none() => {
                pieces = Pieces::default();
                in_group = true;
                list.grouped = true;
            }
            ';' if in_group => {
                list.push(&mut pieces)?;
                in_group = false;
            }
            ':' | ';' | '>' | ')' => return None,
            '\r' | '\n' | '\t' => pieces.phrase.push(' '),
            _ if c.is_control() => return None,
            _ => pieces.text(c)?,
        }
    }
    list.push(&mut pieces)?;
    (!in_group && (list.grouped || !list.mailboxes.is_empty())).then_some(list)
}

impl MailboxList {
    /// Ends a list element; an empty one is allowed (RFC 5322 §4.4).
    fn push(&mut self, pieces: &mut Pieces) -> Option<()> {
        let pieces = std::mem::take(pieces);
        let phrase = pieces.phrase.trim();
        match pieces.angle {
            Some(angle) => {
                let address = Address::parse(route_removed(angle.trim())).ok()?;
                self.mailboxes
                    .push(Mailbox::new(decode_phrase(phrase).as_deref(), address));
            }
            None if phrase.is_empty() => {}
            None => self
                .mailboxes
                .push(Mailbox::new(None, Address::parse(phrase).ok()?)),
        }
        Some(())
    }
}

impl Pieces {
    fn text(&mut self, c: char) -> Option<()> {
        if self.angle.is_some() && c != ' ' {
            return None;
        }
        self.phrase.push(c);
        Some(())
    }
}

fn quoted(rest: &mut std::str::Chars, pieces: &mut Pieces) -> Option<()> {
    pieces.text('"')?;
    loop {
        match rest.next()? {
            '"' => break,
            '\\' => {
                pieces.phrase.push('\\');
                pieces.phrase.push(rest.next()?);
            }
            '\r' | '\n' => {}
            c => pieces.phrase.push(c),
        }
    }
    pieces.phrase.push('"');
    Some(())
}

/// Comments nest (RFC 5322 §3.2.2); they name nobody and are passed over.
fn comment(rest: &mut std::str::Chars) -> Option<()> {
    let mut depth = 1;
    while depth > 0 {
        match rest.next()? {
            '(' => depth += 1,
            ')' => depth -= 1,
            '\\' => {
                rest.next()?;
            }
            _ => {}
        }
    }
    Some(())
}

fn angle(rest: &mut std::str::Chars, pieces: &mut Pieces) -> Option<()> {
    if pieces.angle.is_some() {
        return None;
    }
    let mut inner = String::new();
    let mut in_quotes = false;
    loop {
        match rest.next()? {
            '>' if !in_quotes => break,
            '<' if !in_quotes => return None,
            '"' => {
                in_quotes = !in_quotes;
                inner.push('"');
            }
            '\\' if in_quotes => {
                inner.push('\\');
                inner.push(rest.next()?);
            }
            '\r' | '\n' => {}
            c => inner.push(c),
        }
    }
    pieces.angle = Some(inner);
    Some(())
}

/// The obsolete source route of `<@a,@b:c@d>` means nothing (RFC 5322 §4.4, RFC 5321 appendix C).
fn route_removed(inner: &str) -> &str {
    match inner
        .strip_prefix('@')
        .and_then(|route| route.split_once(':'))
    {
        Some((_, address)) => address,
        None => inner,
    }
}

fn clean(name: &str) -> String {
    name.split(|c: char| c.is_control() || c.is_whitespace())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(value: &str) -> (Option<String>, String) {
        let list = parse_list(value).unwrap_or_else(|| panic!("{value:?} does not parse"));
        assert_eq!(list.mailboxes.len(), 1, "{value:?}");
        let mailbox = list.mailboxes.into_iter().next().unwrap();
        (mailbox.name, mailbox.address.to_string())
    }

    #[test]
    fn reads_the_usual_forms() {
        let named = |name: &str, address: &str| (Some(name.to_owned()), address.to_owned());
        let bare = |address: &str| (None, address.to_owned());
        assert_eq!(
            one("John Doe <john@x.com>"),
            named("John Doe", "john@x.com")
        );
        assert_eq!(one(" <john@x.com> "), bare("john@x.com"));
        assert_eq!(one("\"\" <john@x.com>"), bare("john@x.com"));
        assert_eq!(one("\" \" <john@x.com>"), bare("john@x.com"));
        assert_eq!(one("john@x.com (John Doe)"), bare("john@x.com"));
        assert_eq!(
            one("\"Doe, John\" <john@x.com>"),
            named("Doe, John", "john@x.com")
        );
        assert_eq!(
            one(r#""John \"JD\" Doe" <j@x.com>"#),
            named("John \"JD\" Doe", "j@x.com")
        );
        assert_eq!(
            one("=?utf-8?q?Jos=C3=A9?= <jose@x.com>"),
            named("José", "jose@x.com")
        );
        assert_eq!(one("José <jose@x.com>"), named("José", "jose@x.com"));
        assert_eq!(one("\"a b\"@c.d"), bare("\"a b\"@c.d"));
        assert_eq!(one("X <\"a>b\"@c.d>"), named("X", "\"a>b\"@c.d"));
        assert_eq!(one("\"T\"\r\n <t@two.org> (c)"), named("T", "t@two.org"));
        assert_eq!(one("<@relay.net:a@b.c>"), bare("a@b.c"));
        assert_eq!(one("a@x.com,"), bare("a@x.com"));
    }

    #[test]
    fn a_decoded_name_cannot_start_a_header() {
        let (name, _) = one("=?utf-8?q?a=0D=0ABcc=3A_x?= <x@y.z>");
        assert_eq!(name.unwrap(), "a Bcc: x");
    }

    #[test]
    fn refuses_what_can_be_read_in_two_ways() {
        for value in [
            "",
            "foo",
            "@x.com",
            "<a@b> <c@d>",
            "a@b@c",
            "John Doe john@x.com",
            "X <a@b.c> tail",
            "\"open <a@b.c>",
            "(open a@b.c",
            "<a@b.c",
            "a@b.c>",
            "<a@b.c> x@y.z",
            "<>",
            "a@b c@d",
            "A <a@x.com>; b <b@x.com>",
        ] {
            assert_eq!(parse_list(value), None, "{value:?}");
        }
    }

    #[test]
    fn reads_lists_and_groups() {
        let list = parse_list("a@x.com, B <b@y.com>").unwrap();
        assert_eq!((list.mailboxes.len(), list.grouped), (2, false));
        let group = parse_list("Team: a@x.com, b@y.com;").unwrap();
        assert_eq!((group.mailboxes.len(), group.grouped), (2, true));
        let empty = parse_list("undisclosed-recipients:;").unwrap();
        assert_eq!((empty.mailboxes.len(), empty.grouped), (0, true));
    }

    #[test]
    fn writes_names_quoted_or_encoded() {
        let to = Address::parse("n@example.com").unwrap();
        let shown = |name| Mailbox::new(Some(name), to.clone()).to_string();
        assert_eq!(shown("John Doe"), r#""John Doe" <n@example.com>"#);
        assert_eq!(
            shown(r#"John "JD" Doe"#),
            r#""John \"JD\" Doe" <n@example.com>"#
        );
        assert_eq!(shown(r"a\b"), r#""a\\b" <n@example.com>"#);
        assert_eq!(shown("José"), "=?utf-8?B?Sm9zw6k=?= <n@example.com>");
        assert_eq!(Mailbox::new(None, to.clone()).to_string(), "n@example.com");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(name in "\\PC{0,120}") {
            let address = Address::parse("n@example.com").unwrap();
            let mailbox = Mailbox::new(Some(&name), address);
            let value = mailbox.to_header_value(6);
            let text = String::from_utf8(value).unwrap();
            prop_assert!(text.split("\r\n").all(|line| line.len() <= 998));
            prop_assert!(text.split("\r\n").skip(1).all(|line| line.starts_with(' ')));
            let list = parse_list(&text).unwrap();
            prop_assert_eq!(&list.mailboxes[0].address, &mailbox.address);
            prop_assert_eq!(&list.mailboxes[0].name, &mailbox.name);
        }

        #[test]
        fn never_panics(value in "[ -~\r\n\té]{0,80}") {
            parse_list(&value);
        }
    }
}
