//! A protocol behind the door.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::endpoint::Endpoint;
use super::shared::Door;
use super::stream::ClientStream;
use super::turned_away::TurnedAway;
use crate::base::BoxFuture;

/// A client that the door has admitted.
pub struct Visitor {
    /// The connection, already with TLS if TLS is implicit.
    pub stream: ClientStream,
    /// The client's address; behind a proxy, the one that the proxy names.
    pub peer: IpAddr,
    /// The listener, with its current settings.
    pub endpoint: Arc<ArcSwap<Endpoint>>,
    /// The state that all listeners share.
    pub door: Arc<Door>,
}

/// A protocol behind the door.
pub trait Protocol: Send + Sync + 'static {
    /// Returns the reply to a client that is turned away, in the protocol's format.
    fn farewell(&self, why: &TurnedAway) -> Vec<u8>;

    /// Serves a client until the session ends. If this side ended the session, returns the connection, which
    /// the caller closes.
    fn serve(&self, visitor: Visitor) -> BoxFuture<'static, Option<ClientStream>>;
}
