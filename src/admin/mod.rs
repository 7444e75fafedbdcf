//! The operator's way in: an HTTP API, for now on a Unix socket beside the spool.

pub mod accounts;
pub mod api;
mod callback;
pub mod client;

use std::path::{Path, PathBuf};

pub use accounts::Accounts;
pub use api::{Admin, Status};
pub use client::Client;

/// The socket of the process that has this spool open.
pub fn socket(spool: &Path) -> PathBuf {
    spool.join("control.sock")
}
