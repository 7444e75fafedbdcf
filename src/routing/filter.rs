//! A server's `from_filter`: the addresses and domains that it may send as.

use crate::message::{Address, address};

/// A parsed `from_filter`. Its parts are compared exactly: a sub-domain does not match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    addresses: Vec<Address>,
    domains: Vec<String>,
}

/// An error in a `from_filter`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The text holds only blanks or commas.
    #[error(
        "holds no address and no domain; name at least one, or remove the key to admit every sender"
    )]
    Blank,
    /// A part with `@` that is not an address.
    #[error("part {0:?} is not an address; write name@example.com, or a domain without @")]
    Address(String),
}

impl Filter {
    /// Reads a comma-separated list of addresses (a display name is dropped) and domains. An empty text
    /// means no filter.
    pub fn parse(text: &str) -> Result<Option<Self>, FilterError> {
        if text.is_empty() {
            return Ok(None);
        }
        let mut filter = Self::default();
        for part in parts(text) {
            if part.contains('@') {
                let bad = |_| FilterError::Address(part.to_owned());
                filter
                    .addresses
                    .push(Address::parse(without_name(part)).map_err(bad)?);
            } else {
                let domain = address::normal_domain(part);
                filter
                    .domains
                    .push(domain.unwrap_or_else(|| part.to_lowercase()));
            }
        }
        if filter == Self::default() {
            Err(FilterError::Blank)
        } else {
            Ok(Some(filter))
        }
    }

    /// True if one of the filter's addresses equals `address`.
    pub fn has_address(&self, address: &Address) -> bool {
        self.addresses.contains(address)
    }

    /// True if one of the filter's domains equals the domain of `address`.
    pub fn has_domain(&self, address: &Address) -> bool {
        self.domains
            .iter()
            .any(|domain| domain == address.domain_key())
    }

    /// True if the filter has the domain of `address`, or any address in that domain.
    pub fn names_domain_of(&self, address: &Address) -> bool {
        let own = self.addresses.iter();
        let mut own = own.map(|own| own.domain_key());
        own.any(|domain| domain == address.domain_key()) || self.has_domain(address)
    }

    /// Returns the filter's addresses.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Returns the filter's domains.
    pub fn domains(&self) -> &[String] {
        &self.domains
    }

    /// True if the filter has `address` or its domain.
    pub fn admits(&self, address: &Address) -> bool {
        self.has_address(address) || self.has_domain(address)
    }
}

/// Writes the addresses, then the domains.
impl std::fmt::Display for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let addresses = self.addresses.iter().map(Address::as_str);
        let all: Vec<&str> = addresses
            .chain(self.domains.iter().map(String::as_str))
            .collect();
        f.write_str(&all.join(", "))
    }
}

/// Splits a text at its commas and trims the parts. Commas inside quotes do not count; empty parts are
/// skipped.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
}

fn without_name(part: &str) -> &str {
    match (part.rfind('<'), part.strip_suffix('>')) {
        (Some(open), Some(inner)) => inner[open + 1..].trim(),
        _ => part,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn admits(filter: &str, address: &str) -> bool {
        let filter = Filter::parse(filter).unwrap().unwrap();
        filter.admits(&Address::parse(address).unwrap())
    }

    #[test]
    fn matches_exactly() {
        assert!(admits("example.com", "a@EXAMPLE.com"));
        assert!(admits(" , Example.com ,", "a@example.com"));
        assert!(!admits("example.com", "a@sub.example.com"));
        assert!(!admits("*.example.com", "a@sub.example.com"));
        assert!(!admits("one.org;two.org", "a@two.org"));
        assert!(admits("éxample.com", "a@xn--xample-9ua.com"));
        assert!(admits("\"Doe, Ann\" <ann@example.com>", "ANN@example.com"));
        assert!(admits("one.org, ann@example.com, two.org", "t@two.org"));
        assert!(!admits("ann@example.com", "ann+x@example.com"));
    }

    #[test]
    fn an_empty_text_is_no_filter_and_a_blank_one_an_error() {
        assert_eq!(Filter::parse(""), Ok(None));
        assert_eq!(Filter::parse(" , ,"), Err(FilterError::Blank));
        assert_eq!(Filter::parse(" "), Err(FilterError::Blank));
        assert_eq!(
            Filter::parse("@example.com"),
            Err(FilterError::Address("@example.com".into()))
        );
    }

    proptest! {
        #[test]
        fn never_panics(text in "[ -~é]{0,60}") {
            let _ = Filter::parse(&text);
        }
    }
}
