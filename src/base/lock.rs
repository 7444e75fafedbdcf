//! Locks on files, which one process has at a time.

use std::fs::{File, TryLockError};
use std::time::{Duration, Instant};

/// The pause between two looks at a lock.
const PAUSE: Duration = Duration::from_millis(20);

/// Locks `file` within this time: a process that only looks at the lock, or ends just now, gives it back
/// soon. Blocks the thread.
pub(crate) fn lock_within(file: &File, within: Duration) -> Result<(), TryLockError> {
    let begin = Instant::now();
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if begin.elapsed() < within => std::thread::sleep(PAUSE),
            locked => return locked,
        }
    }
}
