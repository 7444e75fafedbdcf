//! The mailbox list of a header such as From, read so that no sender can pose as another.
//!
//! The address in a header decides who a mail is from. [`parse_list`] therefore reads the structure (quotes,
//! comments, angle brackets, commas, groups) strictly, before it decodes any name. But apps also write fields
//! that violate the grammar. For these fields, [`read_leniently`] finds the one address that the field can
//! mean. Such a field must be rewritten, so that no other program reads a different address in it.

use std::borrow::Cow;

use super::address::Address;
use super::phrase::{self, Phrase};

/// One mailbox (RFC 5322 §3.4): an address, with or without a display name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    /// The display name, decoded (quotes and RFC 2047), on one line, trimmed, never empty.
    pub name: Option<String>,
    /// True if the name could not be decoded. Such a name is sent as it came, without quotes.
    pub is_name_raw: bool,
    /// The address.
    pub address: Address,
}

/// The mailboxes of a header's value, with a mark for groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxList {
    /// The mailboxes, in order. The list can be empty only if `grouped` is true.
    pub mailboxes: Vec<Mailbox>,
    /// True if the list contains a group.
    pub grouped: bool,
}

/// The parts of a mailbox before they are checked.
#[derive(Default)]
struct Pieces {
    /// The text outside of angle brackets and comments, with its quotes.
    phrase: String,
    /// The text inside the angle brackets.
    angle: Option<String>,
}

impl Mailbox {
    /// Creates a mailbox and cleans its name: control characters and folds become single spaces.
    pub fn new(name: Option<&str>, address: Address) -> Self {
        Self {
            name: name.map(clean).filter(|name| !name.is_empty()),
            is_name_raw: false,
            address,
        }
    }

    /// Creates a mailbox with a name that was decoded from a header.
    fn with_phrase(phrase: Option<Phrase>, address: Address) -> Self {
        let is_raw = phrase.as_ref().is_some_and(|phrase| !phrase.is_readable);
        let named = Self::new(phrase.as_ref().map(|phrase| phrase.text.as_str()), address);
        Self {
            is_name_raw: is_raw && named.name.as_deref().is_some_and(str::is_ascii),
            ..named
        }
    }

    /// Returns a mailbox with `address` and the name of `self`. If `self` has no name, its local part becomes
    /// the name.
    pub fn encapsulated_in(&self, address: &Address) -> Self {
        let name = self.name.as_deref().unwrap_or(self.address.local_part());
        Self {
            is_name_raw: self.is_name_raw,
            ..Self::new(Some(name), address.clone())
        }
    }

    /// Writes the mailbox as a header's value, folded, with the name quoted or in RFC 2047 encoded words.
    pub fn to_header_value(&self, column: usize) -> Vec<u8> {
        use mail_builder::headers::{Header, address::Address as Builder};
        let address = self.address.to_ascii();
        let address: Cow<str> = address.map_or_else(|| self.address.as_str().into(), Cow::Owned);
        let Some(name) = &self.name else {
            return address.into_owned().into_bytes();
        };
        if self.is_name_raw {
            // Fold before each word, so that each line has only one encoded word (RFC 2047 §2).
            let words: Vec<&str> = name.split(' ').collect();
            return format!("{} <{address}>", words.join("\r\n ")).into_bytes();
        }
        let mut value = Vec::new();
        Builder::new_address(Some(name.as_str()), address).write_header(&mut value, column);
        while value.ends_with(b"\r\n") {
            value.truncate(value.len() - 2);
        }
        value
    }
}

/// Writes the mailbox as a header's value on one line.
impl std::fmt::Display for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = self.to_header_value(0);
        f.write_str(&String::from_utf8_lossy(&value).replace("\r\n", ""))
    }
}

/// Reads a mailbox list or group list (RFC 5322 §3.4, RFC 6854), which may be folded. Returns `None` if the
/// list is malformed or could be read in two ways.
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

/// The content of a field that violates the grammar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The one mailbox that the field can mean, if there is one.
    pub mailbox: Option<Mailbox>,
    /// The name, if the field has a name and no address.
    pub name: Option<String>,
}

/// Reads a field that [`parse_list`] refuses (`routing/rules.md`, "author"). Encoded words are decoded once.
/// Then, if there is exactly one `<...>` and one `@` inside it, that is the address, and the text before it
/// is the name. If not, the only word with an `@` is the address, and the other words are the name.
pub fn read_leniently(value: &str) -> Found {
    let decoded = phrase::decode_words(value);
    let text = decoded.as_deref().unwrap_or(value);
    let mailbox = in_brackets(text).or_else(|| around_at_sign(text));
    let has_address = mailbox.is_some() || text.contains('@');
    Found {
        mailbox,
        name: (!has_address)
            .then(|| plain_name(text))
            .filter(|name| !name.is_empty()),
    }
}

/// True if the field names a mailbox, in any notation.
pub fn names_somebody(value: &[u8]) -> bool {
    let (text, _) = phrase::text_of(value);
    match parse_list(&text) {
        Some(list) => !list.mailboxes.is_empty(),
        None => read_leniently(&text).mailbox.is_some() || text.contains('@'),
    }
}

fn in_brackets(text: &str) -> Option<Mailbox> {
    let (before, rest) = text.split_once('<')?;
    let (inside, after) = rest.split_once('>')?;
    let is_only = !inside.contains('<') && !after.contains(['<', '>']) && !before.contains('>');
    let address = Address::parse(route_removed(inside.trim())).ok()?;
    let has_one_at = inside.matches('@').count() == 1;
    let name = plain_name(before);
    (is_only && has_one_at).then(|| Mailbox::new(Some(&name), address))
}

fn around_at_sign(text: &str) -> Option<Mailbox> {
    let is_between = |c: char| c.is_whitespace() || ",;<>()\"".contains(c);
    let mut words = text.split(is_between).filter(|word| word.contains('@'));
    let (word, None) = (words.next()?, words.next()) else {
        return None;
    };
    let address = Address::parse(word.trim_matches(':')).ok()?;
    let name = plain_name(&text.replacen(word, " ", 1));
    Some(Mailbox::new(Some(&name), address))
}

/// Returns the name without the characters that only delimited it.
fn plain_name(text: &str) -> String {
    let text = text.replace(['"', '\\', '<', '>', '(', ')'], " ");
    let name = clean(&text);
    let name = name.trim_matches(|c: char| c.is_whitespace() || ",;:".contains(c));
    name.replace(" ,", ",").replace(" ;", ";")
}

impl MailboxList {
    /// Ends a list element. An empty element is allowed (RFC 5322 §4.4).
    fn push(&mut self, pieces: &mut Pieces) -> Option<()> {
        let pieces = std::mem::take(pieces);
        let phrase = pieces.phrase.trim();
        match pieces.angle {
            Some(angle) => {
                let address = Address::parse(route_removed(angle.trim())).ok()?;
                let mailbox = Mailbox::with_phrase(phrase::decode(phrase), address);
                self.mailboxes.push(mailbox);
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

/// Skips a comment. Comments nest (RFC 5322 §3.2.2) and contain no mailbox.
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

/// Removes the obsolete, meaningless source route of `<@a,@b:c@d>` (RFC 5322 §4.4, RFC 5321 appendix C).
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

    #[test]
    fn what_the_grammar_refuses_is_read_if_it_can_mean_one_thing() {
        let found = |value: &str| {
            assert_eq!(parse_list(value), None, "{value:?}");
            let mailbox = read_leniently(value).mailbox?;
            Some((
                mailbox.name.unwrap_or_default(),
                mailbox.address.to_string(),
            ))
        };
        let is = |name: &str, address: &str| Some((name.to_owned(), address.to_owned()));
        for (value, expected) in [
            (
                "Schmid, Jürgen <jane@x.org>",
                is("Schmid, Jürgen", "jane@x.org"),
            ),
            (
                "Machin &amp; Brol <s@x.org>",
                is("Machin &amp; Brol", "s@x.org"),
            ),
            ("Team: Jane <jane@x.org>", is("Team: Jane", "jane@x.org")),
            (
                "=?utf-8?q?J=C3=B6hn_=3Cjohn=40x=2Eorg=3E?=",
                is("Jöhn", "john@x.org"),
            ),
            ("John Doe john@x.com", is("John Doe", "john@x.com")),
            ("\"open <a@b.c>", is("open", "a@b.c")),
            ("<a@b.c", is("", "a@b.c")),
            ("X <a@b.c> tail", is("X", "a@b.c")),
            ("<a@b.c> <c@d.e>", None),
            ("a@b@c", None),
            ("a@b.c d@e.f", None),
            ("<>", None),
            ("@x.com", None),
            ("A <a@x.com>; b <b@x.com>", None),
            ("=?utf-8?q?a=40b=2Ec=2C_d=40e=2Ef?=", None),
        ] {
            assert_eq!(found(value), expected, "{value:?}");
        }
        assert_eq!(
            read_leniently("Nobody \"at all\"").name.unwrap(),
            "Nobody at all"
        );
    }

    #[test]
    fn a_reply_to_without_a_mailbox_names_nobody() {
        for value in ["", " ", " <>", "undisclosed-recipients:;", "nobody"] {
            assert!(!names_somebody(value.as_bytes()), "{value:?}");
        }
        for value in [" a@b.c", "Doe, J <a@b.c>", "a@b.c, d@e.f;", "T: a@b.c;"] {
            assert!(names_somebody(value.as_bytes()), "{value:?}");
        }
    }

    #[test]
    fn a_name_that_cannot_be_read_leaves_as_it_came() {
        let list = parse_list("=?x-odd?B?AAAA?= Doe <a@b.c>").unwrap();
        let to = Address::parse("n@example.com").unwrap();
        let value = list.mailboxes[0].encapsulated_in(&to).to_header_value(6);
        let text = String::from_utf8(value).unwrap();
        assert_eq!(text, "=?x-odd?B?AAAA?=\r\n Doe <n@example.com>");
    }

    proptest! {
        #[test]
        fn what_is_read_leniently_leaves_well_formed(value in "[ -~é\r\n]{0,60}") {
            if let Some(mailbox) = read_leniently(&value).mailbox {
                let text = String::from_utf8(mailbox.to_header_value(6)).unwrap();
                let list = parse_list(&text).unwrap();
                prop_assert_eq!(list.mailboxes.len(), 1);
                prop_assert_eq!(&list.mailboxes[0].address, &mailbox.address);
            }
        }

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
