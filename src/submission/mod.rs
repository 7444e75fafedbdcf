//! Mail from apps: drives an [`smtp`](crate::smtp) machine over each connection that the door lets in, and puts
//! each message into the spool.
//!
//! ```text
//! door ─ Visitor ─▶ connection (a session) ─▶ message ─▶ routing, permission ─▶ spool
//!                       └ refusals are data, put into words in `wording`
//! ```
//!
//! A message is answered 250 once the spool has it, and not before. What submission knows of delivery is one
//! trait, [`Direct`], for servers whose own answer the app is to hear.

mod connection;
mod direct;
pub(crate) mod permission;
mod service;
mod shared;
pub mod wording;

pub use direct::{Answered, Direct};
pub use service::Submission;
pub use shared::{Shared, SubmissionOptions, SubmissionSettings};
