//! Connections in: accepts, protects, and drives a [`session`](crate::session) over each.
//!
//! A message is answered 250 once the spool has it, and not before. What the listener knows of
//! delivery is one trait, [`Direct`], for servers whose own answer the app is to hear.

pub mod accept;
pub mod connection;
pub mod stream;
pub mod users;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::base::BoxFuture;
use crate::message::Priority;
use crate::routing::Policy;
use crate::session::{self, Reply};
use crate::spool::{Content, Record};
pub use accept::{Listener, Shared};
pub use users::{User, Users};

/// Where apps connect.
#[derive(Clone)]
pub struct Endpoint {
    /// Address and port.
    pub address: SocketAddr,
    /// The certificate, where STARTTLS is offered.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Whether a session may go on without TLS.
    pub plaintext: bool,
    /// How urgent what comes in here is, where its user does not say.
    pub priority: Option<Priority>,
}

/// What sessions go by; those under way see a change at their next command.
pub struct Settings {
    /// The conversation's own limits.
    pub session: Arc<session::Settings>,
    /// Routing.
    pub policy: Policy,
    /// Who may send.
    pub users: Users,
    /// The servers in direct mode.
    pub direct: HashSet<String>,
    /// How long a client may be silent.
    pub idle_time: Duration,
    /// How long a session may last.
    pub session_time: Duration,
    /// Sessions at once.
    pub sessions: usize,
}

/// Sends a message at once and gives the upstream's own answer; made by whoever knows delivery.
pub trait Direct: Send + Sync + 'static {
    /// The reply for the app, whatever it is.
    fn submit<'a>(&'a self, record: &'a Record, content: &'a Content) -> BoxFuture<'a, Reply>;
}
