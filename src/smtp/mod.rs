//! The SMTP conversation as a state machine that performs no I/O (RFC 5321, RFC 6409).
//!
//! ```text
//! bytes ─▶ line ─▶ command ─▶ machine ─▶ Event ─▶ (the caller acts) ─▶ answer ─▶ Reply ─▶ bytes
//!                             data ───────┘
//! ```
//!
//! The caller gives input to the machine and requests the next [`Event`]. If the caller must decide (is the
//! password right, does routing admit this sender, is the message on the disk), the event is a question, and
//! nothing more is read until it is answered. Replies are collected in order, so a pipelining client (RFC
//! 2920) receives several replies in one write.

pub mod auth;
pub mod command;
pub mod data;
pub(crate) mod line;
pub(crate) mod machine;
pub(crate) mod reply;
pub(crate) mod transcript;

pub use machine::{Event, Machine, Protection, SessionSettings, Transaction};
pub use reply::Reply;
pub use transcript::{Said, Transcript};
