//! Makes mail addresses unrecognisable wherever they are in a log line: in fields, in an upstream's
//! reply, in a reason. The domain stays, so that the line is still useful.

use std::io::{self, Write};

/// The text that replaces the hidden part.
const HIDDEN: &str = "***";

/// Masks the text that is written, and passes it on. Each write consists of whole lines.
pub(super) struct Masking<W>(pub W);

impl<W: Write> Write for Masking<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let masked = mask(&String::from_utf8_lossy(line));
        self.0.write_all(masked.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Masks all mail addresses in a text: `jane@example.com` becomes `j***@example.com`.
pub fn mask(text: &str) -> String {
    let mut masked = String::with_capacity(text.len() + 8);
    let mut rest = text;
    while let Some(at) = rest.find('@') {
        let (before, after) = rest.split_at(at);
        masked.push_str(&hidden(before));
        masked.push('@');
        rest = &after[1..];
    }
    masked.push_str(rest);
    masked
}

/// Hides the local part at the end of `before`, the text before an address's `@`.
fn hidden(before: &str) -> String {
    if let Some((outside, quote)) = before_quoted(before) {
        return format!("{outside}{quote}{HIDDEN}{quote}");
    }
    let local = before.trim_end_matches(is_local).len();
    match before[local..].chars().next() {
        Some(first) => format!("{}{first}{HIDDEN}", &before[..local]),
        None => before.to_owned(),
    }
}

/// If `before` ends with a quoted local part, returns the text before the local part, and the quote as it is
/// written. If the whole value is quoted too, as in JSON, the quote is written with a backslash before it. A
/// quote inside the local part has more backslashes.
fn before_quoted(before: &str) -> Option<(&str, &str)> {
    let close = before.len().checked_sub(1)?;
    let mut quotes = before.rmatch_indices('"').map(|(at, _)| at);
    if quotes.next()? != close {
        return None;
    }
    let escaped = backslashes(before, close) % 2;
    // The quotes around a whole value are not those of a local part.
    let open = quotes.find(|at| backslashes(before, *at) <= escaped)?;
    let inside = &before[open + 1..close];
    if backslashes(before, open) != escaped || !inside.contains(is_local) {
        return None;
    }
    let begin = open - escaped;
    Some((&before[..begin], &before[begin..=open]))
}

/// Counts the backslashes directly before the position `at`.
fn backslashes(text: &str, at: usize) -> usize {
    let before = text[..at].trim_end_matches('\\');
    at - before.len()
}

/// True for a character that a local part may contain without quotes (RFC 5322 §3.2.3, RFC 6532). The
/// exception is `=`, which precedes values in logs.
fn is_local(c: char) -> bool {
    c.is_alphanumeric() || "!#$%&'*+-/?^_`{|}~.".contains(c) || !c.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hides_local_parts_wherever_they_stand() {
        for (text, masked) in [
            (
                "from=jane@example.com to=a@b.c,bob.x+y@d.e",
                "from=j***@example.com to=a***@b.c,b***@d.e",
            ),
            (
                "reply=550 5.1.10 <bob@b.c>: unknown",
                "reply=550 5.1.10 <b***@b.c>: unknown",
            ),
            (
                r#"{"from":"jane@example.com","size":5}"#,
                r#"{"from":"j***@example.com","size":5}"#,
            ),
            (
                r#"from="jane doe"@example.com"#,
                r#"from="***"@example.com"#,
            ),
            (
                r#"to="secret name\""@example.com x"#,
                r#"to="***"@example.com x"#,
            ),
            (
                r#"{"from":"b@c.d","to":"\"jane doe\"@example.com"}"#,
                r#"{"from":"b***@c.d","to":"\"***\"@example.com"}"#,
            ),
            (
                r#"{"to":"\"a \\\"b\\\" c\"@example.com"}"#,
                r#"{"to":"\"***\"@example.com"}"#,
            ),
            (r#"{"to":"@example.com"}"#, r#"{"to":"@example.com"}"#),
            ("jörg@example.com", "j***@example.com"),
            ("nothing here", "nothing here"),
        ] {
            assert_eq!(mask(text), masked);
        }
    }

    proptest! {
        #[test]
        fn no_local_part_is_left(local in "[a-z][a-z.+-]{1,20}", around in "[ <>=,]") {
            // The domain is in capitals, so that it cannot contain the local part.
            let text = format!("{around}{local}@EXAMPLE.COM{around}");
            prop_assert!(!mask(&text).contains(&local));
        }

        #[test]
        fn never_panics(text in "\\PC{0,60}") {
            mask(&text);
        }
    }
}
