//! What delivery is configured to do.

use super::options::DeliveryOptions;
use super::server::Server;
use crate::message::Shown;
use crate::routing::Policy;

/// What delivery goes by.
pub struct DeliverySettings {
    /// Routing.
    pub policy: Policy,
    /// The servers, in order.
    pub servers: Vec<Server>,
    /// When to try again, and when to give up.
    pub options: DeliveryOptions,
    /// The name of this host.
    pub host: String,
    /// How much of a client its message's `Received` field shows.
    pub received: Shown,
}

impl DeliverySettings {
    /// Whether there is such a server.
    pub fn has(&self, server: &str) -> bool {
        self.servers.iter().any(|known| known.name() == server)
    }
}
