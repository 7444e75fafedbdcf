//! The configuration of delivery.

use super::options::DeliveryOptions;
use super::server::Server;
use crate::message::Shown;
use crate::routing::{Policy, lane};

/// The settings of delivery.
pub struct DeliverySettings {
    /// The routing policy.
    pub policy: Policy,
    /// The servers, in the order of the configuration.
    pub servers: Vec<Server>,
    /// The options of the table `[delivery]`.
    pub options: DeliveryOptions,
    /// The name of this host.
    pub host: String,
    /// How much the `Received` field reveals about the client.
    pub received: Shown,
}

impl DeliverySettings {
    /// True if a server with this name is configured.
    pub fn has(&self, server: &str) -> bool {
        let server = lane::server(server);
        self.servers.iter().any(|known| known.name() == server)
    }
}
