//! What the administrator laid down, as routing reads it.

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::filter::Filter;
use crate::message::Address;

/// What the administrator laid down.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// In the order of the configuration.
    pub servers: Vec<ServerRule>,
    /// Whom unadmitted mail leaves as, if anybody.
    pub default_from: Option<Address>,
    /// Which addresses choose a server, and in which order.
    pub keys: Vec<Key>,
    /// Whether the first server takes what no filter admits.
    pub last_resort: bool,
    /// What happens to a From that the chosen server does not admit.
    pub on_mismatch: OnMismatch,
    /// What happens to the null sender.
    pub null_sender: NullSender,
    /// Whether the author of a rewritten message becomes its Reply-To.
    pub reply_to: bool,
    /// What holds for single users, by name.
    pub users: HashMap<String, UserRule>,
    /// The servers that may take what comes in by a listener, by its name; all where it is not here.
    pub listeners: HashMap<String, Vec<String>>,
}

/// What routing knows of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserRule {
    /// The server that all mail of this user takes.
    pub pinned: Option<String>,
    /// The servers that may take it; none means all.
    pub servers: Option<Vec<String>>,
}

/// What routing knows of a server.
#[derive(Debug, Clone)]
pub struct ServerRule {
    /// Its name.
    pub name: String,
    /// The address of its mailbox; none where it signs in with something else.
    pub address: Option<Address>,
    /// What it admits; none admits everything.
    pub filter: Option<Filter>,
}

/// One source of an address that chooses a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Key {
    /// The sender of the envelope.
    Envelope,
    /// The author of the header From.
    Header,
}

/// What happens to a From that the chosen server does not admit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnMismatch {
    /// It is encapsulated in the identity.
    #[default]
    Rewrite,
    /// It stays.
    Keep,
    /// The message is refused.
    Reject,
}

/// What happens to the null sender.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NullSender {
    /// It stays null.
    #[default]
    Keep,
    /// It becomes the identity.
    Identity,
}

/// On whose behalf a decision is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caller<'a> {
    /// The server that all mail of this user takes.
    pub pinned: Option<&'a str>,
    /// The servers that may take it; none means all.
    pub servers: Option<&'a [String]>,
    /// Those that the listener lets it take; none means all.
    pub here: Option<&'a [String]>,
}

impl Caller<'_> {
    /// What narrows the servers that may take it, to stand behind what is said of them.
    pub(super) fn narrowed(&self) -> &'static str {
        match (self.pinned.or(self.servers.map(|_| "")), self.here) {
            (None, None) => "",
            (Some(_), None) => {
                ", of those that this user may use (`server` or `servers` of the user)"
            }
            (None, Some(_)) => ", of those that may be used here (`servers` of the listener)",
            (Some(_), Some(_)) => {
                ", of those that this user may use here (`server` or `servers` of the user, `servers` of the listener)"
            }
        }
    }

    /// Whether the server may take it.
    pub(super) fn may_use(&self, server: &str) -> bool {
        let has = |names: Option<&[String]>| {
            names.is_none_or(|names| names.iter().any(|name| name == server))
        };
        has(self.servers) && has(self.here)
    }
}

impl ServerRule {
    pub(super) fn admits(&self, address: &Address) -> bool {
        self.filter
            .as_ref()
            .is_none_or(|filter| filter.admits(address))
    }

    /// Whether its filter names the address's domain, by itself or in an address.
    pub(crate) fn names_domain_of(&self, address: &Address) -> bool {
        self.filter
            .as_ref()
            .is_some_and(|filter| filter.names_domain_of(address))
    }

    pub(super) fn has_address(&self, address: &Address) -> bool {
        self.filter
            .as_ref()
            .is_some_and(|filter| filter.has_address(address))
    }

    pub(super) fn has_domain(&self, address: &Address) -> bool {
        self.filter
            .as_ref()
            .is_some_and(|filter| filter.has_domain(address))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Envelope => "envelope sender",
            Self::Header => "header From",
        })
    }
}
