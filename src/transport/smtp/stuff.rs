//! Dot-stuffing (RFC 5321 §4.5.2) while content is streamed: doubles dots at the start of lines.

use memchr::memchr;

/// Remembers, between pieces of content, whether a line has just begun.
#[derive(Debug)]
pub(crate) struct Stuffer {
    after: StufferState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StufferState {
    LineStart,
    Cr,
    Text,
}

impl Default for Stuffer {
    fn default() -> Self {
        Self {
            after: StufferState::LineStart,
        }
    }
}

impl Stuffer {
    /// Appends a piece of content to `out`. All its line ends must be CRLF.
    pub(crate) fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let mut rest = piece;
        while let Some(&first) = rest.first() {
            match (self.after, first) {
                (StufferState::LineStart, b'.') => {
                    out.extend_from_slice(b"..");
                    rest = &rest[1..];
                    self.after = StufferState::Text;
                }
                (StufferState::Cr, b'\n') => {
                    out.push(b'\n');
                    rest = &rest[1..];
                    self.after = StufferState::LineStart;
                }
                _ => rest = self.lines(rest, out),
            }
        }
    }

    /// Copies `text` up to the next line that begins with a dot, or to the end; returns the part that is not
    /// copied.
    fn lines<'a>(&mut self, text: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let mut at = 0;
        while let Some(found) = memchr(b'\n', &text[at..]) {
            at += found + 1;
            if at >= 2 && text[at - 2] == b'\r' && text.get(at) == Some(&b'.') {
                out.extend_from_slice(&text[..at]);
                self.after = StufferState::LineStart;
                return &text[at..];
            }
        }
        out.extend_from_slice(text);
        self.after = match text {
            [.., b'\r', b'\n'] => StufferState::LineStart,
            [.., b'\r'] => StufferState::Cr,
            _ => StufferState::Text,
        };
        &[]
    }

    /// Appends the end of the message. An unfinished line is ended first.
    pub(crate) fn end(&mut self, out: &mut Vec<u8>) {
        if self.after != StufferState::LineStart {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::data::Decoder;
    use proptest::prelude::*;

    fn stuffed(pieces: &[&[u8]]) -> Vec<u8> {
        let (mut stuffer, mut out) = (Stuffer::default(), Vec::new());
        pieces
            .iter()
            .for_each(|piece| stuffer.push(piece, &mut out));
        stuffer.end(&mut out);
        out
    }

    #[test]
    fn doubles_the_dots_that_count() {
        assert_eq!(
            stuffed(&[b".a\r\n.\r\n..\r\nb.\r\n"]),
            b"..a\r\n..\r\n...\r\nb.\r\n.\r\n"
        );
        assert_eq!(stuffed(&[b"a"]), b"a\r\n.\r\n");
        assert_eq!(stuffed(&[]), b".\r\n");
        assert_eq!(stuffed(&[b"a\r", b"\n", b".b\r\n"]), b"a\r\n..b\r\n.\r\n");
    }

    proptest! {
        /// Whatever an app writes, an independent receiver reads exactly one message, and nothing after it.
        #[test]
        fn what_came_in_leaves_as_one_message(
            bytes in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(0), Just(b'a')], 0..80),
            lf_ends: bool,
        ) {
            use smtp_proto::request::receiver::DataReceiver;
            let mut content = b"x\r\n".to_vec();
            Decoder::new(lf_ends).decode(&bytes, &mut content);
            let sent = stuffed(&[&content]);
            let (mut rest, mut read) = (sent.iter(), Vec::new());
            prop_assert!(DataReceiver::new().ingest(&mut rest, &mut read));
            prop_assert_eq!(rest.len(), 0);
            let bare = String::from_utf8_lossy(&sent).replace("\r\n", "");
            prop_assert!(!bare.contains(['\r', '\n']));
        }

        /// A receiver that follows the RFC reads back the same content, and sees no end of the message before
        /// the real one.
        #[test]
        fn a_receiver_reads_back_what_was_sent(
            lines in prop::collection::vec("[.a]{0,4}", 0..12),
            cut in 1usize..6,
        ) {
            let content = lines.iter().map(|line| format!("{line}\r\n")).collect::<String>();
            let pieces: Vec<&[u8]> = content.as_bytes().chunks(cut).collect();
            let sent = stuffed(&pieces);
            let mut read = Vec::new();
            prop_assert_eq!(Decoder::default().decode(&sent, &mut read), (sent.len(), true));
            prop_assert_eq!(read, content.as_bytes());
        }
    }
}
