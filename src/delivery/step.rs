//! Changes of the wall clock: it is set by hand, or by the network's time on a machine that starts without
//! one (in 1970, or at the time when it was switched off). Waiting messages use the time of the spool, so
//! their due times do not move. But the next run must be able to see the change, and nothing is given up
//! before it was tried for an hour.

use std::time::Duration;

use jiff::SignedDuration;

use crate::base::Clock;

/// A clock that is set by less than this may have been right before.
const LARGE: SignedDuration = SignedDuration::from_mins(5);

/// How long a run tries before it gives anything up, counted from its start or from the last change of its
/// clock. After a week switched off, every message would be too old.
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

    /// The amount by which the wall clock was set since then, if it was.
    pub(super) fn was_set(&self, clock: &Clock) -> Option<SignedDuration> {
        let by = clock.offset() - self.offset;
        (!by.is_zero()).then_some(by)
    }

    /// Records that the wall clock was set by this amount. Returns true if the change is large, so that it
    /// may be the cause of recent failures.
    pub(super) fn follow(&mut self, by: SignedDuration, clock: &Clock) -> bool {
        self.offset += by;
        let is_much = by.abs() >= LARGE;
        if is_much {
            self.set = clock.steady();
        }
        is_much
    }
}

/// True if a run of this age, counted from the last large change of its clock, may give up messages whose
/// lifetime `expires_after` has passed.
pub(super) fn has_tried(age: Duration, expires_after: Duration) -> bool {
    tries_for(age, expires_after).is_zero()
}

/// How much longer such a run must keep trying.
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
