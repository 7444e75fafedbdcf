//! One mail address, `local-part@domain`: as it was written, and in a form for comparison.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::limits;

/// An address as it was written, with a second form for comparison: the domain in lower case and A-label
/// form (RFC 5890), the local part in lower case if it is ASCII.
#[derive(Clone)]
pub struct Address {
    text: Box<str>,
    key: Box<str>,
    /// The position of the `@` in `text` and in `key`.
    at: (usize, usize),
}

/// The sender of an envelope (RFC 5321 §4.1.2): an address, or the null path `<>` of reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReversePath {
    /// The null path `<>`: nobody receives reports of failures.
    Null,
    /// The address that receives reports.
    Mailbox(Address),
}

/// The reason why a text is not an address. Each variant holds the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The text has no `@`, or nothing on one side of it.
    #[error(
        "{0:?} is not an address: it needs a local part, an @ and a domain, as in name@example.com"
    )]
    Incomplete(String),
    /// The local part has a character that RFC 5321 §4.1.2 does not allow.
    #[error(
        "{0:?} is not an address: its local part needs quotes, or contains a character that no address may contain"
    )]
    LocalPart(String),
    /// The domain is neither a host name nor an address literal.
    #[error(
        "{0:?} is not an address: what follows the @ is neither a domain nor an [address literal]"
    )]
    Domain(String),
    /// The address is longer than RFC 5321 §4.5.3.1 allows.
    #[error(
        "{0:?} is not an address: at most 64 octets are allowed before the @, and 255 after it"
    )]
    TooLong(String),
}

impl Address {
    /// Reads an address without angle brackets. The local part is a dot-string (with dots anywhere, as in
    /// real addresses) or a quoted string; UTF-8 is allowed (RFC 6531 §3.3).
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let at = separator(text).ok_or_else(|| AddressError::Incomplete(text.to_owned()))?;
        let (local, domain) = (&text[..at], &text[at + 1..]);
        if local.is_empty() || domain.is_empty() {
            return Err(AddressError::Incomplete(text.to_owned()));
        }
        if local.len() > limits::LOCAL_PART || domain.len() > limits::DOMAIN {
            return Err(AddressError::TooLong(text.to_owned()));
        }
        if !is_local_part(local) {
            return Err(AddressError::LocalPart(text.to_owned()));
        }
        let domain_key =
            normal_domain(domain).ok_or_else(|| AddressError::Domain(text.to_owned()))?;
        let local_key = if local.is_ascii() {
            local.to_ascii_lowercase()
        } else {
            local.to_owned()
        };
        Ok(Self {
            text: text.into(),
            key: format!("{local_key}@{domain_key}").into(),
            at: (at, local_key.len()),
        })
    }

    /// Returns the address as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the local part as it was written, quotes included.
    pub fn local_part(&self) -> &str {
        &self.text[..self.at.0]
    }

    /// Returns the domain as it was written.
    pub fn domain(&self) -> &str {
        &self.text[self.at.0 + 1..]
    }

    /// Returns the domain in the form for comparison: lower case, A-labels.
    pub fn domain_key(&self) -> &str {
        &self.key[self.at.1 + 1..]
    }

    /// Returns the address with its domain in A-label form, for servers without SMTPUTF8 (RFC 6531 §3.2).
    /// Returns `None` if the local part itself is not ASCII.
    pub fn to_ascii(&self) -> Option<String> {
        if self.text.is_ascii() {
            return Some(self.text.to_string());
        }
        let local = self.local_part();
        local
            .is_ascii()
            .then(|| format!("{local}@{}", self.domain_key()))
    }
}

/// Converts a domain to the form for comparison: lower case and A-labels, or an address literal in lower
/// case. Returns `None` if the text is neither a domain nor an address literal.
pub(crate) fn normal_domain(domain: &str) -> Option<String> {
    if let Some(literal) = domain.strip_prefix('[') {
        return is_address_literal(literal.strip_suffix(']')?).then(|| domain.to_ascii_lowercase());
    }
    let plain = |text: &str| {
        !text.starts_with('.')
            && !text.ends_with('.')
            && !text.contains("..")
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
    };
    if domain.is_ascii() && !domain.to_ascii_lowercase().contains("xn--") {
        return (!domain.is_empty() && plain(domain)).then(|| domain.to_ascii_lowercase());
    }
    let ascii = idna::domain_to_ascii(domain).ok()?;
    (!ascii.is_empty() && plain(&ascii)).then_some(ascii)
}

/// Returns the position of the `@` between local part and domain. An `@` inside a quoted local part does not
/// count.
fn separator(text: &str) -> Option<usize> {
    if !text.starts_with('"') {
        return text.find('@');
    }
    let mut escaped = false;
    for (place, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return (text.as_bytes().get(place + 1) == Some(&b'@')).then_some(place + 1),
            _ => {}
        }
    }
    None
}

fn is_local_part(local: &str) -> bool {
    match local.strip_prefix('"').and_then(|l| l.strip_suffix('"')) {
        // RFC 5321 §4.1.2 qtextSMTP and quoted-pairSMTP: printable ASCII and space; UTF-8 by RFC 6531.
        Some(inner) => local.len() >= 2 && inner.chars().all(|c| c == ' ' || is_visible(c)),
        None => local.chars().all(|c| c == '.' || is_atext(c)),
    }
}

fn is_visible(c: char) -> bool {
    c.is_ascii_graphic() || (!c.is_ascii() && !c.is_control() && !c.is_whitespace())
}

/// True for a character of an unquoted word (`atext`, RFC 5322 §3.2.3), including UTF-8 (RFC 6532 §3.2).
fn is_atext(c: char) -> bool {
    is_visible(c) && !r#"()<>[]:;@\,.""#.contains(c)
}

/// True for the inside of an address literal (RFC 5321 §4.1.3): `192.0.2.1` or `IPv6:2001:db8::1`.
fn is_address_literal(inner: &str) -> bool {
    let tagged = inner
        .get(..5)
        .is_some_and(|tag| tag.eq_ignore_ascii_case("IPv6:"));
    if tagged {
        inner[5..].parse::<Ipv6Addr>().is_ok()
    } else {
        inner.parse::<Ipv4Addr>().is_ok()
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Address {}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.text)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Address::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl ReversePath {
    /// Returns the address, or `None` for the null path.
    pub fn address(&self) -> Option<&Address> {
        match self {
            Self::Null => None,
            Self::Mailbox(address) => Some(address),
        }
    }

    /// Reads an address with or without angle brackets; the empty text and `<>` are the null path.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        let inner = text
            .strip_prefix('<')
            .and_then(|t| t.strip_suffix('>'))
            .unwrap_or(text);
        if inner.is_empty() {
            return Ok(Self::Null);
        }
        Address::parse(inner).map(Self::Mailbox)
    }
}

/// Writes the address without angle brackets, or nothing for the null path.
impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address().map_or(Ok(()), |address| address.fmt(f))
    }
}

impl Serialize for ReversePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ReversePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ReversePath::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn compares_by_lower_case_and_a_label() {
        assert_eq!(address("Ann@Example.COM"), address("ann@example.com"));
        assert_eq!(address("a@éxample.com"), address("a@xn--xample-9ua.com"));
        assert_eq!(address("a@ÉXAMPLE.com"), address("A@XN--xample-9ua.com"));
        assert_ne!(address("a+b@x.com"), address("a@x.com"));
        assert_ne!(address("a.b@x.com"), address("ab@x.com"));
        assert_ne!(address("É@x.com"), address("é@x.com"));
    }

    #[test]
    fn reads_quotes_and_literals() {
        let quoted = address(r#""a@b c\"d"@x.com"#);
        assert_eq!(quoted.local_part(), r#""a@b c\"d""#);
        assert_eq!(quoted.domain(), "x.com");
        address("a@[192.0.2.1]");
        address("a@[IPv6:2001:db8::1]");
        address("root@localhost");
        address("a..b.@docomo.example");
    }

    #[test]
    fn refuses_what_is_no_address() {
        for text in [
            "",
            "a",
            "@x.com",
            "a@",
            "a b@x.com",
            "a@x com",
            "a@x@y",
            "<a@x.com>",
            "a@.x.com",
            "a@x..com",
            "a@[300.0.0.1]",
            "a@[1.2.3.4",
            "\"a@x.com",
            "\"a\"b@x.com",
            "a\r\n@x.com",
            "a@x.com>",
            "a>b@x.com",
            "a\0@x.com",
            "\"a\r\"@x.com",
            "a@x.com\u{a0}",
        ] {
            assert!(Address::parse(text).is_err(), "{text:?}");
        }
        assert!(matches!(
            Address::parse(&format!("{}@x.com", "a".repeat(65))),
            Err(AddressError::TooLong(_))
        ));
    }

    #[test]
    fn an_ascii_form_exists_where_only_the_domain_is_foreign() {
        assert_eq!(
            address("a@éxample.com").to_ascii().unwrap(),
            "a@xn--xample-9ua.com"
        );
        assert_eq!(address("é@x.com").to_ascii(), None);
    }

    proptest! {
        #[test]
        fn never_panics_and_never_lets_a_line_end_through(text in "\\PC{0,40}|[ -~\r\n]{0,40}") {
            if let Ok(address) = Address::parse(&text) {
                prop_assert!(!address.as_str().contains(['\r', '\n', '\0']));
                prop_assert_eq!(&Address::parse(address.as_str()).unwrap(), &address);
            }
        }
    }
}
