//! Messages that the spool accepts, hands out and takes back.

use super::{Content, Record, StoryEvent, Used};
use crate::base::{MessageId, Timestamp};

/// A message to put into the spool.
#[derive(Debug, Clone)]
pub struct NewMessage {
    /// Everything except the content.
    pub record: Record,
    /// Header section and body, with CRLF line endings.
    pub content: Content,
}

/// The right to deliver a message until the claim expires. If the message is then claimed again, the earlier
/// claim is lost; the number tells the two claims apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The message.
    pub id: MessageId,
    /// A number that grows with each claim.
    pub number: u64,
}

/// A message and the claim on it.
#[derive(Debug)]
pub struct Claimed {
    /// The claim.
    pub claim: Claim,
    /// The time at which the claim ends unless it is renewed.
    pub until: Timestamp,
    /// The message's record as it was stored.
    pub record: Record,
    /// The content, if it is still in memory; otherwise the caller must request it.
    pub content: Option<Content>,
    /// True if a node that has died was sending the message: it may have arrived.
    pub may_have_arrived: bool,
}

/// The end of a claim, with the fate of the message.
#[derive(Debug)]
pub struct Finish {
    /// The claim that ends.
    pub claim: Claim,
    /// The fate of the message.
    pub fate: Fate,
    /// Our reports about the message, put into the queue in the transaction that ends the claim.
    pub reports: Vec<NewMessage>,
    /// Lines for our digests, added in the transaction that ends the claim.
    pub lines: Vec<DigestLines>,
    /// For a digest: the number of the last line in the text that was sent. If the digest got more lines
    /// meanwhile, it stays queued with those lines, even if its fate is [`Fate::Gone`].
    pub sent_lines: u64,
    /// The events for the message's story.
    pub events: Vec<StoryEvent>,
    /// How much of the mailbox's limits the attempt used.
    pub used: Option<Used>,
}

/// An addition to the story of a message, whether the message is still in the queue or not.
#[derive(Debug)]
pub struct Addition {
    /// The message.
    pub id: MessageId,
    /// The events for its story.
    pub events: Vec<StoryEvent>,
    /// Our reports about the message, put into the queue in the same transaction.
    pub reports: Vec<NewMessage>,
    /// Lines for our digests, added in the same transaction.
    pub lines: Vec<DigestLines>,
}

/// Lines for a digest.
#[derive(Debug)]
pub struct DigestLines {
    /// The digest, which is put into the queue if it is not there yet.
    pub digest: Box<Record>,
    /// The lines for the digest, each one a paragraph.
    pub lines: Vec<String>,
}

/// The fate of a message; see [`Finish`].
#[derive(Debug)]
pub enum Fate {
    /// The message leaves the queue, because it was delivered or its failure was reported. This last record
    /// goes into the story.
    Gone(Box<Record>),
    /// The message is queued again with this record, due at the record's `due`.
    Later(Box<Record>),
    /// The message is held with this record; the reason is in `last`.
    Held(Box<Record>),
}

impl Finish {
    /// Ends a claim by deciding only the message's fate, without reports or events.
    pub fn new(claim: Claim, fate: Fate) -> Self {
        Self {
            claim,
            fate,
            reports: Vec::new(),
            lines: Vec::new(),
            sent_lines: 0,
            events: Vec::new(),
            used: None,
        }
    }

    /// Returns the message's new record, or its last one if the message is gone.
    pub fn record(&self) -> &Record {
        match &self.fate {
            Fate::Gone(record) | Fate::Later(record) | Fate::Held(record) => record,
        }
    }

    /// Returns the record if the message stays in the queue.
    pub fn record_mut(&mut self) -> Option<&mut Record> {
        match &mut self.fate {
            Fate::Gone(_) => None,
            Fate::Later(record) | Fate::Held(record) => Some(record),
        }
    }

    /// True if this end of a claim makes any message due, now or later: the message itself, a report or a
    /// digest.
    pub fn makes_due(&self) -> bool {
        matches!(self.fate, Fate::Later(_)) || !self.reports.is_empty() || !self.lines.is_empty()
    }
}
