//! The administrator's rules, as routing reads them.

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::filter::Filter;
use super::lane;
use crate::message::Address;

/// The administrator's rules for routing.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// The servers, in the order of the configuration.
    pub servers: Vec<ServerRule>,
    /// If no filter admits the sender of a message, the message is sent as this address.
    pub default_from: Option<Address>,
    /// The addresses that are compared with the servers' filters, in order of precedence.
    pub keys: Vec<Key>,
    /// True if the first server takes mail that no filter admits.
    pub last_resort: bool,
    /// The action for a From that the chosen server does not admit.
    pub on_mismatch: OnMismatch,
    /// The action for the null sender.
    pub null_sender: NullSender,
    /// True if the author of a rewritten message becomes its Reply-To.
    pub reply_to: bool,
    /// The rules for individual users, by name.
    pub users: HashMap<String, UserRule>,
    /// The rules for individual listeners, by name.
    pub listeners: HashMap<String, ListenerRule>,
}

impl Policy {
    /// Returns the largest message, in octets, that a server takes; `None` if it has no limit. The name may contain a
    /// mailbox (`routing/lane.rs`).
    pub fn message_size(&self, server: &str) -> Option<u64> {
        let mut rules = self.servers.iter();
        rules
            .find(|rule| rule.name == lane::server(server))?
            .message_size
    }
}

/// The routing rule of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserRule {
    /// The server that sends all mail of this user.
    pub pinned: Option<String>,
    /// The servers that may send the user's mail; `None` means all.
    pub servers: Option<Vec<String>>,
    /// The user's own `default_from`, in place of the listener's and the policy's.
    pub default_from: Option<Address>,
}

/// The routing rule of a listener.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListenerRule {
    /// The servers that may send mail from the listener; `None` means all.
    pub servers: Option<Vec<String>>,
    /// The listener's own `default_from`, in place of the policy's.
    pub default_from: Option<Address>,
}

/// The routing rule of a server.
#[derive(Debug, Clone, Default)]
pub struct ServerRule {
    /// The server's name.
    pub name: String,
    /// The address of the server's mailbox. `None` if the mailbox's user name is not an address.
    pub address: Option<Address>,
    /// The filter of admitted addresses; `None` admits everything.
    pub filter: Option<Filter>,
    /// The filter of recipients (`to_filter`); `None` takes mail to everybody.
    pub to: Option<Filter>,
    /// True if the server signs in as the address that a message is sent as (`username = "{from}"`). Such a
    /// server has a filter.
    pub is_per_sender: bool,
    /// True if the server refuses mail whose envelope sender or From is not its own address, as High Volume Email
    /// does. Its filter is that address.
    pub sends_only_as_itself: bool,
    /// The largest message that the server takes, in octets; `None` if there is no limit.
    pub message_size: Option<u64>,
}

/// The source of an address that is compared with the servers' filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Key {
    /// The sender of the envelope.
    Envelope,
    /// The author of the header From.
    Header,
}

/// The action for a From that the chosen server does not admit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnMismatch {
    /// From becomes the server's own address with the author's name.
    #[default]
    Rewrite,
    /// The From stays.
    Keep,
    /// The message is refused.
    Reject,
}

/// The action for the null sender.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NullSender {
    /// The sender stays null.
    #[default]
    Keep,
    /// The sender becomes the server's own address.
    Identity,
}

/// What the user and the listener change: the restrictions on the choice of servers, and the default sender.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caller<'a> {
    /// The server that sends all mail of this user.
    pub pinned: Option<&'a str>,
    /// The servers that may send the user's mail; `None` means all.
    pub servers: Option<&'a [String]>,
    /// The servers that may send mail from the listener; `None` means all.
    pub here: Option<&'a [String]>,
    /// The `default_from` of the user, or else of the listener; `None` means the policy's.
    pub default_from: Option<&'a Address>,
    /// The recipient; `None` if servers are chosen whatever the recipient.
    pub recipient: Option<&'a Address>,
}

impl Caller<'_> {
    /// Describes the restrictions in words, to be appended to a statement about the servers.
    pub(super) fn narrowed(&self) -> &'static str {
        match (self.pinned.or(self.servers.map(|_| "")), self.here) {
            (None, None) => "",
            (Some(_), None) => {
                "; only servers allowed for this user were considered (`server` or `servers` of the user)"
            }
            (None, Some(_)) => {
                "; only servers allowed for this listener were considered (`servers` of the listener)"
            }
            (Some(_), Some(_)) => {
                "; only servers allowed for this user and listener were considered (`server` or `servers` of the user, `servers` of the listener)"
            }
        }
    }

    /// True if the server may send the mail.
    pub(super) fn may_use(&self, server: &ServerRule) -> bool {
        let has = |names: Option<&[String]>| names.is_none_or(|names| names.contains(&server.name));
        let takes = self
            .recipient
            .is_none_or(|recipient| server.takes(recipient));
        takes && has(self.servers) && has(self.here)
    }
}

impl ServerRule {
    /// True if the filter admits `address`, or if there is no filter.
    pub(crate) fn admits(&self, address: &Address) -> bool {
        self.filter
            .as_ref()
            .is_none_or(|filter| filter.admits(address))
    }

    /// True if the server takes mail to this recipient.
    pub(super) fn takes(&self, recipient: &Address) -> bool {
        self.to.as_ref().is_none_or(|to| to.admits(recipient))
    }

    /// True if the server's filter has the domain of `address`, or any address in that domain.
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
