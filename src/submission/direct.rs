//! Servers in `direct` mode: the app waits until its message is sent, and hears the upstream's own answer.

use super::wording;
use crate::base::BoxFuture;
use crate::routing::Refusal;
use crate::smtp::Reply;
use crate::spool::{Content, Record};

/// Sends a message at once; implemented by the part of the program that knows delivery.
pub trait Direct: Send + Sync + 'static {
    /// Sends it, and tells how that ended.
    fn submit<'a>(&'a self, record: &'a Record, content: &'a Content) -> BoxFuture<'a, Answered>;
}

/// How a message that was sent at once has ended.
#[derive(Debug)]
pub enum Answered {
    /// The upstream's own answer.
    Upstream {
        /// The three digits of RFC 5321 §4.2.
        code: u16,
        /// The enhanced code, empty if the answer has none.
        enhanced: String,
        /// The text.
        text: String,
    },
    /// Routing does not admit it.
    Refused(Refusal),
    /// Trouble with the server, which is not the message's fault.
    Trouble(String),
    /// It cannot be sent just now, for a reason that is in the log.
    Unavailable,
}

impl Answered {
    /// What the app is told.
    pub(super) fn reply(self) -> Reply {
        match self {
            Self::Upstream {
                code,
                enhanced,
                text,
            } => Reply::new(code, enhanced, text),
            Self::Refused(refusal) => wording::not_routed(&refusal.why),
            Self::Trouble(reason) => wording::upstream_trouble(&reason),
            Self::Unavailable => Reply::try_again(),
        }
    }
}
