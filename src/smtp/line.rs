//! Splits a stream of bytes into command lines of limited length. Only CRLF ends a line. If the configuration
//! admits old devices, a bare LF also ends a line.

use bytes::{Buf, BytesMut};
use memchr::memchr2;

/// The result of reading the next line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// The line is not complete yet.
    Incomplete,
    /// A line without its CRLF.
    Whole(String),
    /// A line that holds a bare CR or LF, a NUL, or bytes that are not UTF-8.
    Illegal,
    /// A line over the limit. All of it was skipped.
    TooLong,
}

/// Reads lines, and remembers whether it is skipping a line that is too long.
#[derive(Debug, Default)]
pub(crate) struct LineReader {
    /// Octets of the current line that were already searched, so that they are not searched again when more
    /// input arrives.
    searched: usize,
    discarding: bool,
    bare_lf: bool,
    ended_bare: bool,
}

/// The end of a line in the input.
struct End {
    /// Octets of the line itself.
    text: usize,
    /// Octets of the line end.
    ending: usize,
}

impl LineReader {
    /// Creates a reader of lines that end in CRLF or, with `bare_lf`, also in a bare LF.
    pub(crate) fn new(bare_lf: bool) -> Self {
        Self {
            bare_lf,
            ..Self::default()
        }
    }

    /// Removes the next line from `input`. `limit` is the maximum length in octets, line end included.
    pub(crate) fn next(&mut self, input: &mut BytesMut, limit: usize) -> Line {
        match self.find_end(input) {
            Some(End { text, ending }) => {
                self.searched = 0;
                self.ended_bare = ending == 1;
                let line = input.split_to(text);
                input.advance(ending);
                if std::mem::take(&mut self.discarding) || text + ending > limit {
                    return Line::TooLong;
                }
                decode(&line)
            }
            None => {
                if input.len() > limit {
                    self.discarding = true;
                }
                if self.discarding {
                    // A CR at the end may be the first half of the line's end.
                    let keep = usize::from(input.last() == Some(&b'\r'));
                    input.advance(input.len() - keep);
                    self.searched = 0;
                }
                Line::Incomplete
            }
        }
    }

    /// Forgets an incomplete line, for example after STARTTLS.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.bare_lf);
    }

    /// True if the last line ended in a bare LF.
    pub(crate) fn ended_bare(&self) -> bool {
        self.ended_bare
    }

    fn find_end(&mut self, input: &[u8]) -> Option<End> {
        let mut at = self.searched;
        while let Some(found) = memchr2(b'\r', b'\n', &input[at..]) {
            let text = at + found;
            match (input[text], input.get(text + 1)) {
                (b'\r', Some(b'\n')) => return Some(End { text, ending: 2 }),
                (b'\r', None) => {
                    self.searched = text;
                    return None;
                }
                (b'\n', _) if self.bare_lf => return Some(End { text, ending: 1 }),
                _ => at = text + 1,
            }
        }
        self.searched = input.len();
        None
    }
}

fn decode(line: &[u8]) -> Line {
    if line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        return Line::Illegal;
    }
    match std::str::from_utf8(line) {
        Ok(text) => Line::Whole(text.to_owned()),
        // Old devices send names in Latin-1, and nothing depends on the names.
        Err(_) if is_hello(line) => Line::Whole(String::from_utf8_lossy(line).into_owned()),
        Err(_) => Line::Illegal,
    }
}

fn is_hello(line: &[u8]) -> bool {
    let verb = line.get(..5).unwrap_or_default();
    verb.eq_ignore_ascii_case(b"HELO ") || verb.eq_ignore_ascii_case(b"EHLO ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(chunks: &[&[u8]], limit: usize) -> Vec<Line> {
        read_by(LineReader::default(), chunks, limit)
    }

    fn read_by(mut reader: LineReader, chunks: &[&[u8]], limit: usize) -> Vec<Line> {
        let mut input = BytesMut::new();
        let mut lines = Vec::new();
        for chunk in chunks {
            input.extend_from_slice(chunk);
            loop {
                match reader.next(&mut input, limit) {
                    Line::Incomplete => break,
                    line => lines.push(line),
                }
            }
        }
        lines
    }

    #[test]
    fn only_crlf_ends_a_line() {
        let whole = |text: &str| Line::Whole(text.to_owned());
        assert_eq!(
            read(&[b"NOOP\r\nQUIT\r\n"], 512),
            [whole("NOOP"), whole("QUIT")]
        );
        assert_eq!(read(&[b"NO", b"OP\r", b"\n"], 512), [whole("NOOP")]);
        assert_eq!(read(&[b"NOOP\nQUIT\r\n"], 512), [Line::Illegal]);
        assert_eq!(read(&[b"NOOP\rQUIT\r\n"], 512), [Line::Illegal]);
        assert_eq!(read(&[b"NOOP\r\r\n"], 512), [Line::Illegal]);
        assert_eq!(read(&[b"NOOP\n"], 512), []);
        assert_eq!(read(&[b"caf\xe9\r\n"], 512), [Line::Illegal]);
        assert_eq!(
            read(&[b"helo caf\xe9\r\n"], 512),
            [whole("helo caf\u{fffd}")]
        );
    }

    #[test]
    fn a_bare_lf_ends_a_line_only_where_it_may() {
        let whole = |text: &str| Line::Whole(text.to_owned());
        let read = |chunks: &[&[u8]]| read_by(LineReader::new(true), chunks, 512);
        assert_eq!(
            read(&[b"NOOP\nRS", b"ET\r", b"\nQUIT\n"]),
            [whole("NOOP"), whole("RSET"), whole("QUIT")]
        );
        assert_eq!(read(&[b"NO\rOP\n"]), [Line::Illegal]);
    }

    #[test]
    fn a_long_line_is_passed_over_once_and_keeps_no_memory() {
        let long = [b'x'; 2_000];
        assert_eq!(
            read(&[&long, &long, b"\r", b"\nNOOP\r\n"], 1_000),
            [Line::TooLong, Line::Whole("NOOP".into())]
        );
        let mut reader = LineReader::default();
        let mut input = BytesMut::from(&long[..]);
        assert_eq!(reader.next(&mut input, 1_000), Line::Incomplete);
        assert!(input.is_empty());
    }

    proptest! {
        #[test]
        fn how_bytes_arrive_changes_nothing(bytes in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'a')], 0..60), cut in 1usize..7) {
            let at_once = read(&[&bytes], 12);
            let chunks: Vec<&[u8]> = bytes.chunks(cut).collect();
            prop_assert_eq!(read(&chunks, 12), at_once);
        }
    }
}
