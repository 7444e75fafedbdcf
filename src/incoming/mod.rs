//! Apps read their mailboxes: IMAP and POP3, passed through to the mail server once the app has signed in.
//!
//! ```text
//! door ─ Visitor ─▶ session ─ machine: the conversation up to the sign-in
//!                      │ SignIn ─▶ door (password), mailbox (who reads what), token
//!                      ├ upstream: mailferry signs in to the mail server
//!                      └ pass: octets both ways, without parsing
//! ```
//!
//! What a client is told is worded in [`refused`] only. A hold of sending does not stop reading.

pub(crate) mod error;
pub mod imap;
pub(crate) mod machine;
pub(crate) mod mailbox;
mod pass;
pub mod pop3;
pub(crate) mod protocol;
pub(crate) mod refused;
pub(crate) mod remedy;
pub(crate) mod service;
mod session;
pub(crate) mod shared;
mod test;
pub(crate) mod upstream;

pub use machine::{Event, Protection, SignInMachine};
pub use mailbox::{IncomingSettings, Mailbox};
pub use protocol::ReadingProtocol;
pub use refused::Refused;
pub use service::Incoming;
pub use shared::Shared;
