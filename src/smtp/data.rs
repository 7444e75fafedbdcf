//! The content of DATA as a stream: undoes dot-stuffing, makes line ends CRLF, and finds the end.
//!
//! Only `<CRLF>.<CRLF>` ends a message (RFC 5321 §4.1.1.4). A bare CR or LF is not a line end, whatever
//! surrounds it (§2.3.8). So a message ends at the same place here and at the upstream, whatever bare CRs and
//! LFs it contains. The output has only CRLF line ends. Extra CRs before a CRLF are part of the same line
//! end: they appear when text with CRLF is converted to CRLF again.
//!
//! Some devices end their commands and the lines of their messages in a bare LF. If the configuration admits
//! such devices, LF counts as CRLF for them.

use memchr::memchr2;

/// The decoder's position between two bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DecoderState {
    /// After CRLF, or at the very start.
    LineStart,
    /// After a dot at the start of the line.
    Dot,
    /// After a dot and a CR.
    DotCr,
    /// Within a line.
    Text,
    /// Within a line, after CR.
    Cr,
}

/// Decodes one message.
#[derive(Debug)]
pub struct Decoder {
    place: DecoderState,
    lf_ends: bool,
    bare_newlines: u64,
    /// The number of CRs before the last CR.
    more_crs: usize,
    /// True if the input so far ends in LF . LF, which does not end a message.
    ends_in_lf_dot_lf: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(false)
    }
}

impl Decoder {
    /// Creates a decoder at the start of a message. With `lf_ends`, LF alone ends a line as well.
    pub fn new(lf_ends: bool) -> Self {
        Self {
            place: DecoderState::LineStart,
            lf_ends,
            bare_newlines: 0,
            more_crs: 0,
            ends_in_lf_dot_lf: false,
        }
    }

    /// Decodes `input` into `out`. Returns the number of octets used, and true if the message ended after
    /// them. All input is used unless the message ended.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, bool) {
        let mut at = 0;
        self.ends_in_lf_dot_lf &= input.is_empty();
        while at < input.len() {
            let byte = input[at];
            match self.place {
                DecoderState::LineStart if byte == b'.' => {
                    self.place = DecoderState::Dot;
                    at += 1;
                }
                DecoderState::LineStart => self.place = DecoderState::Text,
                DecoderState::Dot if byte == b'\r' => {
                    self.place = DecoderState::DotCr;
                    at += 1;
                }
                DecoderState::Dot if byte == b'\n' && self.lf_ends => {
                    self.place = DecoderState::LineStart;
                    return (at + 1, true);
                }
                // RFC 5321 §4.5.2: a leading dot with other characters after it is deleted.
                DecoderState::Dot => self.place = DecoderState::Text,
                DecoderState::DotCr if byte == b'\n' => {
                    self.place = DecoderState::LineStart;
                    return (at + 1, true);
                }
                // The dot is dropped, and the CR may be the first of several before LF.
                DecoderState::DotCr => self.place = DecoderState::Cr,
                DecoderState::Cr if byte == b'\n' => {
                    out.extend_from_slice(b"\r\n");
                    self.bare_newlines += std::mem::take(&mut self.more_crs).min(1) as u64;
                    self.place = DecoderState::LineStart;
                    at += 1;
                }
                DecoderState::Cr if byte == b'\r' => {
                    self.more_crs += 1;
                    at += 1;
                }
                DecoderState::Cr => {
                    for _ in 0..=std::mem::take(&mut self.more_crs) {
                        self.bare(out);
                    }
                }
                DecoderState::Text => at = self.text(input, at, out),
            }
        }
        (at, false)
    }

    /// True if the input so far ends in LF . LF, which does not end a message.
    pub fn ends_in_lf_dot_lf(&self) -> bool {
        self.ends_in_lf_dot_lf
    }

    /// Returns the number of bare CRs and LFs that were found and converted to CRLF.
    pub fn bare_newlines(&self) -> u64 {
        self.bare_newlines
    }

    /// Copies text up to the next CR or LF that needs a closer look. Returns the position after that CR or
    /// LF.
    fn text(&mut self, input: &[u8], from: usize, out: &mut Vec<u8>) -> usize {
        let mut at = from;
        while let Some(found) = memchr2(b'\r', b'\n', &input[at..]) {
            at += found;
            let plain_end = input[at] == b'\r' && input.get(at + 1) == Some(&b'\n');
            if plain_end && input.get(at + 2).is_some_and(|&next| next != b'.') {
                at += 2;
                continue;
            }
            out.extend_from_slice(&input[from..at]);
            match input[at] {
                b'\n' if self.lf_ends => {
                    out.extend_from_slice(b"\r\n");
                    self.place = DecoderState::LineStart;
                }
                b'\n' => {
                    self.ends_in_lf_dot_lf = at + 1 == input.len() && out.ends_with(b"\r\n.");
                    self.bare(out);
                }
                _ => self.place = DecoderState::Cr,
            }
            return at + 1;
        }
        out.extend_from_slice(&input[from..]);
        input.len()
    }

    fn bare(&mut self, out: &mut Vec<u8>) {
        self.bare_newlines += 1;
        out.extend_from_slice(b"\r\n");
        self.place = DecoderState::Text;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns the decoded message, the number of octets used and the number of bare newlines. Returns `None`
    /// if the message did not end.
    fn decode(chunks: &[&[u8]]) -> Option<(String, usize, u64)> {
        decode_by(Decoder::default(), chunks)
    }

    fn decode_by(mut decoder: Decoder, chunks: &[&[u8]]) -> Option<(String, usize, u64)> {
        let mut out = Vec::new();
        let mut used = 0;
        for chunk in chunks {
            let (taken, ended) = decoder.decode(chunk, &mut out);
            used += taken;
            if ended {
                return Some((
                    String::from_utf8_lossy(&out).into_owned(),
                    used,
                    decoder.bare_newlines(),
                ));
            }
        }
        None
    }

    #[test]
    fn undoes_dots_and_stops_at_the_end() {
        let (text, used, bare) = decode(&[b"a\r\n..b\r\n.c\r\n\r\n.\r\nQUIT\r\n"]).unwrap();
        assert_eq!((text.as_str(), used, bare), ("a\r\n.b\r\nc\r\n\r\n", 17, 0));
        assert_eq!(decode(&[b".\r\n"]).unwrap().0, "");
    }

    #[test]
    fn no_smuggling_sequence_ends_a_message() {
        for sequence in [
            "\n.\n",
            "\n.\r\n",
            "\r\n.\n",
            "\r.\r",
            "\r\n.\r",
            "\r.\r\n",
            "\n.\r",
            "\r.\n",
            "\n\n.\r\n",
            "\r\n\0.\r\n",
            "\r\n.\0\r\n",
            "\r\n.\r\r\n",
            "\r\n.\n\r\n",
            "\r\r\n.\r",
            "\r\n.\r\0\n",
        ] {
            let message = format!("a{sequence}MAIL FROM:<x@y>");
            assert_eq!(decode(&[message.as_bytes()]), None, "{sequence:?}");
        }
    }

    #[test]
    fn bare_newlines_become_crlf_and_are_counted() {
        let (text, _, bare) = decode(&[b"a\nb\rc\r\n.\n.d\r\n.\r\n"]).unwrap();
        assert_eq!((text.as_str(), bare), ("a\r\nb\r\nc\r\n\r\n.d\r\n", 3));
    }

    #[test]
    fn a_device_that_knows_only_lf_is_understood() {
        let decode = |text: &[u8]| decode_by(Decoder::new(true), &[text]);
        let (text, used, bare) = decode(b"a\n..b\r\n\n.c\n.\nQUIT\n").unwrap();
        assert_eq!((text.as_str(), used, bare), ("a\r\n.b\r\n\r\nc\r\n", 13, 0));
        assert_eq!(decode(b"a\r.\n"), None);
    }

    proptest! {
        #[test]
        fn how_bytes_arrive_changes_nothing(
            bytes in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'a')], 0..80),
            cut in 1usize..9,
            lf_ends: bool,
        ) {
            let chunks: Vec<&[u8]> = bytes.chunks(cut).collect();
            let decode = |chunks: &[&[u8]]| decode_by(Decoder::new(lf_ends), chunks);
            prop_assert_eq!(decode(&chunks), decode(&[&bytes]));
        }

        /// smtp-proto's receiver ends a message at the same place as our decoder, with two differences:
        /// smtp-proto finds no end at the very start, and it accepts a dot before CR CR LF as the end.
        #[test]
        fn ends_where_another_receiver_ends(
            bytes in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'a')], 0..60),
        ) {
            use smtp_proto::request::receiver::DataReceiver;
            let mut bytes = bytes;
            bytes.dedup_by(|next, last| (*last, *next) == (b'\r', b'\r'));
            let sent = [b"x\r\n".as_slice(), &bytes].concat();
            let mut rest = sent.iter();
            let theirs = DataReceiver::new().ingest(&mut rest, &mut Vec::new());
            let (used, ended) = Decoder::default().decode(&sent, &mut Vec::new());
            prop_assert_eq!(ended, theirs);
            if ended {
                prop_assert_eq!(used, sent.len() - rest.len());
            }
        }

        #[test]
        fn what_comes_out_has_no_bare_newline(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut out = Vec::new();
            Decoder::default().decode(&bytes, &mut out);
            let text = String::from_utf8_lossy(&out).replace("\r\n", "");
            prop_assert!(!text.contains(['\r', '\n']));
        }
    }
}
