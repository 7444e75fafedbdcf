//! The table `[spool]` of the configuration, for the spool of one machine.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::written;

/// The spool's folder, and the disk space that it leaves free.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpoolSettings {
    /// The folder, inside `data_dir`. It is created if it is missing.
    #[serde(skip)]
    pub folder: PathBuf,
    /// The disk space, in octets, that new messages must leave free, so that queued messages can still be
    /// finished. Default: `4194304`.
    pub reserve: u64,
    /// The time for which a message's story is kept after the message has ended (`mailferry trace`); zero keeps no
    /// stories. Default: `"30 days"`.
    #[serde(deserialize_with = "written::wait")]
    pub history: Duration,
}

impl Default for SpoolSettings {
    /// Sets a reserve of 4 MiB and a history of 30 days.
    fn default() -> Self {
        Self {
            folder: PathBuf::new(),
            reserve: 4 * 1024 * 1024,
            history: Duration::from_secs(30 * 24 * 3_600),
        }
    }
}
