//! The SMTP conversation as a state machine that performs no I/O (RFC 5321, RFC 6409).
//!
//! ```text
//! bytes ─▶ line ─▶ command ─▶ machine ─▶ Event ─▶ (the listener acts) ─▶ answer ─▶ Reply ─▶ bytes
//!                             data ───────┘
//! ```
//!
//! The machine is given input and asked for the next [`Event`]. Where the world has a say (is the
//! password right, does routing admit this sender, is the message on the disk) the event is a
//! question, and nothing more is read until it is answered. Replies collect in order, so a client
//! that pipelines (RFC 2920) is answered in as few writes as its commands came in.

pub mod auth;
pub mod command;
pub mod data;
pub(crate) mod line;
pub(crate) mod machine;
pub(crate) mod reply;

pub use machine::{Event, Machine, Protection, SessionSettings, Transaction};
pub use reply::Reply;
