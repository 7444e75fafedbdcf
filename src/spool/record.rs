//! A message as the spool knows it, apart from its content. Pure.

use serde::{Deserialize, Serialize};

use crate::base::{MessageId, Timestamp};
use crate::message::Envelope;

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
    /// The server that would take it; empty to be routed anew.
    pub lane: String,
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
        /// Its address, as the inside of an address literal.
        peer: String,
        /// What it called itself.
        helo: String,
        /// The protocol by RFC 3848.
        protocol: String,
    },
    /// From ourselves: a report about this message.
    Report(MessageId),
}
