//! The wall clock is set: by hand, or by the network's time on a machine that begins without one (in
//! 1970, or at the time when it was switched off). What waits goes by the time of the spool, so nothing
//! moves; but the next run must know of it, and nothing is given up before it was tried for an hour.

use std::time::Duration;

use jiff::SignedDuration;

use crate::base::Clock;

/// A clock that is set by less may have been right before.
const LARGE: SignedDuration = SignedDuration::from_mins(5);

/// How long a run, and one whose clock was set, tries by itself before it gives anything up: what
/// was switched off for a week is older than any message may be.
const TRIES: Duration = Duration::from_secs(3_600);

/// How far the wall clock is ahead of the time of the spool, as was last noted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Noted {
    offset: SignedDuration,
    /// When it was last set by much, or when the run began, in steady time.
    pub(super) set: Duration,
}

impl Noted {
    /// At the beginning of a run.
    pub(super) fn begin(clock: &Clock) -> Self {
        Self {
            offset: clock.offset(),
            set: clock.steady(),
        }
    }

    /// By how much the wall clock was set since, if it was.
    pub(super) fn was_set(&self, clock: &Clock) -> Option<SignedDuration> {
        let by = clock.offset() - self.offset;
        (!by.is_zero()).then_some(by)
    }

    /// The wall clock was set by this much; whether that is much, so that what failed of late may have
    /// failed by it.
    pub(super) fn follow(&mut self, by: SignedDuration, clock: &Clock) -> bool {
        self.offset += by;
        let is_much = by.abs() >= LARGE;
        if is_much {
            self.set = clock.steady();
        }
        is_much
    }
}

/// Whether a run that is so old, counted from when its clock was last set, may give messages up that
/// `expires_after` has passed for.
pub(super) fn has_tried(age: Duration, expires_after: Duration) -> bool {
    tries_for(age, expires_after).is_zero()
}

/// How much longer such a run only tries.
pub(super) fn tries_for(age: Duration, expires_after: Duration) -> Duration {
    TRIES.min(expires_after).saturating_sub(age)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3_600);

    #[test]
    fn what_lives_shortly_is_given_up_as_soon() {
        let second = Duration::from_secs(1);
        assert!(!has_tried(Duration::ZERO, 5 * DAY) && !has_tried(Duration::ZERO, second));
        assert!(has_tried(TRIES, 5 * DAY) && has_tried(second, second));
    }
}
