//! The time of the spool. While the program runs, this time advances on its own, whatever happens to the wall
//! clock: setting the wall clock neither ages nor delays a message. Between two runs, it advances with the
//! wall clock, unless the wall clock was set meanwhile. A note in the spool stores the last known time.

use jiff::SignedDuration;

use super::{Notes, SpoolError};
use crate::base::{Clock, Timestamp};
use crate::observe::maillog;

/// The name of the note with the last known time of the spool, and the wall clock at that time.
pub(super) const NOTE: &str = "clock/seen";

/// If the wall clock is this far behind the last noted time, it was set back.
const BACK: SignedDuration = SignedDuration::from_mins(5);

/// If the wall clock has advanced this much between two runs, it is wrong now, or was wrong before: nobody
/// stops the program for this long.
const LONG: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The contents of the note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimeNote {
    /// The time of the spool.
    pub(super) at: Timestamp,
    /// The time that the wall clock showed.
    pub(super) wall: Timestamp,
}

impl TimeNote {
    /// Reads a note. Notes from before version 0.3 have only one number, because the two times were the
    /// same.
    fn parse(text: &str) -> Option<Self> {
        let (at, wall) = text.split_once(' ').unwrap_or((text, text));
        let instant = |text: &str| text.parse().ok().map(Timestamp);
        Some(Self {
            at: instant(at)?,
            wall: instant(wall)?,
        })
    }

    /// Returns the time of the spool when the wall clock shows `wall`. If somebody seems to have set the wall
    /// clock since the note (it went back by [`BACK`] or more, or ahead by [`LONG`] or more), also returns
    /// the change.
    pub(super) fn now(self, wall: Timestamp) -> (Timestamp, Option<SignedDuration>) {
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

/// Returns the value of the note if the time of the spool is `at` when the wall clock shows `wall`.
pub(super) fn text(at: Timestamp, wall: Timestamp) -> String {
    format!("{} {}", at.0, wall.0)
}

/// Stores the present time for the next run.
pub async fn note(spool: &dyn Notes, clock: &Clock) -> Result<(), SpoolError> {
    spool
        .note(NOTE, Some(text(clock.now(), clock.wall())))
        .await
}

/// Sets `clock` to the time of the spool. This must happen before anything is measured with `clock`.
pub async fn resume(spool: &dyn Notes, clock: &Clock) -> Result<(), SpoolError> {
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
