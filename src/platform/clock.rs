//! A clock that nobody sets.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time since the system started; on Linux the time that it slept counts too.
pub(crate) fn steady() -> Duration {
    #[cfg(target_os = "linux")]
    const STEADY: ClockId = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    const STEADY: ClockId = ClockId::Monotonic;
    clock_gettime(STEADY).try_into().unwrap_or_default()
}
