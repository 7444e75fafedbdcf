//! Where apps connect: sockets, TLS, PROXY, users, networks, the guard against guessed passwords, counts and
//! memory, for whatever is spoken behind the door.
//!
//! ```text
//! accept ─▶ arrival (who is it, may it come in, TLS) ─▶ Visitor ─▶ Service (submission; later others)
//! ```
//!
//! The door decides and counts; what a client is told, and how, is the [`Protocol`]'s.

pub(crate) mod accept;
mod arrival;
pub(crate) mod counts;
mod endpoint;
pub(crate) mod guard;
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

pub use accept::Listener;
pub use endpoint::{Endpoint, ListenerCertificate, ListenerTls, Socket};
pub use limits::{BareNewlines, DoorLimits};
pub use password::Checks;
pub use service::{Protocol, Visitor};
pub use shared::{Door, DoorSettings, Places, Stopping};
pub use sign_in::NotSignedIn;
pub use turned_away::TurnedAway;
pub use users::{User, Users};
