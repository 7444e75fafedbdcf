//! What delivery is configured to do.

use std::time::Duration;

use super::retry::Schedule;
use super::server::Server;
use super::usage::BackOff;
use crate::message::Shown;
use crate::routing::Policy;

/// What delivery goes by.
pub struct Settings {
    /// Routing.
    pub policy: Policy,
    /// The servers, in order.
    pub servers: Vec<Server>,
    /// When to try again.
    pub schedule: Schedule,
    /// How long a server in trouble is left alone.
    pub back_off: BackOff,
    /// What becomes of a message that may have arrived.
    pub uncertain: Uncertain,
    /// When a sender is told that a message is late, if at all.
    pub warn_after: Option<Duration>,
    /// Reports to one sender in an hour; further ones are sent together.
    pub reports_per_hour: usize,
    /// The name of this host.
    pub host: String,
    /// How much of a client its message's `Received` field shows.
    pub received: Shown,
}

impl Settings {
    /// Whether there is such a server.
    pub fn has(&self, server: &str) -> bool {
        self.servers.iter().any(|known| known.name() == server)
    }
}

/// What becomes of a message that may have arrived, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uncertain {
    /// It is sent once more, after this time.
    Retry(Duration),
    /// It is held for a person.
    Hold,
}
