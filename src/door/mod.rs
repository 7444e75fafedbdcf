//! The door, where apps connect: sockets, TLS, PROXY, users, networks, the guard against password guessing,
//! session counts and memory limits. Any protocol can be behind the door.
//!
//! ```text
//! accept ─▶ arrival (client address, access, TLS) ─▶ Visitor ─▶ Protocol (submission; later others)
//! ```
//!
//! The door admits and counts clients; the [`Protocol`] decides which reply a client receives, and in which
//! form.

pub(crate) mod accept;
mod arrival;
pub(crate) mod counts;
mod endpoint;
pub(crate) mod guard;
mod knocks;
pub(crate) mod limits;
pub(crate) mod password;
pub(crate) mod proxy;
mod service;
mod shared;
mod sign_in;
pub(crate) mod stream;
mod turned_away;
pub(crate) mod usage;
pub(crate) mod users;

pub use crate::platform::connection::Connection;
pub use accept::Listener;
pub use endpoint::{Endpoint, ListenerCertificate, ListenerTls, Socket};
pub use knocks::Knock;
pub use limits::{BareNewlines, DoorLimits};
pub use password::Checks;
pub use service::{Protocol, Visitor};
pub use shared::{Dialogues, Door, DoorSettings, SessionSlots, Stopping, UserSlot};
pub use sign_in::NotSignedIn;
pub use turned_away::TurnedAway;
pub use users::{User, Users};
