//! The times at which a message is retried or given up. Pure.

use std::time::Duration;

use crate::base::Timestamp;

/// The waits between attempts, and the total time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Schedule<'a> {
    /// The wait after the first attempt, the second, and so on; the last one repeats. Never empty.
    pub waits: &'a [Duration],
    /// The time from acceptance to giving up.
    pub expires_after: Duration,
}

/// The default waits: 1, 5, 15, 30, 60 minutes, then every hour.
pub(crate) const WAITS: [Duration; 5] = [
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(3_600),
];

/// The default time until a message is given up (RFC 5321 §4.5.4.1: 4 to 5 days).
pub(crate) const EXPIRES_AFTER: Duration = Duration::from_secs(5 * 24 * 3_600);

/// The fraction by which a wait may be shorter or longer, so that messages that failed together are not all
/// retried at the same time.
const JITTER: f64 = 0.1;

impl Schedule<'_> {
    /// Returns the time of the next attempt for a message that was received at `received` and has been tried
    /// `attempts` times, the last time at `now`. `None` if the message expires before that attempt. `random`
    /// is in 0..1.
    pub(crate) fn next(
        &self,
        received: Timestamp,
        attempts: u32,
        now: Timestamp,
        random: f64,
    ) -> Option<Timestamp> {
        let place = (attempts.max(1) as usize - 1).min(self.waits.len().saturating_sub(1));
        let wait = self
            .waits
            .get(place)
            .copied()
            .unwrap_or(Duration::from_secs(3_600));
        let next = now.after(wait.mul_f64(1.0 - JITTER + 2.0 * JITTER * random));
        (next < received.after(self.expires_after)).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const USUAL: Schedule = Schedule {
        waits: &WAITS,
        expires_after: EXPIRES_AFTER,
    };

    #[test]
    fn waits_by_the_schedule_and_gives_up_after_five_days() {
        let schedule = USUAL;
        let minutes = |attempts| {
            let next = schedule
                .next(Timestamp(0), attempts, Timestamp(0), 0.5)
                .unwrap();
            next.0 / 60_000
        };
        assert_eq!(
            [1, 2, 3, 4, 5, 6, 99].map(minutes),
            [1, 5, 15, 30, 60, 60, 60]
        );
        let almost = Timestamp(0).after(Duration::from_secs(5 * 24 * 3_600 - 1_800));
        assert_eq!(schedule.next(Timestamp(0), 120, almost, 0.5), None);
    }

    proptest! {
        #[test]
        fn the_next_attempt_lies_ahead_and_within_the_jitter(attempts in 0u32..200, random in 0.0f64..1.0) {
            let schedule = USUAL;
            let wait = schedule.waits[(attempts.max(1) as usize - 1).min(4)].as_millis() as i64;
            let next = schedule.next(Timestamp(0), attempts, Timestamp(0), random).unwrap().0;
            prop_assert!(next >= wait * 9 / 10 - 1 && next <= wait * 11 / 10 + 1);
        }
    }
}
