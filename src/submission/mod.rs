//! Mail from apps: drives an [`smtp`](crate::smtp) machine over each connection that the door lets in, and
//! puts each message into the spool.
//!
//! ```text
//! door ─ Visitor ─▶ connection (a session) ─▶ message ─▶ routing, permission ─▶ spool
//!                       └ refusals are data, put into words in `wording`
//! ```
//!
//! The reply 250 is sent once the spool has the message, and not before. Submission uses delivery only
//! through one trait, [`Direct`], for servers in direct mode: the app receives the upstream's own reply.

mod connection;
mod direct;
pub(crate) mod permission;
mod service;
mod shared;
pub mod wording;

pub use direct::{Answered, Direct};
pub use service::Submission;
pub use shared::{Shared, SubmissionOptions, SubmissionSettings};
