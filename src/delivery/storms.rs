//! The record of recent reports to each sender, shared by all workers.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::bounce::storm::{Storm, Told};
use crate::base::{MessageId, Timestamp};
use crate::message::Address;
use crate::spool::{Origin, Record};

/// The [`Storm`] that all workers share.
#[derive(Default)]
pub(super) struct Storms(Mutex<Storm>);

impl Storms {
    fn storm(&self) -> MutexGuard<'_, Storm> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a message is about to be sent; see [`Storm::leaves`].
    pub(super) fn leaves(&self, record: &Record) {
        if record.origin == Origin::Digest {
            self.storm().leaves(record.id);
        }
    }

    /// Decides in which form a sender receives a report; see [`Storm::tell`].
    pub(super) fn tell(
        &self,
        to: &Address,
        most: usize,
        lines: usize,
        id: MessageId,
        now: Timestamp,
    ) -> Told {
        self.storm().tell(to, most, lines, id, now)
    }
}
