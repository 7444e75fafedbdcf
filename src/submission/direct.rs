//! Servers in `direct` mode: the app waits until its message is sent and gets the upstream's own reply.

use super::wording;
use crate::base::BoxFuture;
use crate::routing::Refusal;
use crate::smtp::Reply;
use crate::spool::{Content, Record};

/// Sends a message at once. The part of the program that handles delivery implements this trait.
pub trait Direct: Send + Sync + 'static {
    /// Sends the message and returns the result.
    fn submit<'a>(&'a self, record: &'a Record, content: &'a Content) -> BoxFuture<'a, Answered>;
}

/// The result of sending a message at once.
#[derive(Debug)]
pub enum Answered {
    /// The upstream's own reply.
    Upstream {
        /// The three digits of RFC 5321 §4.2.
        code: u16,
        /// The enhanced code, empty if the reply has none.
        enhanced: String,
        /// The text.
        text: String,
    },
    /// Routing does not admit the message.
    Refused(Refusal),
    /// The message was not sent because of a problem with the server, not with the message.
    Trouble(String),
    /// The message cannot be sent just now. The log has the reason.
    Unavailable,
}

impl Answered {
    /// Returns the reply to the app.
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
