//! The decision about an operator's action on a message. Pure.

use super::{EventKind, OperatorAction, Record, State};
use crate::base::Timestamp;

/// The result of an action on a message.
#[derive(Debug)]
pub struct Acted {
    /// The message's new record; `None` if the message is removed.
    pub record: Option<Record>,
    /// The event for the message's story.
    pub event: EventKind,
}

impl OperatorAction {
    /// Decides what the action makes of an unclaimed message; `None` if it changes nothing. `named` is true if the
    /// operator named the message by its id.
    pub fn on(&self, record: &Record, now: Timestamp, named: bool) -> Option<Acted> {
        match self {
            Self::Release if record.state != State::Held => None,
            // An operator who retries many messages at once does not mean those that may have arrived.
            Self::Retry if !named && record.state == State::Held && record.uncertain => None,
            Self::Retry | Self::Release => Some(Acted {
                record: Some(Record {
                    due: now,
                    state: State::Queued,
                    lane: String::new(),
                    ..record.clone()
                }),
                event: EventKind::Retried,
            }),
            Self::Hold(reason) => Some(Acted {
                record: Some(Record {
                    state: State::Held,
                    last: Some(reason.clone()),
                    ..record.clone()
                }),
                event: EventKind::Held {
                    reason: reason.clone(),
                },
            }),
            Self::Delete => Some(Acted {
                record: None,
                event: EventKind::Deleted,
            }),
        }
    }
}
