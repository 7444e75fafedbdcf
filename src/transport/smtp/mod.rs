//! SMTP as the way out: a signed-in session with a server sends one message after another.
//!
//! ```text
//! session ─ open: connect, TLS, EHLO, sign in ─▶ server
//!    │ send: MAIL, RCPT, DATA or BDAT ─▶ Transcript ─ judge, table ─▶ Outcome
//!    └ Failure ─ judge, table ─▶ Interruption
//! ```
//!
//! The client side is our own code: replies kept word for word, XOAUTH2 in two steps, MAIL and its RCPTs in one write, a timeout
//! for each phase, and dot-stuffing while the content is streamed.
#![doc = include_str!("exchange_online.md")]

mod command;
pub(crate) mod failure;
pub(crate) mod judge;
pub(crate) mod link;
pub(crate) mod probe;
pub(crate) mod reaction;
mod remedy;
pub mod reply;
pub(crate) mod reported;
pub(crate) mod sasl;
pub(crate) mod server;
pub(crate) mod session;
mod sign_in;
pub(crate) mod stage;
pub(crate) mod stuff;
pub mod table;
mod wait;

pub use failure::Failure;
pub use judge::{interruption, outcome};
pub use link::Smtp;
pub use reaction::Reaction;
pub use reported::reported;
pub use server::{Auth, SmtpServer};
pub use session::{Session, Transcript};
pub use stage::Stage;
