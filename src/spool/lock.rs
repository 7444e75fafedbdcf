//! The lock on the spool's folder.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use super::SpoolError;
use crate::base::lock::lock_within;

/// The process that has the spool open holds a lock on this file.
pub(super) const FILE: &str = "lock";

/// The time to wait for another process to release the lock, because a command that only checks the lock
/// holds it for a moment.
const LOCK_WAIT: Duration = Duration::from_millis(200);

/// Makes this process the only one that uses the folder, until the returned file is dropped.
pub(super) fn lock(folder: &Path) -> Result<File, SpoolError> {
    let path = folder.join(FILE);
    let io = |error| SpoolError::io(&path, error);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(io)?;
    match lock_within(&file, LOCK_WAIT) {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SpoolError::InUse {
            folder: folder.display().to_string(),
        }),
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}
