//! The operator's ways in: an HTTP API on a Unix socket beside the spool, and a page.

pub mod accounts;
pub mod api;
mod callback;
pub mod client;
mod metrics;
pub mod parts;
pub mod queue;
pub mod row;
pub mod web;

use std::path::{Path, PathBuf};

pub use accounts::Accounts;
pub use api::Admin;
pub use client::Client;
pub use parts::Parts;
pub use web::Web;

/// The socket of the process that has this spool open.
pub fn socket(spool: &Path) -> PathBuf {
    spool.join("control.sock")
}
