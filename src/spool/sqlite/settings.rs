//! What the spool of one machine goes by.

use std::path::PathBuf;
use std::time::Duration;

/// Where the spool is and how much it leaves free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The folder; made when missing.
    pub folder: PathBuf,
    /// Bytes of the disk that puts leave free, so that what is queued can still be finished.
    pub reserve: u64,
    /// How long the story of a message is kept when it has ended; zero for not at all.
    pub history: Duration,
}
