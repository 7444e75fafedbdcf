//! Locks on files. One process holds a lock at a time.

use std::fs::{File, TryLockError};
use std::time::{Duration, Instant};

/// The pause between two attempts to take a lock.
const PAUSE: Duration = Duration::from_millis(20);

/// Locks `file`. Keeps trying for the time `within`, because a process that only checks the lock, or is about
/// to end, releases it soon. Blocks the thread.
pub(crate) fn lock_within(file: &File, within: Duration) -> Result<(), TryLockError> {
    let begin = Instant::now();
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if begin.elapsed() < within => std::thread::sleep(PAUSE),
            locked => return locked,
        }
    }
}
