//! A clock that nobody can set.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Returns the time since the system started. On Linux, this includes the time during which the system was
/// suspended.
pub(crate) fn steady() -> Duration {
    #[cfg(target_os = "linux")]
    const STEADY: ClockId = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    const STEADY: ClockId = ClockId::Monotonic;
    clock_gettime(STEADY).try_into().unwrap_or_default()
}
