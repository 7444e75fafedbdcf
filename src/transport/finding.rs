//! What an upstream's answer shows of the mailbox that sends, rather than of the message. Pure.

use std::time::Duration;

use super::answer::Answer;
use crate::message::Address;

/// What an answer shows of the mailbox, with the reason and its remedy in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It has more sessions than the server allows.
    Crowded(String),
    /// It sends faster than the server allows.
    TooFast(String),
    /// The server has trouble, or has it with the mailbox: it pauses, longer each time.
    Slowed(Patience, String),
    /// It cannot send until then.
    Held(Until, String),
    /// The server does not take its token, not even a fresh one.
    TokenRefused(String),
    /// It may not send as this sender. Asking again would get the mailbox blocked.
    SenderRefused {
        /// The sender.
        sender: Address,
        /// What the server said.
        answer: Answer,
        /// What mends it.
        remedy: String,
    },
    /// Its tenant sends nothing to external recipients for this long.
    ExternalHeld(Duration, String),
}

impl Finding {
    /// Why, in words.
    pub fn reason(&self) -> String {
        match self {
            Self::Crowded(reason)
            | Self::TooFast(reason)
            | Self::Slowed(_, reason)
            | Self::Held(_, reason)
            | Self::TokenRefused(reason)
            | Self::ExternalHeld(_, reason) => reason.clone(),
            Self::SenderRefused { answer, .. } => answer.to_string(),
        }
    }

    /// How long the mailbox is held for it, if it is.
    pub fn holds_for(&self) -> Option<Duration> {
        match self {
            Self::Held(until, _) => Some(until.lasts()),
            Self::TokenRefused(_) => Some(Until::Probe.lasts()),
            _ => None,
        }
    }

    /// Whether the message that met it was judged as well: trouble with the mailbox or its tenant is
    /// not the message's fault, and counts as no attempt.
    pub fn is_about_message(&self) -> bool {
        matches!(self, Self::Slowed(..) | Self::SenderRefused { .. })
    }

    /// Whether the server has let the mailbox in, and so proved that it can be used.
    pub fn is_let_in(&self) -> bool {
        !matches!(
            self,
            Self::Slowed(..) | Self::Held(..) | Self::TokenRefused(_)
        )
    }
}

/// How long the pauses of a mailbox grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// To minutes: the server may be back at any moment.
    Minutes,
    /// To hours: the pause is about what the mailbox has sent.
    Hours,
}

/// When a held mailbox is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// A person has to mend something; one message now and then probes whether it is mended.
    Probe,
    /// The hold passes after this time.
    For(Duration),
}

/// How long a mailbox that needs a person is held before one message probes it.
const PROBE: Duration = Duration::from_secs(300);

impl Until {
    /// How long the hold lasts.
    pub fn lasts(self) -> Duration {
        match self {
            Self::Probe => PROBE,
            Self::For(time) => time,
        }
    }
}
