//! Limits of users and listeners that all nodes share, such as messages per minute: what a node may take. Pure.
//!
//! A node takes a little more than it needs now, so that most messages need no answer from the database. What it has not
//! used after a short time, it gives back.

use std::time::Duration;

use crate::base::Timestamp;

/// A share is a part of the limit, and is valid for the same part of the period. A limit per day is exact within 24
/// minutes, one per minute within a second.
const PARTS: u32 = 60;

/// How much of the room that is left a node takes in advance, as a divisor.
const CAUTION: u64 = 10;

/// An amount of a limit that all nodes share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// The owner and the setting; the same on all nodes.
    pub name: String,
    /// The period.
    pub period: Duration,
    /// The maximum amount in the period.
    pub most: u64,
    /// The amount that is asked for.
    pub amount: u64,
}

/// A limit without room: its place in the list that was asked for, and the time until it has room.
pub type NoQuota = (usize, Duration);

impl Quota {
    /// How long an amount that was taken in advance can be used.
    pub(super) fn valid_for(&self) -> Duration {
        self.period / PARTS
    }

    /// Decides how much to take. `used` lists what the nodes have taken in the period, oldest first. The error is the time
    /// until there is room.
    pub(super) fn take(&self, used: &[(Timestamp, u64)], now: Timestamp) -> Result<u64, Duration> {
        let sum: u64 = used.iter().map(|(_, amount)| amount).sum();
        let Some(left) = self.most.checked_sub(sum + self.amount) else {
            return Err(self.wait(used, now));
        };
        let in_advance = (self.most / u64::from(PARTS)).min(left / CAUTION);
        Ok(self.amount + in_advance)
    }

    fn wait(&self, used: &[(Timestamp, u64)], now: Timestamp) -> Duration {
        let sum: u64 = used.iter().map(|(_, amount)| amount).sum();
        let mut over = (sum + self.amount).saturating_sub(self.most);
        for (at, amount) in used {
            over = over.saturating_sub(*amount);
            if over == 0 {
                return at.after(self.period).since(now);
            }
        }
        self.period
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quota(most: u64, amount: u64) -> Quota {
        Quota {
            name: "User erp/messages_per_minute".into(),
            period: Duration::from_secs(60),
            most,
            amount,
        }
    }

    #[test]
    fn a_node_takes_in_advance_only_while_there_is_plenty() {
        let at = Timestamp(1_000);
        let taken = |most, used| quota(most, 1).take(&[(at, used)], at).ok();
        assert_eq!(taken(6_000, 0), Some(101));
        assert_eq!(taken(6_000, 5_489), Some(52));
        assert_eq!(taken(6_000, 5_999), Some(1));
        assert_eq!(taken(6_000, 6_000), None);
        assert_eq!(taken(10, 0), Some(1));
    }

    #[test]
    fn a_refusal_says_when_there_is_room() {
        let used = [(Timestamp(10_000), 2), (Timestamp(30_000), 2)];
        let now = Timestamp(40_000);
        let wait = |amount| quota(4, amount).take(&used, now).map_err(|it| it.as_secs());
        assert_eq!([1, 2, 3, 4].map(wait), [Err(30), Err(30), Err(50), Err(50)]);
        assert_eq!(quota(4, 4).take(&[], now), Ok(4));
    }

    proptest! {
        #[test]
        fn no_period_has_more_than_the_limit(
            steps in prop::collection::vec((0u64..5_000, 1u64..40), 1..300),
            most in 40u64..400,
        ) {
            let (mut now, mut taken) = (Timestamp(0), Vec::<(Timestamp, u64)>::new());
            for (pause, amount) in steps {
                now = now.after(Duration::from_millis(pause));
                let begin = now.0 - 60_000;
                let used: Vec<_> = taken.iter().copied().filter(|(at, _)| at.0 > begin).collect();
                if let Ok(amount) = quota(most, amount).take(&used, now) {
                    taken.push((now, amount));
                }
                let recent = taken.iter().filter(|(at, _)| at.0 > begin);
                prop_assert!(recent.map(|(_, amount)| amount).sum::<u64>() <= most);
            }
        }
    }
}
