//! The header section: the byte range of each field, and the author.
//!
//! The section ends at the first line that is not a field; the rest is body. There is one exception: an mbox
//! separator as the first line is skipped, because it belongs to the mbox file, not to the message.

use std::ops::Range;

use memchr::memchr;

use super::mailbox::{self, Mailbox};
use super::phrase;

/// One field: `Name: value CRLF`, folds included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The whole field, its last CRLF included.
    pub whole: Range<usize>,
    /// The name, without white space before the colon (obsolete, RFC 5322 §4.5).
    pub name: Range<usize>,
    /// The value after the colon, without the last CRLF.
    pub value: Range<usize>,
}

/// The fields of a header section, with the bytes that they were read from.
#[derive(Debug, Clone)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    /// The fields, in order.
    pub fields: Vec<Field>,
    /// The end of the last field.
    pub end: usize,
    /// The start of the body: after the empty line, or at the line that is not a field.
    pub body: usize,
}

/// The author according to the header From (`routing/rules.md`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Author {
    /// The message has no From.
    Missing,
    /// One From, one mailbox.
    One(Mailbox),
    /// One From with several mailboxes or a group. It is valid but names no single author. The first
    /// mailbox provides the name.
    Several(Option<Mailbox>),
    /// Either a From that violates the grammar but can only mean this mailbox, or several From fields that
    /// all have its address. In both cases, From is always rewritten.
    Lenient(Mailbox),
    /// Several From fields that do not all name the same address, or one From without an address. The value
    /// is the display name, if one was found. The From that replaces the field has the same name.
    Malformed(Option<String>),
}

impl Author {
    /// Returns the author's mailbox if there is exactly one author.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::One(mailbox) | Self::Lenient(mailbox) => Some(mailbox),
            _ => None,
        }
    }

    /// Reads the value of a From field.
    pub fn of_value(value: &[u8]) -> Self {
        let (text, is_valid) = phrase::text_of(value);
        let list = mailbox::parse_list(&text);
        let Some(mut list) = list else {
            let found = mailbox::read_leniently(&text);
            return match found.mailbox {
                Some(mailbox) => Self::Lenient(mailbox),
                None => Self::Malformed(found.name),
            };
        };
        if list.mailboxes.len() != 1 || list.grouped {
            return Self::Several(list.mailboxes.into_iter().next());
        }
        let mailbox = list.mailboxes.remove(0);
        if is_valid {
            Self::One(mailbox)
        } else {
            Self::Lenient(mailbox)
        }
    }
}

impl<'a> Headers<'a> {
    /// Splits the start of a message into fields. All line ends must be CRLF.
    pub fn parse(bytes: &'a [u8]) -> Self {
        let mut fields: Vec<Field> = Vec::with_capacity(24);
        let mut at = mbox_separator(bytes);
        loop {
            let line = line_at(bytes, at);
            let content = &bytes[line.clone()];
            let next = (line.end + 2).min(bytes.len());
            if content.is_empty() {
                return Self {
                    bytes,
                    fields,
                    end: at,
                    body: next,
                };
            }
            if matches!(content[0], b' ' | b'\t') && !fields.is_empty() {
                let field = fields.last_mut().expect("there is a field to continue");
                field.whole.end = next;
                field.value.end = line.end;
            } else if let Some(colon) = field_colon(content) {
                let name_end = at + content[..colon].trim_ascii_end().len();
                fields.push(Field {
                    whole: at..next,
                    name: at..name_end,
                    value: at + colon + 1..line.end,
                });
            } else {
                return Self {
                    bytes,
                    fields,
                    end: at,
                    body: at,
                };
            }
            at = next;
        }
    }

    /// Returns the bytes of a range of this section.
    pub fn slice(&self, range: &Range<usize>) -> &'a [u8] {
        &self.bytes[range.clone()]
    }

    /// True if the field has this name.
    pub fn is(&self, field: &Field, name: &str) -> bool {
        self.slice(&field.name)
            .eq_ignore_ascii_case(name.as_bytes())
    }

    /// Returns the value of the first field of this name, including its folds and surrounding white space.
    pub fn value(&self, name: &str) -> Option<&'a [u8]> {
        let field = self.fields.iter().find(|field| self.is(field, name))?;
        Some(self.slice(&field.value))
    }

    /// Returns the author according to all From fields of the message.
    pub fn author(&self) -> Author {
        let froms = self.fields.iter().filter(|field| self.is(field, "From"));
        let mut authors = froms.map(|from| Author::of_value(self.slice(&from.value)));
        let Some(first) = authors.next() else {
            return Author::Missing;
        };
        let mut others = authors.peekable();
        if others.peek().is_none() {
            return first;
        }
        let address = |author: &Author| author.mailbox().map(|mailbox| mailbox.address.clone());
        match first.mailbox() {
            Some(mailbox) if others.all(|it| address(&it).as_ref() == Some(&mailbox.address)) => {
                Author::Lenient(mailbox.clone())
            }
            _ => Author::Malformed(None),
        }
    }

    /// Returns the number of fields with this name.
    pub fn count(&self, name: &str) -> usize {
        let fields = self.fields.iter();
        fields.filter(|field| self.is(field, name)).count()
    }
}

/// Returns the length of the first line if it is `From ...` or `>From ...`, the separator that mbox files put
/// before each message. Returns zero for any other first line.
fn mbox_separator(bytes: &[u8]) -> usize {
    let is_one = bytes.starts_with(b"From ") || bytes.starts_with(b">From ");
    let line = line_at(bytes, 0);
    // `From : a@b.c` is a field, with white space that was once allowed (RFC 5322 §4.5).
    if is_one && field_colon(&bytes[line.clone()]).is_none() {
        (line.end + 2).min(bytes.len())
    } else {
        0
    }
}

/// Returns the line that starts at `at`, without its line end.
fn line_at(bytes: &[u8], at: usize) -> Range<usize> {
    let mut search = at;
    while let Some(found) = memchr(b'\r', &bytes[search..]) {
        if bytes.get(search + found + 1) == Some(&b'\n') {
            return at..search + found;
        }
        search += found + 1;
    }
    at..bytes.len()
}

/// Returns the position of the colon after a field name of printable ASCII (RFC 5322 §2.2). White space
/// before the colon is obsolete, but accepted (§4.5).
fn field_colon(line: &[u8]) -> Option<usize> {
    let colon = memchr(b':', line)?;
    let name = line[..colon].trim_ascii_end();
    (!name.is_empty() && name.iter().all(u8::is_ascii_graphic)).then_some(colon)
}

/// Writes a text as the value of a field such as Subject (RFC 5322 §2.2.1), folded, with RFC 2047 encoded words if
/// the text is not ASCII. `column` is the number of characters before it.
pub(crate) fn unstructured(text: &str, column: usize) -> String {
    use mail_builder::headers::{Header, text::Text};
    let mut value = Vec::new();
    Text::new(text).write_header(&mut value, column);
    String::from_utf8_lossy(&value).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(message: &str) -> (Vec<&str>, &str) {
        let headers = Headers::parse(message.as_bytes());
        let names = headers.fields.iter().map(|f| &message[f.name.clone()]);
        (names.collect(), &message[headers.body..])
    }

    #[test]
    fn cuts_a_section_into_fields() {
        let message = "From: a@x\r\n\tb\r\nX-Odd : y\r\nSubject:\r\n\r\nbody\r\n";
        assert_eq!(
            names(message),
            (vec!["From", "X-Odd", "Subject"], "body\r\n")
        );
        let headers = Headers::parse(message.as_bytes());
        assert_eq!(headers.value("FROM"), Some(&b" a@x\r\n\tb"[..]));
    }

    #[test]
    fn the_section_ends_at_the_first_line_that_is_no_field() {
        assert_eq!(names("\r\nbody"), (vec![], "body"));
        assert_eq!(names("just text\r\n"), (vec![], "just text\r\n"));
        assert_eq!(
            names("A: b\r\njunk\r\nFrom: x\r\n\r\n"),
            (vec!["A"], "junk\r\nFrom: x\r\n\r\n")
        );
        assert_eq!(
            names(" folded first\r\nA: b\r\n"),
            (vec![], " folded first\r\nA: b\r\n")
        );
        assert_eq!(names("A: b\r\n"), (vec!["A"], ""));
        assert_eq!(names(""), (vec![], ""));
    }

    #[test]
    fn knows_the_author() {
        let author = |message: &str| Headers::parse(message.as_bytes()).author();
        assert_eq!(author("To: a@x\r\n\r\n"), Author::Missing);
        let none = Author::Malformed(None);
        assert_eq!(author("From: a@x\r\nFROM: b@x\r\n\r\n"), none);
        let same = author("From: A <a@x>\r\nFROM: a@X\r\n\r\n");
        assert!(matches!(same, Author::Lenient(it) if it.name.as_deref() == Some("A")));
        let named = Author::Malformed(Some("nobody".into()));
        assert_eq!(author("From: nobody\r\n\r\n"), named);
        let latin = Headers::parse(b"From: J\xf6hn <j@x>\r\n\r\n").author();
        assert!(matches!(latin, Author::Lenient(it) if it.name.as_deref() == Some("J\u{f6}hn")));
        assert!(matches!(author("From: A <a@x>\r\n\r\n"), Author::One(_)));
        assert!(matches!(
            author("from : a@x, b@x\r\n\r\n"),
            Author::Several(Some(_))
        ));
        assert!(matches!(
            author("From: none:;\r\n\r\n"),
            Author::Several(None)
        ));
    }

    proptest! {
        #[test]
        fn fields_and_body_cover_the_message(message in "([A-Z]{1,3} ?: ?[a-z\u{e9}]{0,5}\r\n|\t[a-z]{0,3}\r\n|[a-z ]{0,4}\r\n){0,8}[a-z]{0,3}") {
            let headers = Headers::parse(message.as_bytes());
            let mut at = 0;
            for field in &headers.fields {
                prop_assert_eq!(field.whole.start, at);
                at = field.whole.end;
            }
            prop_assert_eq!(at, headers.end);
            prop_assert!(headers.body == at || &message[at..headers.body] == "\r\n");
        }
    }

    #[test]
    fn a_text_becomes_one_field() {
        assert_eq!(unstructured("mailferry test", 9), "mailferry test");
        assert_eq!(unstructured("Größe", 9), "=?utf-8?B?R3LDtsOfZQ==?=");
        let injected = unstructured("a\r\nBcc: b", 9);
        assert!(!injected.contains("\nBcc"), "{injected}");
    }
}
