//! The result of sending a message, for any upstream protocol. Pure.

use std::time::Duration;

use super::answer::Answer;
use super::finding::Finding;

/// The result of sending a message, for each recipient. Each number is the index of a recipient in the
/// envelope.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Recipients to whom the message was delivered.
    pub delivered: Vec<usize>,
    /// Recipients for whom the message failed.
    pub failed: Vec<FailedRecipient>,
    /// Recipients for whom the message is retried.
    pub deferred: Vec<usize>,
    /// Recipients that go into another transaction immediately.
    pub next: Vec<usize>,
    /// The first reply by which the upstream accepted the message for a recipient.
    pub accepted: Option<Answer>,
    /// The last reply that put some recipients into `deferred` or `next`.
    pub not_now: Option<Answer>,
    /// The longest time that a reply asks us to wait before the next attempt; `None` if no reply
    /// asks for that.
    pub wait: Option<Duration>,
    /// The gravest finding about the mailbox in these replies.
    pub finding: Option<Finding>,
    /// Replies that no rule covers.
    pub unclassified: Vec<Answer>,
    /// True if the upstream itself sends the delivery confirmations that senders requested (RFC 3461).
    pub confirms: bool,
}

/// A recipient for whom the message failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedRecipient {
    /// The index of the recipient in the envelope.
    pub place: usize,
    /// The upstream's reply.
    pub answer: Answer,
    /// The remedy; empty if none is known.
    pub remedy: String,
}

impl Outcome {
    /// True if this counts as one of the message's attempts: the replies are about the message, not only
    /// about the mailbox or its tenant. See [`Finding::is_about_message`].
    pub fn is_counted(&self) -> bool {
        self.finding.as_ref().is_none_or(Finding::is_about_message)
    }

    /// Returns how long the mailbox is held because of the replies to this message; `None` if it is not held.
    pub fn holds_for(&self) -> Option<Duration> {
        self.finding.as_ref()?.holds_for()
    }

    /// Returns the decisive reply for a message that must go to all its recipients or to none. A temporary
    /// refusal takes precedence over a permanent one, so that the sender may try again.
    pub fn decisive(&self) -> Option<&Answer> {
        let failed = self.failed.first().map(|refused| &refused.answer);
        let refused = self.not_now.as_ref().or(failed);
        refused.or(self.accepted.as_ref())
    }
}

/// An attempt that was cut short: the message has not arrived, or it is unknown whether it has.
#[derive(Debug)]
pub struct Interruption {
    /// A description of what happened.
    pub reason: String,
    /// The upstream's reply, if there was one.
    pub answer: Option<Answer>,
    /// The finding about the mailbox. If there is one, the message is not to blame.
    pub finding: Option<Finding>,
    /// How far sending had progressed.
    pub progress: Progress,
}

/// How far the sending of a message had progressed when its session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The upstream sent no reply about the message. In a reused session the most likely reason is that the
    /// session was already dead.
    Unanswered,
    /// The message has not arrived: the session could not be opened, or it ended while the message was being
    /// sent.
    UnderWay,
    /// The message may have arrived.
    MayHaveArrived,
}
