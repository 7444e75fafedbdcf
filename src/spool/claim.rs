//! What the spool takes, gives out and takes back.

use super::{Content, Record, StoryEvent, Used};
use crate::base::{MessageId, Timestamp};

/// A message to be put.
#[derive(Debug, Clone)]
pub struct New {
    /// Everything but the content.
    pub record: Record,
    /// Header section and body, line ends CRLF.
    pub content: Content,
}

/// The right to a message, until its time ends. When it has ended and another has claimed the message,
/// this one is worth nothing: the number tells the two apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The message.
    pub id: MessageId,
    /// Grows with each claim of the message.
    pub number: u64,
}

/// A message given out.
#[derive(Debug)]
pub struct Claimed {
    /// The right to it.
    pub claim: Claim,
    /// Until when, if it is not renewed.
    pub until: Timestamp,
    /// As it was stored.
    pub record: Record,
    /// The content, if it is in memory still; else ask for it.
    pub content: Option<Content>,
}

/// What becomes of a claimed message.
#[derive(Debug)]
pub struct Finish {
    /// The right to decide it.
    pub claim: Claim,
    /// What becomes of it.
    pub fate: Fate,
    /// Messages of our own about it, put in the same transaction.
    pub reports: Vec<New>,
    /// Lines for digests of ours, put in the same transaction.
    pub lines: Vec<DigestLines>,
    /// Of a digest that is gone: the number of the last line that went with it. If it has others by now, it
    /// stays for them.
    pub sent_lines: u64,
    /// What there is to tell of it.
    pub events: Vec<StoryEvent>,
    /// What it took of a mailbox's day.
    pub used: Option<Used>,
}

/// Lines for a digest.
#[derive(Debug)]
pub struct DigestLines {
    /// The digest, to be put if it is not there.
    pub digest: Box<Record>,
    /// What it tells, a paragraph each.
    pub lines: Vec<String>,
}

/// See [`Finish`].
#[derive(Debug)]
pub enum Fate {
    /// Delivered, or reported: it leaves the spool. This is how it last was, for its story.
    Gone(Box<Record>),
    /// Queued again as it is now, due at its `due`.
    Later(Box<Record>),
    /// Held as it is now; the reason stands in `last`.
    Held(Box<Record>),
}

impl Finish {
    /// A fate, and nothing to tell.
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

    /// The message as it is now, or as it last was.
    pub fn record(&self) -> &Record {
        match &self.fate {
            Fate::Gone(record) | Fate::Later(record) | Fate::Held(record) => record,
        }
    }

    /// The record that stays, if one does.
    pub fn record_mut(&mut self) -> Option<&mut Record> {
        match &mut self.fate {
            Fate::Gone(_) => None,
            Fate::Later(record) | Fate::Held(record) => Some(record),
        }
    }

    /// Whether something is due by it, now or later.
    pub fn makes_due(&self) -> bool {
        matches!(self.fate, Fate::Later(_)) || !self.reports.is_empty() || !self.lines.is_empty()
    }
}
