//! Where messages are stored, and for how long.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::postgres::PostgresSettings;

/// The settings of the spool, for each engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpoolSettings {
    /// The folder, inside `data_dir`. It is created if it is missing.
    #[serde(skip)]
    pub folder: PathBuf,
    /// The disk space, in octets, that new messages must leave free, so that queued messages can still be finished.
    pub reserve: u64,
    /// The time for which a message's story is kept after the message has ended; zero keeps no stories.
    pub history: Duration,
    /// The database that several nodes share, if messages are stored there and not in the folder.
    pub postgresql: Option<PostgresSettings>,
}

impl Default for SpoolSettings {
    /// Sets a reserve of 4 MiB and a history of 30 days, in a folder.
    fn default() -> Self {
        Self {
            folder: PathBuf::new(),
            reserve: 4 * 1024 * 1024,
            history: Duration::from_secs(30 * 24 * 3_600),
            postgresql: None,
        }
    }
}
