//! Reads a server's replies strictly by RFC 5321 §4.2.

use bytes::{Buf, BytesMut};
use memchr::memchr;

use crate::message::text_of;
use crate::transport::answer::Answer;

/// The maximum size of one reply with all its lines, in octets. A peer that sends more is not an SMTP server.
const REPLY: usize = 64 * 1024;

/// The maximum size of a reply's text in the log, the queue and reports, in octets; longer text is cut. RFC
/// 5321 §4.5.3.1.5 allows 512 for a line; Exchange's list of extensions and its longest texts fit.
const TEXT: usize = 4_096;

/// An error in the server's reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// The lines are not an SMTP reply.
    #[error("the server's reply is not SMTP")]
    Malformed,
    /// The lines of one reply have different codes (RFC 5321 §4.2.1 requires one code).
    #[error("the lines of the server's reply have different codes")]
    MixedCodes,
    /// The reply is too long.
    #[error("the server's reply is longer than {REPLY} octets")]
    TooLong,
}

/// Removes the next complete reply from `input`. Returns `None` while the reply is incomplete.
pub fn take(input: &mut BytesMut) -> Result<Option<Answer>, ReplyError> {
    let mut end = 0;
    let mut code = None;
    loop {
        let Some(length) = memchr(b'\n', &input[end..]) else {
            return if input.len() > REPLY {
                Err(ReplyError::TooLong)
            } else {
                Ok(None)
            };
        };
        let line = &input[end..end + length];
        end += length + 1;
        // 1yz would need a mechanism that SMTP does not have, and no code begins with 6 to 9 (§4.2.1).
        let is_code = matches!(line, [b'2'..=b'5', tens, ones, ..] if tens.is_ascii_digit() && ones.is_ascii_digit());
        if !is_code || end > REPLY {
            return Err(ReplyError::Malformed);
        }
        let its_code: [u8; 3] = [line[0], line[1], line[2]];
        if *code.get_or_insert(its_code) != its_code {
            return Err(ReplyError::MixedCodes);
        }
        if line.get(3) != Some(&b'-') {
            break;
        }
    }
    let reply = parse(&input[..end]);
    input.advance(end);
    Ok(Some(reply))
}

/// Parses lines that all begin with a code. The enhanced code (RFC 2034 §3) comes first in the text of each
/// line.
fn parse(lines: &[u8]) -> Answer {
    let text = harmless(&text_of(lines).0);
    let code = text[..3].parse().unwrap_or_default();
    let texts: Vec<&str> = text
        .lines()
        .map(|line| line.get(4..).unwrap_or_default().trim_end())
        .collect();
    let enhanced = texts
        .last()
        .and_then(|last| enhanced(last, code))
        .unwrap_or_default();
    let stripped: Vec<&str> = texts
        .iter()
        .map(|line| match line.strip_prefix(enhanced) {
            Some(rest) if !enhanced.is_empty() => rest.trim_start(),
            _ => line,
        })
        .collect();
    let mut text = stripped.join("\n");
    if text.len() > TEXT {
        text.truncate(text.floor_char_boundary(TEXT));
        text.push_str(" [...]");
    }
    Answer::new(code, enhanced.to_owned(), text)
}

/// Replaces characters that could control a terminal or reorder a line of a log or report: control
/// characters, and format characters that set the text direction. Each becomes a space.
fn harmless(text: &str) -> String {
    let is_direction = |c: char| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_harmful = |c: char| c != '\n' && c.is_control() || is_direction(c);
    text.chars()
        .map(|c| if is_harmful(c) { ' ' } else { c })
        .collect()
}

/// Returns the enhanced code `x.y.z` that `text` begins with, if `x` is the first digit of the reply's code
/// (RFC 3463 §2). Exchange uses up to three digits at the end, as in 5.7.139.
fn enhanced(text: &str, code: u16) -> Option<&str> {
    let word = text.split(' ').next()?;
    let mut parts = word.split('.');
    let class = parts.next()?;
    let number =
        |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    let is_code = class.len() == 1
        && class.parse() == Ok(code / 100)
        && number(parts.next()?)
        && number(parts.next()?)
        && parts.next().is_none();
    is_code.then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(text: &str) -> Answer {
        let mut input = BytesMut::from(text.as_bytes());
        let reply = take(&mut input).unwrap().unwrap();
        assert!(input.is_empty());
        reply
    }

    #[test]
    fn keeps_the_servers_words() {
        assert_eq!(
            one("535 5.7.139 Authentication unsuccessful, x\r\n"),
            Answer::new(535, "5.7.139", "Authentication unsuccessful, x")
        );
        assert_eq!(
            one("250-2.1.0 a\r\n250 2.1.0 b\r\n"),
            Answer::new(250, "2.1.0", "a\nb")
        );
        assert_eq!(
            one("250-mx Hello [1.2.3.4]\r\n250 SIZE 5\r\n"),
            Answer::new(250, "", "mx Hello [1.2.3.4]\nSIZE 5")
        );
        assert_eq!(one("354\r\n"), Answer::new(354, "", ""));
        assert_eq!(one("334 \r\n"), Answer::new(334, "", ""));
        assert_eq!(one("421 4.3.2 busy\n"), Answer::new(421, "4.3.2", "busy"));
        assert_eq!(one("550 4.7.1 odd\r\n"), Answer::new(550, "", "4.7.1 odd"));
    }

    #[test]
    fn waits_for_the_whole_and_refuses_what_is_none() {
        let mut input = BytesMut::from(&b"250-a\r\n250 b"[..]);
        assert_eq!(take(&mut input), Ok(None));
        input.extend_from_slice(b"\r\n354 go\r\n");
        assert_eq!(take(&mut input).unwrap().unwrap().code, 250);
        assert_eq!(take(&mut input).unwrap().unwrap().code, 354);
        assert_eq!(
            take(&mut BytesMut::from(&b"HTTP/1.1 200\r\n"[..])),
            Err(ReplyError::Malformed)
        );
        assert_eq!(
            take(&mut BytesMut::from(&vec![b'2'; REPLY + 1][..])),
            Err(ReplyError::TooLong)
        );
        for code in ["150", "099", "650"] {
            let line = format!("{code} x\r\n");
            assert_eq!(
                take(&mut BytesMut::from(line.as_bytes())),
                Err(ReplyError::Malformed)
            );
        }
        assert_eq!(
            take(&mut BytesMut::from(&b"220-a\r\n554 b\r\n"[..])),
            Err(ReplyError::MixedCodes)
        );
    }

    #[test]
    fn a_reply_cannot_act_on_a_terminal() {
        let reply = one("550 5.1.1 a\u{1b}[31m\u{7}b\0\rc\u{9b}d\u{202e}e\u{2066}f\r\n");
        assert_eq!(reply.text, "a [31m b  c d e f");
    }

    #[test]
    fn text_that_is_not_utf_8_can_be_read_and_a_long_one_is_cut() {
        let mut input = BytesMut::from(&b"550-First line\r\n550 Empf\xe4nger unbekannt\r\n"[..]);
        let reply = take(&mut input).unwrap().unwrap();
        assert_eq!(reply.text, "First line\nEmpf\u{e4}nger unbekannt");
        let long = one(&format!("550 5.1.1 {}\r\n", "\u{e4}".repeat(9_000)));
        assert_eq!(long.text.len(), TEXT + " [...]".len());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = take(&mut BytesMut::from(&bytes[..]));
        }

        #[test]
        fn reads_what_our_own_listener_writes(code in 200u16..600, text in "[ -~]{0,600}") {
            let mut out = Vec::new();
            crate::smtp::Reply::new(code, "", text.trim().to_owned()).write(&mut out);
            prop_assert_eq!(take(&mut BytesMut::from(&out[..])).unwrap().unwrap().code, code);
        }
    }
}
