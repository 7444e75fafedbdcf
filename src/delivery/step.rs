//! A wall clock that is set: by hand, or by the network's time on a machine that begins without one
//! (in 1970, or where it was switched off). What waits must neither be given up for an age that it does
//! not have, nor wait for a time that is far off now: all that is remembered moves with the clock.

use std::time::Duration;

use jiff::SignedDuration;

use crate::base::Timestamp;
use crate::observe::maillog;
use crate::spool::{Notes, Spool, SpoolError, Upkeep};

/// Where the spool keeps when it was last at work.
const NOTE: &str = "clock/seen";

/// Clocks differ by so much without anybody's doing.
const DRIFT: SignedDuration = SignedDuration::from_secs(1);

/// A clock that is set by less may have been right before.
const LARGE: SignedDuration = SignedDuration::from_mins(5);

/// Nobody leaves a queue lying for so long: the clock is wrong, or was.
const LONG: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How long a run, and one whose clock was set, tries by itself before it gives anything up: what
/// was switched off for a week, or begins with a wrong clock, is older than any message may be.
const TRIES: Duration = Duration::from_secs(3_600);

/// Whether it is so little that it can wait until it is more.
pub(super) fn is_drift(by: SignedDuration) -> bool {
    by.abs() < DRIFT
}

/// Whether the clock was wrong, so that what failed of late may have failed by it.
pub(super) fn is_large(by: SignedDuration) -> bool {
    by.abs() >= LARGE
}

/// By how much the clock seems to have been set between two runs, the first of which was last at work
/// at `seen`: where it is earlier now, or so late that it was not the queue that waited.
pub(super) fn between_runs(seen: Timestamp, now: Timestamp) -> Option<SignedDuration> {
    let by = SignedDuration::from_millis(now.0.saturating_sub(seen.0));
    (by <= -LARGE || by >= LONG).then_some(by)
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

/// Notes that the spool is at work, for the next run.
pub(super) async fn note(spool: &dyn Notes, now: Timestamp) -> Result<(), SpoolError> {
    spool.note(NOTE, Some(now.0.to_string())).await
}

/// Moves the spool with the clock.
pub(super) async fn shift(
    spool: &dyn Upkeep,
    by: SignedDuration,
    now: Timestamp,
) -> Result<(), SpoolError> {
    spool.shift(by, (NOTE, now.0.to_string())).await?;
    maillog::clock_set(by);
    Ok(())
}

/// Begins a run: where the clock was set since the last one, the spool moves with it.
pub(super) async fn resume(spool: &dyn Spool, now: Timestamp) -> Result<(), SpoolError> {
    let notes = spool.notes(NOTE).await?;
    let seen = notes.first().and_then(|(_, value)| value.parse().ok());
    match seen.and_then(|seen| between_runs(Timestamp(seen), now)) {
        Some(by) => shift(spool, by, now).await,
        None => note(spool, now).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3_600);

    #[test]
    fn a_clock_between_two_runs() {
        let seen = Timestamp(0).after(100 * DAY);
        for (now, is_step) in [
            (seen.after(29 * DAY), false),
            (seen.after(31 * DAY), true),
            (seen.before(Duration::from_secs(299)), false),
            (Timestamp(0), true),
        ] {
            let by = between_runs(seen, now);
            assert_eq!(by.is_some(), is_step, "{now}");
            assert!(by.is_none_or(|by| seen.shifted(by) == now));
        }
    }

    #[test]
    fn what_lives_shortly_is_given_up_as_soon() {
        let second = Duration::from_secs(1);
        assert!(!has_tried(Duration::ZERO, 5 * DAY) && !has_tried(Duration::ZERO, second));
        assert!(has_tried(TRIES, 5 * DAY) && has_tried(second, second));
    }
}
