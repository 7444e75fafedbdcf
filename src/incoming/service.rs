//! Reading as a service behind the door.

use std::sync::Arc;

use super::protocol::ReadingProtocol;
use super::refused::Refused;
use super::session::Session;
use super::shared::Shared;
use super::{imap, pop3};
use crate::base::BoxFuture;
use crate::door::stream::ClientStream;
use crate::door::{Protocol, TurnedAway, Visitor};

/// A protocol for reading, at one listener.
#[derive(Clone)]
pub struct Incoming {
    protocol: ReadingProtocol,
    shared: Arc<Shared>,
}

impl Incoming {
    /// Creates the service; all listeners share `shared`.
    pub fn new(protocol: ReadingProtocol, shared: &Arc<Shared>) -> Self {
        Self {
            protocol,
            shared: shared.clone(),
        }
    }
}

impl Protocol for Incoming {
    fn farewell(&self, why: &TurnedAway) -> Vec<u8> {
        let why = Refused::TurnedAway(why.clone());
        match self.protocol {
            ReadingProtocol::Imap => imap::farewell(&why),
            ReadingProtocol::Pop3 => pop3::farewell(&why),
        }
    }

    fn serve(&self, visitor: Visitor) -> BoxFuture<'static, Option<ClientStream>> {
        let session = Session::new(visitor, self.protocol, self.shared.clone());
        Box::pin(session.run())
    }
}
