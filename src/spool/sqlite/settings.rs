//! The table `[spool]` of the configuration, for the spool of one machine.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::written;

/// Where the spool is, and how much it leaves free.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpoolSettings {
    /// The folder; made when missing. It is a part of `data_dir`.
    #[serde(skip)]
    pub folder: PathBuf,
    /// Bytes of the disk that puts leave free, so that what is queued can still be finished.
    pub reserve: u64,
    /// How long the story of a message is kept when it has ended; zero for not at all.
    #[serde(deserialize_with = "written::wait")]
    pub history: Duration,
}

impl Default for SpoolSettings {
    /// 4 MiB, and 30 days.
    fn default() -> Self {
        Self {
            folder: PathBuf::new(),
            reserve: 4 * 1024 * 1024,
            history: Duration::from_secs(30 * 24 * 3_600),
        }
    }
}
