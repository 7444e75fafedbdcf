//! The result of sending a message, for any upstream protocol. Pure.

use std::time::Duration;

use super::answer::Answer;
use super::finding::Finding;

/// The result for each recipient of a message, by its place in the envelope.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Recipients to whom the message was delivered.
    pub delivered: Vec<usize>,
    /// Recipients for whom the message failed.
    pub failed: Vec<FailedRecipient>,
    /// Recipients for whom the message is retried.
    pub deferred: Vec<usize>,
    /// Recipients for a further transaction at once.
    pub next: Vec<usize>,
    /// The reply that delivered the message to some recipients.
    pub accepted: Option<Answer>,
    /// The last reply that asks for a retry for some recipients.
    pub not_now: Option<Answer>,
    /// How long the upstream asks to wait before the next attempt, if it does so.
    pub wait: Option<Duration>,
    /// The gravest finding about the mailbox in these replies.
    pub finding: Option<Finding>,
    /// Replies that no rule explains.
    pub unclassified: Vec<Answer>,
    /// True if the upstream itself confirms delivery to senders that requested it (RFC 3461).
    pub confirms: bool,
}

/// A recipient for whom the message failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedRecipient {
    /// The recipient's place in the envelope.
    pub place: usize,
    /// The upstream's reply.
    pub answer: Answer,
    /// The remedy; empty if none is known.
    pub remedy: String,
}

impl Outcome {
    /// True if the attempt counts, because the message itself was judged; see
    /// [`Finding::is_about_message`].
    pub fn is_counted(&self) -> bool {
        self.finding.as_ref().is_none_or(Finding::is_about_message)
    }

    /// How long the mailbox is held because of the replies to this message, if it is.
    pub fn holds_for(&self) -> Option<Duration> {
        self.finding.as_ref()?.holds_for()
    }

    /// The reply that decided about a message that goes to all its recipients or to none. A temporary
    /// refusal comes before a permanent one, because the sender may try again.
    pub fn decisive(&self) -> Option<&Answer> {
        let failed = self.failed.first().map(|refused| &refused.answer);
        let refused = self.not_now.as_ref().or(failed);
        refused.or(self.accepted.as_ref())
    }
}

/// Nothing was sent, or it is unknown if the message has arrived.
#[derive(Debug)]
pub struct Interruption {
    /// A description of what happened.
    pub reason: String,
    /// The upstream's reply, if there was one.
    pub answer: Option<Answer>,
    /// The finding about the mailbox. If there is one, the message is not to blame.
    pub finding: Option<Finding>,
    /// How far the message had come.
    pub progress: Progress,
}

/// How far a message had come when its session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The upstream sent no reply about the message. In a reused session the most likely reason is that the
    /// session was dead.
    Unanswered,
    /// The message was under way, and has not arrived.
    UnderWay,
    /// The message may have arrived.
    MayHaveArrived,
}
