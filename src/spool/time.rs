//! The time of the spool. It goes on by itself while the program runs, whatever happens to the wall clock,
//! so that nobody who sets that makes a message old or wait. From one run to the next it goes on with the
//! wall clock, unless that was set meanwhile. The spool keeps one note of it.

use jiff::SignedDuration;

use super::{Notes, SpoolError};
use crate::base::{Clock, Timestamp};
use crate::observe::maillog;

/// Where the spool keeps what time it was last: its own, and what the wall clock showed then.
const NOTE: &str = "clock/seen";

/// A wall clock that shows this much less than before was set back.
const BACK: SignedDuration = SignedDuration::from_mins(5);

/// Nobody leaves a queue lying for this long: the wall clock is wrong, or was.
const LONG: SignedDuration = SignedDuration::from_hours(30 * 24);

/// What a note says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TimeNote {
    /// The time of the spool.
    at: Timestamp,
    /// What the wall clock showed.
    wall: Timestamp,
}

impl TimeNote {
    /// Notes of before version 0.3 have one number: the two were the same.
    fn parse(text: &str) -> Option<Self> {
        let (at, wall) = text.split_once(' ').unwrap_or((text, text));
        let instant = |text: &str| text.parse().ok().map(Timestamp);
        Some(Self {
            at: instant(at)?,
            wall: instant(wall)?,
        })
    }

    /// What time it is for the spool if the wall clock shows this; by how much that seems to have been set
    /// meanwhile, if it was: it shows an earlier time, or one so late that it was not the queue that waited.
    fn now(self, wall: Timestamp) -> (Timestamp, Option<SignedDuration>) {
        let passed = SignedDuration::from_millis(wall.0.saturating_sub(self.wall.0));
        let was_set = passed <= -BACK || passed >= LONG;
        let passed_since = if was_set {
            SignedDuration::ZERO
        } else {
            passed
        };
        let now = self.at.shifted(passed_since).max(self.at);
        (now, was_set.then_some(passed))
    }
}

/// Notes what time it is, for the next run.
pub(crate) async fn note(spool: &dyn Notes, clock: &Clock) -> Result<(), SpoolError> {
    let value = format!("{} {}", clock.now().0, clock.wall().0);
    spool.note(NOTE, Some(value)).await
}

/// Sets `clock`, by which nothing was measured yet, to the time of the spool.
pub(crate) async fn resume(spool: &dyn Notes, clock: &Clock) -> Result<(), SpoolError> {
    let notes = spool.notes(NOTE).await?;
    let seen = notes.first().and_then(|(_, value)| TimeNote::parse(value));
    if let Some(seen) = seen {
        let (now, set) = seen.now(clock.wall());
        clock.begin_at(now);
        set.into_iter().for_each(maillog::clock_set);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3_600);

    #[test]
    fn the_time_of_the_spool_goes_on_with_the_wall_clock_unless_that_was_set() {
        let (at, wall) = (Timestamp(5_000_000), Timestamp(0).after(100 * DAY));
        let seen = TimeNote { at, wall };
        for (shows, passed, was_set) in [
            (wall.after(29 * DAY), 29 * DAY, false),
            (wall.after(31 * DAY), Duration::ZERO, true),
            (wall.before(Duration::from_secs(299)), Duration::ZERO, false),
            (Timestamp(0), Duration::ZERO, true),
        ] {
            let (now, set) = seen.now(shows);
            assert_eq!((now, set.is_some()), (at.after(passed), was_set), "{shows}");
        }
        assert_eq!(
            TimeNote::parse("7 9"),
            Some(TimeNote {
                at: Timestamp(7),
                wall: Timestamp(9)
            })
        );
        assert_eq!(
            TimeNote::parse("7"),
            Some(TimeNote {
                at: Timestamp(7),
                wall: Timestamp(7)
            })
        );
        assert_eq!(TimeNote::parse("x 9"), None);
    }
}
