//! A message as the spool knows it, apart from its content. Pure.

use serde::{Deserialize, Serialize};

use crate::base::{MessageId, Timestamp};
use crate::message::{Envelope, Priority};

/// A message in the spool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub id: MessageId,
    /// When it was taken.
    pub received: Timestamp,
    /// Where it came from.
    pub origin: Origin,
    /// As the app gave it; recipients that are done with are no longer in it.
    pub envelope: Envelope,
    /// Octets of its content.
    pub size: u64,
    /// What its content is known by again; see [`Content::sum`](super::Content::sum).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum: Option<u32>,
    /// The server that would take it; empty to be routed anew.
    pub lane: String,
    /// Which of the messages that wait goes first.
    #[serde(default)]
    pub priority: Priority,
    /// Whether it waits for its time or for a person.
    pub state: State,
    /// When it is tried next.
    pub due: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// What the last attempt ended with, or why it is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// Whether an attempt ended between the final dot and its reply, so that it may have arrived.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub uncertain: bool,
    /// Whether its sender was told that it is late.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub warned: bool,
    /// Holds of its mailbox that attempts at it have brought about.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub holds: u32,
    /// The server that would have taken it before the configuration changed, until it is routed anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former_lane: Option<String>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Messages between which time alone decides: of one user, equally urgent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// How urgent.
    pub priority: Priority,
    /// Whose; empty for our own.
    pub user: String,
}

/// Where a message waits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The server that would take it; empty to be routed anew.
    pub lane: String,
    /// Among which others.
    pub flow: Flow,
}

impl Record {
    /// Where it waits.
    pub fn place(&self) -> Place {
        let user = match &self.origin {
            Origin::Client { user, .. } => user.clone(),
            Origin::Report(_) | Origin::Digest => String::new(),
        };
        let priority = self.priority;
        Place {
            lane: self.lane.clone(),
            flow: Flow { priority, user },
        }
    }
}

impl Flow {
    /// That of our own reports.
    pub fn of_reports() -> Self {
        Self {
            priority: Priority::Normal,
            user: String::new(),
        }
    }

    /// As the spool's key: the priority's letter, then the user.
    pub fn key(&self) -> String {
        let letter = match self.priority {
            Priority::High => 'h',
            Priority::Normal => 'n',
            Priority::Bulk => 'b',
        };
        format!("{letter}{}", self.user)
    }

    /// The flow of such a key.
    pub fn of_key(key: &str) -> Self {
        let priority = match key.as_bytes().first() {
            Some(b'h') => Priority::High,
            Some(b'b') => Priority::Bulk,
            _ => Priority::Normal,
        };
        let user = key.get(1..).unwrap_or_default().to_owned();
        Self { priority, user }
    }
}

/// Whether a message waits for its time or for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// For its time.
    Queued,
    /// For a person.
    Held,
}

/// Where a message came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// From an app.
    Client {
        /// The user that it is, by AUTH or by network.
        user: String,
        /// The listener that it came in by; empty in records of before there were names.
        #[serde(default)]
        listener: String,
        /// Its address, as the inside of an address literal.
        peer: String,
        /// What it called itself.
        helo: String,
        /// The protocol by RFC 3848.
        protocol: String,
    },
    /// From ourselves: a report about this message.
    Report(MessageId),
    /// From ourselves: a digest of reports, written when it is sent.
    Digest,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_flow_comes_back_from_its_key(user in ".{0,20}", place in 0usize..3) {
            let priority = [Priority::High, Priority::Normal, Priority::Bulk][place];
            let flow = Flow { priority, user };
            prop_assert_eq!(Flow::of_key(&flow.key()), flow);
        }
    }
}
