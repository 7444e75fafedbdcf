//! Decides which alerts are active, and when to notify people. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::conditions::Condition;
use crate::base::Timestamp;
use crate::operator::status::AlertRow;

/// The longest time for which a condition must be absent before it is over. A held server is tested now and then,
/// and is not held during the test.
const ABSENT: Duration = Duration::from_secs(180);

/// The conditions that were seen, by cause.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Active(BTreeMap<String, Seen>);

/// A condition that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    condition: Condition,
    /// The time since which the condition has been absent.
    absent: Option<Timestamp>,
    /// The stage of the last notification; `None` if there was none.
    told: Option<u64>,
    /// The number of deliveries since the process began, when people were told.
    delivered: u64,
}

/// A notice for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A condition that lasts.
    Raised(AlertRow),
    /// A condition is over.
    Cleared {
        /// The alert, as it was last seen.
        alert: AlertRow,
        /// The number of messages that were delivered since people were told.
        delivered: u64,
        /// The number of messages that still wait.
        waiting: usize,
    },
}

/// The numbers that an all-clear contains.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mail {
    /// The number of deliveries since the process began.
    pub(super) delivered: u64,
    /// The number of messages that wait.
    pub(super) waiting: usize,
}

impl Active {
    /// Takes the present conditions. Returns the notices to send.
    pub(super) fn take(
        &mut self,
        conditions: Vec<Condition>,
        mail: Mail,
        now: Timestamp,
    ) -> Vec<Notice> {
        let mut notices = Vec::new();
        for seen in self.0.values_mut() {
            seen.absent = seen.absent.or(Some(now));
        }
        for condition in conditions {
            let key = format!("{} {}", condition.alert.kind, condition.alert.subject);
            let seen = self.0.entry(key).or_insert_with(|| Seen {
                condition: condition.clone(),
                absent: None,
                told: None,
                delivered: 0,
            });
            seen.absent = None;
            let since = seen.condition.alert.since.min(condition.alert.since);
            seen.condition = condition;
            seen.condition.alert.since = since;
            // A condition may get less urgent, for example if a certificate is replaced.
            seen.told = seen.told.map(|told| told.min(seen.condition.stage));
            let is_due = now.since(since) >= seen.condition.after;
            if is_due && seen.told.is_none_or(|told| told < seen.condition.stage) {
                seen.told = Some(seen.condition.stage);
                seen.delivered = mail.delivered;
                notices.push(Notice::Raised(seen.condition.alert.clone()));
            }
        }
        let is_over = |seen: &Seen| {
            let after = seen.condition.after;
            let quiet = if after.is_zero() {
                ABSENT
            } else {
                after.min(ABSENT)
            };
            seen.absent.is_some_and(|since| now.since(since) >= quiet)
        };
        let over = self.0.extract_if(.., |_, seen| is_over(seen));
        let over = over.filter(|(_, seen)| seen.told.is_some());
        notices.extend(over.map(|(_, seen)| Notice::Cleared {
            delivered: mail.delivered.saturating_sub(seen.delivered),
            waiting: mail.waiting,
            alert: seen.condition.alert,
        }));
        notices
    }

    /// Continues with the state of an earlier process, whose deliveries are not counted any more.
    pub(super) fn resumed(mut self) -> Self {
        self.0.values_mut().for_each(|seen| seen.delivered = 0);
        self
    }

    /// Returns the part that must survive a restart.
    pub(super) fn essence(&self) -> Vec<(String, Option<u64>, bool)> {
        let all = self.0.iter();
        all.map(|(key, seen)| (key.clone(), seen.told, seen.absent.is_some()))
            .collect()
    }

    /// Returns the conditions that people were told of, and that are not over.
    pub(super) fn told(&self) -> impl Iterator<Item = &AlertRow> {
        let told = self.0.values().filter(|seen| seen.told.is_some());
        told.map(|seen| &seen.condition.alert)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(10_000_000);

    fn later(seconds: u64) -> Timestamp {
        NOW.after(Duration::from_secs(seconds))
    }

    fn held(since: Timestamp) -> Condition {
        Condition {
            alert: AlertRow {
                kind: "held".into(),
                subject: "a".into(),
                since,
                what: String::new(),
                remedy: String::new(),
            },
            after: Duration::from_secs(900),
            stage: 0,
        }
    }

    fn mail(delivered: u64) -> Mail {
        Mail {
            delivered,
            waiting: 3,
        }
    }

    #[test]
    fn a_hold_is_told_once_although_the_server_is_tested_now_and_then() {
        let mut active = Active::default();
        let mut told = Vec::new();
        // A probe every five minutes ends the hold for a minute and begins another one.
        for minute in 0..60 {
            let at = later(minute * 60);
            let conditions = match minute % 5 {
                4 => Vec::new(),
                in_hold => vec![held(later((minute - in_hold) * 60))],
            };
            told.extend(active.take(conditions, mail(7), at));
        }
        assert_eq!(told, [Notice::Raised(held(NOW).alert)]);
        assert_eq!(active.told().count(), 1);
        let quiet = [3_600, 3_700].map(|at| active.take(Vec::new(), mail(9), later(at)));
        assert!(quiet.iter().all(Vec::is_empty), "{quiet:?}");
        let over = active.take(Vec::new(), mail(12), later(3_800));
        let cleared = Notice::Cleared {
            alert: held(NOW).alert,
            delivered: 5,
            waiting: 3,
        };
        assert_eq!(over, [cleared]);
        assert_eq!(active, Active::default());
    }

    #[test]
    fn a_short_hold_is_not_told_and_needs_no_all_clear() {
        let mut active = Active::default();
        let mut told = active.take(vec![held(NOW)], mail(0), NOW);
        told.extend(active.take(Vec::new(), mail(0), later(60)));
        told.extend(active.take(Vec::new(), mail(0), later(300)));
        assert_eq!((told, active), (Vec::new(), Active::default()));
    }

    #[test]
    fn a_value_near_its_threshold_does_not_flap() {
        let mut active = Active::default();
        let old = Condition {
            after: Duration::ZERO,
            ..held(NOW)
        };
        let counts = (0..20).map(|look| {
            let conditions = if look % 2 == 0 {
                vec![old.clone()]
            } else {
                Vec::new()
            };
            active.take(conditions, mail(0), later(look * 5)).len()
        });
        assert_eq!(counts.sum::<usize>(), 1);
    }

    #[test]
    fn a_higher_stage_is_told_again() {
        let mut active = Active::default();
        let ends = |stage| Condition {
            after: Duration::ZERO,
            stage,
            ..held(NOW)
        };
        let count =
            |active: &mut Active, stage, at| active.take(vec![ends(stage)], mail(0), at).len();
        let counts = [(1, 0), (1, 60), (2, 120), (2, 180), (3, 240)];
        let counts = counts.map(|(stage, at)| count(&mut active, stage, later(at)));
        assert_eq!(counts, [1, 0, 1, 0, 1]);
    }
}
