//! The vault is one process's at a time.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use super::error::{VaultError, io};
use crate::base::lock::lock_within;
use crate::platform::files;

/// How long a command may have the vault for.
const WAIT: Duration = Duration::from_secs(2);

/// The lock, which a command may have for a moment; or who has it.
pub(super) fn lock(folder: &Path) -> Result<File, VaultError> {
    let path = folder.join("lock");
    let file = files::open_private(&path).map_err(|error| io(&path, error))?;
    match lock_within(&file, WAIT) {
        Ok(()) => {
            // Told to those who find it taken; a lock without it is one all the same.
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
