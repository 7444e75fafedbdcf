//! Changes of the wall clock: it is set by hand, or by NTP on a machine whose own clock starts in 1970 or at
//! the time of the last shutdown. Due times are in the time of the spool, so they do not move. But the change
//! is recorded for the next run, and after a large change no message is given up until this run has tried for
//! another hour.

use std::time::Duration;

use jiff::SignedDuration;

use crate::base::Clock;

/// The smallest change that counts as large. A smaller error of the clock is unlikely to cause failures.
const LARGE: SignedDuration = SignedDuration::from_mins(5);

/// How long a run tries before it gives any message up, counted from its start or from the last large change
/// of the wall clock. Without this, a machine that was switched off for a week would give up every message at
/// once.
const TRIES: Duration = Duration::from_secs(3_600);

/// How far the wall clock is ahead of the time of the spool, as last recorded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Noted {
    offset: SignedDuration,
    /// The time of the last large change, or of the start of the run, in steady time.
    pub(super) set: Duration,
}

impl Noted {
    /// Records the offset at the start of a run.
    pub(super) fn begin(clock: &Clock) -> Self {
        Self {
            offset: clock.offset(),
            set: clock.steady(),
        }
    }

    /// Returns the amount by which the wall clock has been set since the offset was recorded, if it has been
    /// set.
    pub(super) fn was_set(&self, clock: &Clock) -> Option<SignedDuration> {
        let by = clock.offset() - self.offset;
        (!by.is_zero()).then_some(by)
    }

    /// Records that the wall clock was set by this amount. Returns true if the change is large enough for the
    /// wrong time to have caused recent failures.
    pub(super) fn follow(&mut self, by: SignedDuration, clock: &Clock) -> bool {
        self.offset += by;
        let is_much = by.abs() >= LARGE;
        if is_much {
            self.set = clock.steady();
        }
        is_much
    }
}

/// True if a run of this age may give up messages whose lifetime `expires_after` has passed. The age counts
/// from the start of the run or from the last large change of the wall clock.
pub(super) fn has_tried(age: Duration, expires_after: Duration) -> bool {
    tries_for(age, expires_after).is_zero()
}

/// Returns how much longer a run of this age must keep trying before it may give up those messages.
pub(super) fn tries_for(age: Duration, expires_after: Duration) -> Duration {
    TRIES.min(expires_after).saturating_sub(age)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3_600);

    #[test]
    fn a_short_expiry_shortens_the_first_hour() {
        let second = Duration::from_secs(1);
        assert!(!has_tried(Duration::ZERO, 5 * DAY) && !has_tried(Duration::ZERO, second));
        assert!(has_tried(TRIES, 5 * DAY) && has_tried(second, second));
    }
}
