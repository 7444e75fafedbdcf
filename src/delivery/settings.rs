//! The configuration of delivery.

use super::options::DeliveryOptions;
use super::server::Server;
use crate::message::Shown;
use crate::routing::Policy;

/// The settings of delivery.
pub struct DeliverySettings {
    /// Routing.
    pub policy: Policy,
    /// The servers, in order.
    pub servers: Vec<Server>,
    /// The times of retries and of giving up.
    pub options: DeliveryOptions,
    /// The name of this host.
    pub host: String,
    /// How much the `Received` field reveals about the client.
    pub received: Shown,
}

impl DeliverySettings {
    /// True if there is such a server.
    pub fn has(&self, server: &str) -> bool {
        self.servers.iter().any(|known| known.name() == server)
    }
}
