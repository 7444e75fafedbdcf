//! A message as the spool records it, without its content. Pure.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

use crate::base::{MessageId, Timestamp};
use crate::message::{Envelope, Parameters, Priority, ReversePath};

/// A message in the spool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The message's id.
    pub id: MessageId,
    /// The time at which the message was accepted.
    pub received: Timestamp,
    /// The origin.
    pub origin: Origin,
    /// The envelope as the app sent it, without the recipients that were delivered or have failed.
    pub envelope: Envelope,
    /// The content's size in octets.
    pub size: u64,
    /// The content's checksum; see [`Content::sum`](super::Content::sum).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum: Option<u32>,
    /// The server that the message waits for; empty if the message is to be routed again.
    pub lane: String,
    /// The priority among the waiting messages.
    #[serde(default)]
    pub priority: Priority,
    /// The state: the message is queued or held.
    pub state: State,
    /// The time of the next attempt.
    pub due: Timestamp,
    /// The number of attempts so far.
    pub attempts: u32,
    /// The result of the last attempt, or the reason for the hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// True if an attempt ended between the final dot and its reply, so the message may have arrived.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub uncertain: bool,
    /// True if the sender was told that the message is late.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub warned: bool,
    /// How often an attempt to send this message put the mailbox on hold.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub holds: u32,
    /// The message's lane before the lane's server was removed from the configuration; `None` once the
    /// message is routed again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former_lane: Option<String>,
    /// The Message-ID, in angle brackets: the app's, or the one that the message will get. `None` in records
    /// from before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// The messages of one user with one priority. Among them, only the due time decides which goes first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// The priority.
    pub priority: Priority,
    /// The user; empty for our own messages.
    pub user: String,
}

/// The lane and the flow in which a message waits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The server that the message waits for; empty if the message is to be routed again.
    pub lane: String,
    /// The flow within the lane.
    pub flow: Flow,
}

impl Record {
    /// Creates the record of a message that is queued in no lane yet, and due at once. Its size is unknown.
    pub fn new(id: MessageId, received: Timestamp, origin: Origin, envelope: Envelope) -> Self {
        Self {
            id,
            received,
            origin,
            envelope,
            size: 0,
            sum: None,
            lane: String::new(),
            priority: Priority::Normal,
            state: State::Queued,
            due: received,
            attempts: 0,
            last: None,
            uncertain: false,
            warned: false,
            holds: 0,
            former_lane: None,
            message_id: None,
        }
    }

    /// Returns the record that operators see if the message's own record in the database `place` cannot be read for
    /// this reason. Such a message can only be shown, exported and deleted.
    pub(super) fn damaged(id: MessageId, place: &str, reason: &dyn Display) -> Self {
        let unknown = String::new;
        Self {
            state: State::Held,
            last: Some(format!(
                "the message's record in {place} is damaged ({reason}): `queue export {id}` saves its content, `queue \
                 delete {id}` removes it"
            )),
            ..Self::new(
                id,
                id.time(),
                Origin::Client {
                    user: unknown(),
                    listener: unknown(),
                    peer: unknown(),
                    helo: unknown(),
                    protocol: unknown(),
                },
                Envelope {
                    sender: ReversePath::Null,
                    parameters: Parameters::default(),
                    recipients: Vec::new(),
                },
            )
        }
    }

    /// Returns the place where the message waits.
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
    /// Returns the flow of our own reports.
    pub fn of_reports() -> Self {
        Self {
            priority: Priority::Normal,
            user: String::new(),
        }
    }

    /// Converts the flow to the spool's key: the priority's letter, then the user.
    pub fn key(&self) -> String {
        let letter = match self.priority {
            Priority::High => 'h',
            Priority::Normal => 'n',
            Priority::Bulk => 'b',
        };
        format!("{letter}{}", self.user)
    }

    /// Converts a key from [`key`](Self::key) to its flow.
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

/// The state of a message in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The message waits until it is due.
    Queued,
    /// The message waits for an operator.
    Held,
}

/// The origin of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// From an app.
    Client {
        /// The app's user, identified by AUTH or by the app's network.
        user: String,
        /// The listener that received the message; empty in records from before listeners had names.
        #[serde(default)]
        listener: String,
        /// The app's IP address as in an address literal, without brackets: `192.0.2.1` or `IPv6:...`.
        peer: String,
        /// The name that the app gave in its EHLO or HELO.
        helo: String,
        /// The protocol, named as in RFC 3848.
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
