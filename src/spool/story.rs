//! The story of a message, step by step. It is kept, without the content, when the message itself is gone.
//! Pure.

use serde::{Deserialize, Serialize};

use super::Record;
use crate::base::{MessageId, Timestamp};
use crate::message::Address;

/// One step of a story.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoryEvent {
    /// The time of the step.
    pub at: Timestamp,
    /// The event.
    #[serde(flatten)]
    pub what: EventKind,
}

/// The kind of a [`StoryEvent`], with the details.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// The server accepted the message for these recipients.
    Delivered {
        /// The server.
        server: String,
        /// The recipients.
        to: Vec<Address>,
        /// The server's reply.
        reply: String,
        /// The message's Message-ID, which identifies it outside this program.
        message_id: String,
        /// The envelope sender in place of the app's, if it was rewritten.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sent_as: Option<Address>,
    },
    /// The server had accepted the message for these recipients, but a report says that it did not reach
    /// them.
    Bounced {
        /// The server.
        server: String,
        /// The recipients.
        to: Vec<Address>,
        /// The reply or explanation in the report, with our remedy if there is one.
        reply: String,
        /// The report's Message-ID.
        report: String,
    },
    /// The message failed permanently for these recipients.
    Failed {
        /// The server.
        server: String,
        /// The recipients.
        to: Vec<Address>,
        /// The server's reply, or our own text if we gave up.
        reply: String,
    },
    /// The message was refused at its end, and the app received this reply. It was never in the queue.
    Refused {
        /// The reply.
        reply: String,
    },
    /// The message is to be tried again.
    Deferred {
        /// The server.
        server: String,
        /// The time of the next attempt.
        until: Timestamp,
        /// The reason.
        reason: String,
        /// True if the message may have arrived nevertheless.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        uncertain: bool,
    },
    /// The message waits for an operator.
    Held {
        /// The reason.
        reason: String,
    },
    /// These recipients take another route, so they are the recipients of a message of their own in the queue.
    Split {
        /// The id of that message.
        part: MessageId,
        /// The server that it waits for.
        server: String,
        /// The recipients.
        to: Vec<Address>,
    },
    /// A report told the sender that the message failed.
    Reported {
        /// The report's id.
        report: MessageId,
        /// The address that received the report.
        to: Address,
    },
    /// A report told the sender that the message is late.
    Warned {
        /// The report's id.
        report: MessageId,
        /// The address that received the report.
        to: Address,
    },
    /// An operator made the message due at once.
    Retried,
    /// An operator removed the message.
    Deleted,
}

/// A message's whole story.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Story {
    /// The message's present record, or its last one if the message has left the queue.
    pub record: Record,
    /// The time at which the message left the queue; `None` while it is still there.
    pub ended: Option<Timestamp>,
    /// The events, in order.
    pub events: Vec<StoryEvent>,
}

impl Story {
    /// True if the message was refused when the app sent it.
    pub fn was_refused(&self) -> bool {
        let mut events = self.events.iter();
        events.any(|event| matches!(event.what, EventKind::Refused { .. }))
    }

    /// True if an operator deleted the message.
    pub fn was_deleted(&self) -> bool {
        let mut events = self.events.iter();
        events.any(|event| event.what == EventKind::Deleted)
    }

    /// Returns all recipients of the message, including finished ones, which are no longer in the record.
    pub fn recipients(&self) -> Vec<&Address> {
        let mut all: Vec<&Address> = Vec::new();
        let waiting = self.record.envelope.recipients.iter().map(|r| &r.address);
        let done = self.events.iter().flat_map(|event| match &event.what {
            EventKind::Delivered { to, .. } | EventKind::Failed { to, .. } => to.as_slice(),
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

/// Returns events as JSON without the array's brackets, so that more events can be appended.
pub(super) fn listed(events: &[StoryEvent]) -> String {
    let text = serde_json::to_string(events).expect("an event has only strings for keys");
    text[1..text.len() - 1].to_owned()
}

/// Reads events from what [`listed`] returned, or from several such texts with commas between them.
pub(super) fn read_events(text: &str) -> serde_json::Result<Vec<StoryEvent>> {
    serde_json::from_str(&format!("[{text}]"))
}

/// The messages and recipients of one period that count against a mailbox's limits per minute and per day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// The mailbox, as delivery names it.
    pub mailbox: String,
    /// The beginning of the period.
    pub at: Timestamp,
    /// The time at which the last of the messages was sent.
    pub last: Timestamp,
    /// The number of messages.
    pub messages: u64,
    /// The number of the messages' recipients.
    pub recipients: u64,
}
