//! The protocols by which apps read mail.

use serde::{Deserialize, Serialize};

/// A protocol by which apps read mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadingProtocol {
    /// IMAP (RFC 9051, RFC 3501).
    Imap,
    /// POP3 (RFC 1939).
    Pop3,
}

impl ReadingProtocol {
    /// Returns the name, as in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Imap => "imap",
            Self::Pop3 => "pop3",
        }
    }

    /// Returns the port for implicit TLS (RFC 8314 §3.2 and §3.3), and the port for STARTTLS or no TLS.
    pub fn ports(self) -> (u16, u16) {
        match self {
            Self::Imap => (993, 143),
            Self::Pop3 => (995, 110),
        }
    }
}

impl std::fmt::Display for ReadingProtocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Imap => "IMAP",
            Self::Pop3 => "POP3",
        })
    }
}
