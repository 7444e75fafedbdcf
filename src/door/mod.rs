//! Where apps connect: sockets, TLS, PROXY, users, networks, the guard against guessed passwords, counts and
//! memory, for whatever is spoken behind the door.
//!
//! ```text
//! accept ─▶ arrival (who is it, may it come in, TLS) ─▶ Visitor ─▶ Service (submission; later others)
//! ```
//!
//! The door decides and counts; what a client is told, and how, is the [`Service`]'s.

pub mod accept;
mod arrival;
pub mod counts;
mod endpoint;
pub mod guard;
pub mod limits;
pub mod password;
pub mod proxy;
mod service;
mod shared;
mod sign_in;
pub mod stream;
mod turned_away;
pub mod usage;
pub mod users;

pub use accept::Listener;
pub use endpoint::{Certificate, Endpoint, Socket, Tls};
pub use limits::{BareNewlines, Limits};
pub use password::Checks;
pub use service::{Service, Visitor};
pub use shared::{Door, Places, Settings, Stopping};
pub use sign_in::NotSignedIn;
pub use turned_away::TurnedAway;
pub use users::{User, Users};
