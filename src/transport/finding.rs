//! Findings: what an upstream's reply shows about the sending mailbox rather than about the message. Pure.

use std::time::Duration;

use super::answer::Answer;
use crate::message::Address;

/// A finding about the mailbox, with the reason and the remedy as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The mailbox has more sessions than the server allows.
    Crowded(String),
    /// The mailbox sends faster than the server allows.
    TooFast(String),
    /// The server has a problem, in general or with this mailbox. The mailbox pauses, longer each time.
    Slowed(Patience, String),
    /// The mailbox cannot send for now; [`Until`] gives the end.
    Held(Until, String),
    /// The server does not accept the mailbox's token, not even a fresh one.
    TokenRefused(String),
    /// The mailbox may not send as this sender. Further attempts would get the mailbox blocked.
    SenderRefused {
        /// The sender.
        sender: Address,
        /// The server's reply.
        answer: Answer,
        /// The remedy.
        remedy: String,
    },
    /// The mailbox's tenant cannot send to external recipients for this long.
    ExternalHeld(Duration, String),
}

impl Finding {
    /// Returns the reason, as text.
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

    /// Returns how long the mailbox is held because of this finding; `None` if it is not held.
    pub fn holds_for(&self) -> Option<Duration> {
        match self {
            Self::Held(until, _) => Some(until.lasts()),
            Self::TokenRefused(_) => Some(Until::Probe.lasts()),
            _ => None,
        }
    }

    /// True if a reply with this finding counts as one of the message's attempts. A problem that lies only
    /// with the mailbox or its tenant is not the message's fault and does not count.
    pub fn is_about_message(&self) -> bool {
        matches!(self, Self::Slowed(..) | Self::SenderRefused { .. })
    }

    /// True if the reply proves that the mailbox can sign in and be used.
    pub fn is_signed_in(&self) -> bool {
        !matches!(
            self,
            Self::Slowed(..) | Self::Held(..) | Self::TokenRefused(_)
        )
    }
}

/// How long the pauses of a mailbox can get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Up to minutes: the server may be back at any moment.
    Minutes,
    /// Up to hours: the mailbox pauses because of the mail that it has sent.
    Hours,
}

/// When a held mailbox is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// A person has to correct something. From time to time, one message is sent to test whether
    /// it has been corrected.
    Probe,
    /// The hold ends after this time.
    For(Duration),
}

/// How long a mailbox that needs a person's help is held before one message probes it.
const PROBE: Duration = Duration::from_secs(300);

impl Until {
    /// Returns how long the hold lasts.
    pub fn lasts(self) -> Duration {
        match self {
            Self::Probe => PROBE,
            Self::For(time) => time,
        }
    }
}
