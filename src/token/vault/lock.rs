//! The lock of the vault: only one process holds it at a time.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use super::error::{VaultError, io};
use crate::base::lock::lock_within;
use crate::platform::files;

/// How long to wait for a command that holds the lock.
const WAIT: Duration = Duration::from_secs(2);

/// Locks the vault; waits a little, because a command may hold the lock for a moment. The error names the
/// process that holds the lock.
pub(super) fn lock(folder: &Path) -> Result<File, VaultError> {
    let path = folder.join("lock");
    let file = files::open_private(&path).map_err(|error| io(&path, error))?;
    match lock_within(&file, WAIT) {
        Ok(()) => {
            // Processes that cannot get the lock report this process id. The lock works without it.
            let _ = std::fs::write(&path, std::process::id().to_string());
            Ok(file)
        }
        Err(std::fs::TryLockError::WouldBlock) => {
            let pid = std::fs::read_to_string(&path).unwrap_or_default();
            let pid = pid.trim().parse::<u32>().ok();
            Err(VaultError::InUse {
                folder: folder.display().to_string(),
                pid: pid.map_or(String::new(), |pid| format!(" (pid {pid})")),
            })
        }
        Err(std::fs::TryLockError::Error(error)) => Err(io(&path, error)),
    }
}
