//! The envelope: the sender, the recipients, and the ESMTP parameters as the app wrote them.

use serde::{Deserialize, Serialize};

use super::address::{Address, ReversePath};

/// The content of MAIL and RCPT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The reverse-path of MAIL.
    pub sender: ReversePath,
    /// The parameters of MAIL.
    #[serde(default, skip_serializing_if = "Parameters::is_empty")]
    pub parameters: Parameters,
    /// The forward-paths of RCPT, in order.
    pub recipients: Vec<Recipient>,
}

/// The recipient of one RCPT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// The forward-path.
    pub address: Address,
    /// The parameters of RCPT.
    #[serde(default, skip_serializing_if = "Parameters::is_empty")]
    pub parameters: Parameters,
}

impl Recipient {
    /// Estimates the octets of memory that the recipient takes. Its address is stored twice: as text and in
    /// the form for comparison.
    pub fn held(&self) -> usize {
        size_of::<Self>() + 2 * self.address.as_str().len() + self.parameters.0.len()
    }
}

/// Raw ESMTP parameters: `KEYWORD=value` separated by single spaces. They are stored undecoded, so they are
/// passed on exactly as they came. Only [`Parameters::parse`] creates them, and it admits no line end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Parameters(String);

impl Parameters {
    /// Reads the text after the path (RFC 5321 §4.1.2 esmtp-param). Returns `None` if it is malformed.
    pub fn parse(text: &str) -> Option<Self> {
        let mut kept = String::with_capacity(text.len());
        for parameter in text.split(' ').filter(|p| !p.is_empty()) {
            let (keyword, value) = split(parameter);
            if !is_keyword(keyword) || value.is_some_and(|value| !is_value(value)) {
                return None;
            }
            if !kept.is_empty() {
                kept.push(' ');
            }
            kept.push_str(parameter);
        }
        Some(Self(kept))
    }

    /// Iterates over the parameters: the keyword (as written) and the value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.split(' ').filter(|p| !p.is_empty()).map(split)
    }

    /// Returns the value of the first parameter with this keyword; `Some("")` if the parameter has no value.
    pub fn get(&self, keyword: &str) -> Option<&str> {
        self.iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(keyword))
            .map(|(_, value)| value.unwrap_or_default())
    }

    /// Returns the same value as [`Parameters::get`], decoded from xtext (RFC 3461 §4). Returns `None` if the
    /// value is not xtext, or if a decoded character is not printable ASCII and so could not be put into a
    /// header.
    pub fn get_xtext(&self, keyword: &str) -> Option<String> {
        let mut rest = self.get(keyword)?;
        let mut text = String::with_capacity(rest.len());
        while let Some((plain, coded)) = rest.split_once('+') {
            let octet = u8::from_str_radix(coded.get(..2)?, 16).ok()?;
            text.push_str(plain);
            text.push(char::from(octet));
            rest = &coded[2..];
        }
        text.push_str(rest);
        text.bytes()
            .all(|b| matches!(b, b' '..=b'~'))
            .then_some(text)
    }

    /// Returns the parameters as they were written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn split(parameter: &str) -> (&str, Option<&str>) {
    match parameter.split_once('=') {
        Some((keyword, value)) => (keyword, Some(value)),
        None => (parameter, None),
    }
}

fn is_keyword(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// True for a value without control characters and spaces. RFC 5321 forbids `=` as well, but real senders
/// use it in ORCPT.
fn is_value(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| !c.is_control() && !c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keeps_parameters_as_they_came() {
        let parameters =
            Parameters::parse(" NOTIFY=SUCCESS,delay  ORCPT=rfc822;a+2Bb@x.com").unwrap();
        assert_eq!(parameters.get("orcpt"), Some("rfc822;a+2Bb@x.com"));
        assert_eq!(parameters.get("NOTIFY"), Some("SUCCESS,delay"));
        assert_eq!(parameters.get("RET"), None);
        assert_eq!(
            Parameters::parse("SMTPUTF8").unwrap().get("smtputf8"),
            Some("")
        );
    }

    #[test]
    fn xtext_is_undone_where_a_header_can_have_it() {
        let xtext = |text: &str| Parameters::parse(text).unwrap().get_xtext("ENVID");
        assert_eq!(xtext("ENVID=QQ+2B314159").as_deref(), Some("QQ+314159"));
        assert_eq!(xtext("ENVID=a+3Db+20c").as_deref(), Some("a=b c"));
        assert_eq!(xtext("ENVID=42").as_deref(), Some("42"));
        for text in [
            "ENVID=a+0D+0Ab",
            "ENVID=a+E4b",
            "ENVID=a+2",
            "ENVID=a+ZZ",
            "ENVID=+\u{e4}\u{e4}",
            "ENVID=\u{e4}",
            "RET=HDRS",
        ] {
            assert_eq!(xtext(text), None, "{text}");
        }
    }

    #[test]
    fn refuses_malformed_ones() {
        for text in ["=x", "SIZE=", "A=b\r\nRCPT", "-a=b", "a_b=c", "A=b\tc"] {
            assert!(Parameters::parse(text).is_none(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_read_again_the_same(text in "[ -~\r\n\t]{0,60}") {
            if let Some(parameters) = Parameters::parse(&text) {
                prop_assert!(!parameters.0.contains(['\r', '\n']));
                prop_assert_eq!(Parameters::parse(&parameters.0), Some(parameters));
            }
        }
    }
}
