//! A protocol that is spoken behind the door.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::endpoint::Endpoint;
use super::shared::Door;
use super::stream::ClientStream;
use super::turned_away::TurnedAway;
use crate::base::BoxFuture;

/// A client that has been let in.
pub struct Visitor {
    /// The connection, with TLS if that comes first of all.
    pub stream: ClientStream,
    /// Its address, or the one that a proxy names.
    pub peer: IpAddr,
    /// The listener, as it is configured by now.
    pub endpoint: Arc<ArcSwap<Endpoint>>,
    /// What all listeners share.
    pub door: Arc<Door>,
}

/// A protocol that is spoken behind the door.
pub trait Protocol: Send + Sync + 'static {
    /// What a client is told that is turned away, as the protocol has it.
    fn farewell(&self, why: &TurnedAway) -> Vec<u8>;

    /// Serves a client to its end; gives the connection if the last word was ours.
    fn serve(&self, visitor: Visitor) -> BoxFuture<'static, Option<ClientStream>>;
}
