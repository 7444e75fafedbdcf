//! What became of a message, step by step: kept, without its content, when the message itself is gone.
//! Pure.

use serde::{Deserialize, Serialize};

use super::Record;
use crate::base::{MessageId, Timestamp};
use crate::message::Address;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoryEvent {
    /// When.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// See [`StoryEvent`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// The server took it for these.
    Delivered {
        /// The server.
        server: String,
        /// For whom.
        to: Vec<Address>,
        /// The server's line.
        reply: String,
        /// The message's own Message-ID, by which it is found at the other end.
        message_id: String,
    },
    /// It failed for good for these.
    Failed {
        /// The server.
        server: String,
        /// For whom.
        to: Vec<Address>,
        /// The server's line, or ours where it was given up.
        reply: String,
    },
    /// It is tried again.
    Deferred {
        /// The server.
        server: String,
        /// When.
        until: Timestamp,
        /// Why.
        reason: String,
        /// Whether it may have arrived all the same.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        uncertain: bool,
    },
    /// It waits for a person.
    Held {
        /// Why.
        reason: String,
    },
    /// The sender was told that it failed.
    Reported {
        /// By this message.
        report: MessageId,
        /// Who was told.
        to: Address,
    },
    /// The sender was told that it is late.
    Warned {
        /// By this message.
        report: MessageId,
        /// Who was told.
        to: Address,
    },
    /// An operator let it be tried at once.
    Retried,
    /// An operator removed it.
    Deleted,
}

/// A message's whole story.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Story {
    /// As it is in the queue, or as it last was there.
    pub record: Record,
    /// When it left the queue, if it has.
    pub ended: Option<Timestamp>,
    /// What became of it, in order.
    pub events: Vec<StoryEvent>,
}

impl Story {
    /// Everybody it was for: those that are done with are no longer in the record.
    pub fn recipients(&self) -> Vec<&Address> {
        let mut all: Vec<&Address> = Vec::new();
        let waiting = self.record.envelope.recipients.iter().map(|r| &r.address);
        let done = self.events.iter().flat_map(|event| match &event.what {
            What::Delivered { to, .. } | What::Failed { to, .. } => to.as_slice(),
            _ => &[],
        });
        for address in done.chain(waiting) {
            if !all.contains(&address) {
                all.push(address);
            }
        }
        all
    }
}

/// What a mailbox has sent, of which a server allows so much a minute and a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// The mailbox, as delivery names it.
    pub mailbox: String,
    /// From when on.
    pub at: Timestamp,
    /// When the last of it was sent.
    pub last: Timestamp,
    /// Messages.
    pub messages: u64,
    /// Their recipients.
    pub recipients: u64,
}
