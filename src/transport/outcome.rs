//! What came of sending a message, whatever the upstream speaks. Pure.

use std::time::Duration;

use super::answer::Answer;
use super::finding::Finding;

/// What became of a message's recipients, each by its place in the envelope.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Recipients that have it.
    pub delivered: Vec<usize>,
    /// Recipients for whom it failed.
    pub failed: Vec<FailedRecipient>,
    /// Recipients for whom it is tried again.
    pub deferred: Vec<usize>,
    /// Recipients for another transaction at once.
    pub next: Vec<usize>,
    /// The answer by which some were delivered.
    pub accepted: Option<Answer>,
    /// The last answer by which some are to be tried again.
    pub not_now: Option<Answer>,
    /// How long the upstream asks to wait before the next attempt, if it does.
    pub wait: Option<Duration>,
    /// What the answers show of the mailbox: the gravest of them.
    pub finding: Option<Finding>,
    /// Answers that no rule explains.
    pub unclassified: Vec<Answer>,
    /// Whether the upstream confirms delivery by itself to whoever asked for it (RFC 3461).
    pub confirms: bool,
}

/// A recipient for whom the message failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedRecipient {
    /// Its place in the envelope.
    pub place: usize,
    /// What the upstream said.
    pub answer: Answer,
    /// What mends it; empty if nothing is known to.
    pub remedy: String,
}

impl Outcome {
    /// Whether the message itself was judged; see [`Finding::is_about_message`].
    pub fn is_counted(&self) -> bool {
        self.finding.as_ref().is_none_or(Finding::is_about_message)
    }

    /// How long the mailbox is held for what was said about this message, if it is.
    pub fn holds_for(&self) -> Option<Duration> {
        self.finding.as_ref()?.holds_for()
    }

    /// The answer that decided about a message that goes to all its recipients or to none: a refusal for
    /// now before one for good, since the sender may try again.
    pub fn decisive(&self) -> Option<&Answer> {
        let failed = self.failed.first().map(|refused| &refused.answer);
        let refused = self.not_now.as_ref().or(failed);
        refused.or(self.accepted.as_ref())
    }
}

/// Nothing was sent, or nobody knows whether what was sent has arrived.
#[derive(Debug)]
pub struct Interruption {
    /// What happened, in words.
    pub reason: String,
    /// What the upstream said, if it said anything.
    pub answer: Option<Answer>,
    /// What it shows of the mailbox. If it shows something, the message is not to blame.
    pub finding: Option<Finding>,
    /// How far the message had come.
    pub progress: Progress,
}

/// How far a message had come when its session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The upstream has not answered anything about it: over a kept session, most likely because that
    /// session was dead.
    Unanswered,
    /// It was under way, and has not arrived.
    UnderWay,
    /// It may have arrived.
    MayHaveArrived,
}
