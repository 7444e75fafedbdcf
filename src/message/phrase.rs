//! Decodes display names in headers (RFC 5322 §3.2.5): words, quoted strings, and the encoded words of RFC
//! 2047. Apps do not always follow the standard, so this module also accepts characters that are split over
//! two encoded words, base64 without padding, and encoded words in quotes.
//!
//! mail-parser decodes the character sets.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use mail_parser::decoders::charsets::map::charset_decoder;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A display name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Phrase {
    /// The decoded name, or the original text if it cannot be decoded.
    pub(super) text: String,
    /// True if every encoded word in the name could be decoded.
    pub(super) is_readable: bool,
}

/// Converts received octets to text. The second value is true if the octets are UTF-8 (RFC 6532 admits
/// nothing else in a header). Otherwise the octets are read as windows-1252, which old apps and servers
/// write.
pub fn text_of(value: &[u8]) -> (Cow<'_, str>, bool) {
    match std::str::from_utf8(value) {
        Ok(text) => (text.into(), true),
        Err(_) => {
            let latin = charset_decoder(b"windows-1252");
            let text = latin.map(|decode| decode(value));
            let text = text.unwrap_or_else(|| String::from_utf8_lossy(value).into_owned());
            (text.into(), false)
        }
    }
}

/// Decodes a phrase. Returns `None` if the phrase is empty.
pub(super) fn decode(phrase: &str) -> Option<Phrase> {
    let mut joined = Joined::default();
    let mut rest = phrase.trim();
    if rest.is_empty() {
        return None;
    }
    while let Some(c) = rest.chars().next() {
        if c.is_whitespace() {
            rest = rest.trim_start();
            joined.space();
        } else if let Some(after) = rest.strip_prefix('"') {
            let (inside, after) = quoted(after);
            joined.text_or_words(&inside);
            rest = after;
        } else {
            let end = rest.find(|c: char| c.is_whitespace() || c == '"');
            let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
            joined.text_or_words(word);
            rest = after;
        }
    }
    Some(joined.finish(phrase))
}

/// Decodes the encoded words anywhere in a text, and changes nothing else. Returns `None` if the text has
/// no encoded words, or if one cannot be decoded.
pub(super) fn decode_words(text: &str) -> Option<String> {
    let mut joined = Joined::default();
    let mut rest = text;
    while !rest.is_empty() {
        let begin = rest.find("=?").unwrap_or(rest.len());
        let (before, at) = rest.split_at(begin);
        if before.trim().is_empty() && joined.run.is_some() && !at.is_empty() {
            joined.space();
        } else {
            joined.verbatim(before);
        }
        match Word::at_start(at) {
            Some((word, after)) => {
                joined.word(word);
                rest = after;
            }
            None => {
                let (mark, after) = at.split_at(at.len().min(2));
                joined.verbatim(mark);
                rest = after;
            }
        }
    }
    let had_words = joined.had_words;
    let whole = joined.finish(text);
    (had_words && whole.is_readable).then_some(whole.text)
}

/// Returns the content of a quoted string, unescaped, and the text after the string. `text` starts after the
/// opening quote. An unterminated string extends to the end of the text.
fn quoted(text: &str) -> (String, &str) {
    let mut inside = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (inside, &text[at + 1..]),
            '\\' => inside.extend(chars.next().map(|(_, escaped)| escaped)),
            c => inside.push(c),
        }
    }
    (inside, "")
}

/// An encoded word: `=?charset?encoding?text?=`.
struct Word<'a> {
    charset: &'a str,
    /// The decoded octets; `None` if the text is damaged.
    octets: Option<Vec<u8>>,
}

impl<'a> Word<'a> {
    /// Returns the encoded word at the start of a text, and the text after that word.
    fn at_start(text: &'a str) -> Option<(Self, &'a str)> {
        let (charset, rest) = text.strip_prefix("=?")?.split_once('?')?;
        let (encoding, rest) = rest.split_once('?')?;
        let (encoded, rest) = rest.split_once("?=")?;
        let is_token = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        if !is_token(charset) || encoded.contains('?') {
            return None;
        }
        let octets = match encoding {
            "B" | "b" => BASE64.decode(encoded.trim()).ok(),
            "Q" | "q" => Some(q_decoded(encoded)),
            _ => return None,
        };
        // RFC 2231 §5: a language may follow the character set.
        let charset = charset.split('*').next().unwrap_or(charset);
        Some((Self { charset, octets }, rest))
    }
}

/// Decodes the Q encoding (RFC 2047 §4.2).
fn q_decoded(encoded: &str) -> Vec<u8> {
    let mut octets = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let octet = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (first, octet) {
            (b'=', Some(octet)) => {
                octets.push(octet);
                rest = &after[2..];
                continue;
            }
            (b'_', _) => octets.push(b' '),
            (other, _) => octets.push(*other),
        }
        rest = after;
    }
    octets
}

/// Decodes octets of one character set to text. Returns `None` if the set is unknown or the octets are not
/// valid in it.
fn in_charset(charset: &str, octets: &[u8]) -> Option<String> {
    if charset.eq_ignore_ascii_case("utf-8") {
        return String::from_utf8(octets.to_vec()).ok();
    }
    let text = charset_decoder(charset.as_bytes())?(octets);
    (!text.contains(char::REPLACEMENT_CHARACTER)).then_some(text)
}

/// The text that has been read so far.
#[derive(Default)]
struct Joined {
    text: String,
    /// The octets of adjacent encoded words in the same character set. They are joined because a character
    /// may be split between two words.
    run: Option<(String, Vec<u8>)>,
    has_space: bool,
    had_words: bool,
    is_unreadable: bool,
}

impl Joined {
    fn space(&mut self) {
        self.has_space = true;
    }

    /// Adds a word or the text inside quotes; either may contain encoded words.
    fn text_or_words(&mut self, text: &str) {
        let mut rest = text;
        while let Some(begin) = rest.find("=?") {
            let (before, at) = rest.split_at(begin);
            let Some((word, after)) = Word::at_start(at) else {
                break;
            };
            if before.trim().is_empty() {
                self.has_space |= !before.is_empty();
            } else {
                self.plain(before);
            }
            self.word(word);
            rest = after;
        }
        if !rest.is_empty() {
            self.plain(rest);
        }
    }

    fn plain(&mut self, text: &str) {
        self.flush();
        if std::mem::take(&mut self.has_space) && !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(text);
    }

    fn verbatim(&mut self, text: &str) {
        if !text.is_empty() {
            self.flush();
            self.has_space = false;
            self.text.push_str(text);
        }
    }

    /// Adds an encoded word. White space between encoded words is dropped (RFC 2047 §6.2).
    fn word(&mut self, word: Word) {
        self.had_words = true;
        let Some(octets) = word.octets else {
            self.is_unreadable = true;
            return;
        };
        let has_space = std::mem::take(&mut self.has_space);
        match &mut self.run {
            Some((charset, run)) if charset.eq_ignore_ascii_case(word.charset) => {
                run.extend(octets);
                return;
            }
            Some(_) => self.flush(),
            None if has_space && !self.text.is_empty() => self.text.push(' '),
            None => {}
        }
        self.run = Some((word.charset.to_owned(), octets));
    }

    fn flush(&mut self) {
        let Some((charset, octets)) = self.run.take() else {
            return;
        };
        match in_charset(&charset, &octets) {
            Some(text) => self.text.push_str(&text),
            None => self.is_unreadable = true,
        }
    }

    fn finish(mut self, original: &str) -> Phrase {
        self.flush();
        let is_readable = !self.is_unreadable;
        let text = if is_readable {
            self.text
        } else {
            original.trim().to_owned()
        };
        Phrase { text, is_readable }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(phrase: &str) -> String {
        let read = decode(phrase).unwrap();
        assert!(read.is_readable, "{phrase}");
        read.text
    }

    #[test]
    fn names_of_all_the_world_are_read() {
        for (phrase, name) in [
            ("=?gb2312?B?suLK1A==?=", "测试"),
            ("=?iso-2022-jp?B?GyRCJUYlOSVIGyhC?=", "テスト"),
            ("=?shift_jis?B?g2WDWINn?=", "テスト"),
            ("=?euc-jp?B?pcaluaXI?=", "テスト"),
            ("=?euc-kr?B?x9GxuQ==?=", "한국"),
            ("=?big5?B?tPq41Q==?=", "測試"),
            ("=?koi8-r?B?9MXT1A==?=", "Тест"),
            ("=?iso-8859-1?Q?J=F6hn?=", "Jöhn"),
            ("=?utf-8*de?q?J=C3=B6hn?=", "Jöhn"),
            ("=?utf-8?B?SsO2aG4?=", "Jöhn"),
        ] {
            assert_eq!(read(phrase), name, "{phrase}");
        }
    }

    #[test]
    fn words_that_belong_together_are_joined() {
        assert_eq!(read("=?utf-8?B?SsM=?=\r\n =?utf-8?B?tmhu?="), "Jöhn");
        assert_eq!(read("=?utf-8?q?a?= =?utf-8?q?b?="), "ab");
        assert_eq!(read("=?utf-8?q?a?= b =?utf-8?q?c?="), "a b c");
        assert_eq!(
            read("=?utf-8?q?J=C3=B6hn?= =?iso-8859-1?q?_=D6l?="),
            "Jöhn Öl"
        );
        assert_eq!(read("\"=?utf-8?q?J=C3=B6hn?=\""), "Jöhn");
        assert_eq!(read("John \"JD\" Doe"), "John JD Doe");
        assert_eq!(read("\"John \\\"JD\\\" Doe\""), "John \"JD\" Doe");
        assert_eq!(read("John\r\n\t Doe"), "John Doe");
    }

    #[test]
    fn what_cannot_be_read_stays_as_it_came() {
        for phrase in [
            "=?x-unknown?B?suLK1A==?=",
            "=?utf-8?B?/w==?=",
            "=?utf-8?B?!!!?=",
            "A =?gb2312?B?/w==?= B",
        ] {
            let read = decode(phrase).unwrap();
            assert_eq!((read.text.as_str(), read.is_readable), (phrase, false));
        }
        assert_eq!(read("a =?b"), "a =?b");
        assert_eq!(decode("  "), None);
    }

    #[test]
    fn words_are_undone_within_a_text() {
        let undone = decode_words("=?utf-8?q?J=C3=B6hn_=3Cjohn=40x=2Eorg=3E?=");
        assert_eq!(undone.as_deref(), Some("Jöhn <john@x.org>"));
        let undone = decode_words("a, \"=?utf-8?q?b?=  =?utf-8?q?c?=\" <d@e.f>");
        assert_eq!(undone.as_deref(), Some("a, \"bc\" <d@e.f>"));
        assert_eq!(decode_words("a <b@c.d>"), None);
    }

    #[test]
    fn octets_that_are_no_utf_8_are_latin() {
        assert_eq!(text_of(b"J\xf6hn").0, "Jöhn");
        assert_eq!(text_of("Jöhn".as_bytes()), ("Jöhn".into(), true));
    }

    proptest! {
        #[test]
        fn never_panics(text in "[ -~é\r\n]{0,80}") {
            decode(&text);
            decode_words(&text);
        }
    }
}
