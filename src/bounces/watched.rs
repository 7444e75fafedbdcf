//! A mailbox whose reports are read, and what a visit needs.

use std::sync::Arc;

use tokio::sync::Notify;

use super::handled::Handled;
use crate::base::Clock;
use crate::delivery::Delivery;
use crate::incoming::{self, Mailbox};
use crate::spool::Upkeep;

/// A mailbox whose reports are read.
#[derive(Clone)]
pub struct WatchedMailbox {
    /// The mailbox.
    pub mailbox: Arc<Mailbox>,
    /// The action for a matched report.
    pub handled: Handled,
}

impl WatchedMailbox {
    /// The host for IMAP.
    pub(super) fn host(&self) -> &str {
        self.mailbox.imap.as_ref().map_or("", |host| &host.host)
    }

    /// The name of the note that keeps the progress.
    pub(super) fn note(&self) -> String {
        let address = self.mailbox.address.to_lowercase();
        format!("bounces/{address} {}", self.host().to_lowercase())
    }
}

/// The parts of the program that a visit needs.
pub(super) struct Parts {
    pub(super) delivery: Arc<Delivery>,
    pub(super) spool: Arc<dyn Upkeep>,
    pub(super) incoming: Arc<incoming::Shared>,
    pub(super) clock: Clock,
    /// Ends the pauses after failures.
    pub(super) retry: Notify,
}
