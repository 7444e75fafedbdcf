//! The recent usage of users and listeners, and the limits on it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use dashmap::DashMap;

use crate::base::Window;
use crate::base::window::NoRoom;

/// The unit that a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Messages.
    Messages,
    /// Recipients of messages.
    Recipients,
}

/// A limit: the maximum amount in a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// The key of the limit in the configuration.
    pub setting: &'static str,
    /// The unit that is counted.
    pub unit: Unit,
    /// The period.
    pub period: Duration,
    /// The maximum amount.
    pub most: u64,
}

/// An amount that is requested, or that was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    /// Messages.
    pub messages: u64,
    /// Recipients of these messages, in total.
    pub recipients: u64,
}

/// The owner of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitOwner<'a> {
    /// A user, by name.
    User(&'a str),
    /// A listener, by name.
    Listener(&'a str),
}

/// The recent usage of every user and listener, by name. It is empty when the process starts.
#[derive(Debug, Default)]
pub struct DoorUsage(DashMap<String, Windows>);

/// The time windows of one owner, each under the configuration key of its limit.
type Windows = HashMap<&'static str, Window>;

impl DoorUsage {
    /// Succeeds if there is room for this amount; otherwise returns the limit that it would exceed.
    pub fn check(&self, who: LimitOwner, limits: &[Limit], asked: Amount) -> Result<(), OverLimit> {
        self.check_at(who, limits, asked, Instant::now())
    }

    /// Does the same as `check`, and counts the amount as used if there is room.
    pub fn take(&self, who: LimitOwner, limits: &[Limit], asked: Amount) -> Result<(), OverLimit> {
        self.take_at(who, limits, asked, Instant::now())
    }

    /// Gives back an amount that was just taken, because it is not used after all.
    pub fn give_back(&self, who: LimitOwner, limits: &[Limit], amount: Amount) {
        if limits.is_empty() {
            return;
        }
        let Some(mut windows) = self.0.get_mut(&who.to_string()) else {
            return;
        };
        for limit in limits {
            if let Some(window) = windows.get_mut(limit.setting) {
                window.take_back(amount.of(limit.unit));
            }
        }
    }

    fn check_at(
        &self,
        who: LimitOwner,
        limits: &[Limit],
        asked: Amount,
        now: Instant,
    ) -> Result<(), OverLimit> {
        if limits.is_empty() {
            return Ok(());
        }
        let mut windows = self.0.entry(who.to_string()).or_default();
        fits(&mut windows, who, limits, asked, now)
    }

    fn take_at(
        &self,
        who: LimitOwner,
        limits: &[Limit],
        asked: Amount,
        now: Instant,
    ) -> Result<(), OverLimit> {
        if limits.is_empty() {
            return Ok(());
        }
        let mut windows = self.0.entry(who.to_string()).or_default();
        fits(&mut windows, who, limits, asked, now)?;
        for limit in limits {
            window(&mut windows, limit).add(asked.of(limit.unit), now);
        }
        Ok(())
    }
}

impl std::fmt::Display for LimitOwner<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User(name) => write!(f, "User {name}"),
            Self::Listener(name) => write!(f, "Listener {name}"),
        }
    }
}

impl Amount {
    /// Returns the amount in this unit.
    pub fn of(self, unit: Unit) -> u64 {
        match unit {
            Unit::Messages => self.messages,
            Unit::Recipients => self.recipients,
        }
    }
}

/// Succeeds if each limit has room for the requested amount.
fn fits(
    windows: &mut Windows,
    who: LimitOwner,
    limits: &[Limit],
    asked: Amount,
    now: Instant,
) -> Result<(), OverLimit> {
    for limit in limits {
        window(windows, limit)
            .room(asked.of(limit.unit), limit.most, now)
            .map_err(|no_room| refusal(who, limit, no_room))?;
    }
    Ok(())
}

fn window<'a>(windows: &'a mut Windows, limit: &Limit) -> &'a mut Window {
    windows
        .entry(limit.setting)
        .or_insert_with(|| Window::new(limit.period))
}

/// A limit that the requested amount exceeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverLimit {
    /// The owner of the limit, such as `User erp`.
    pub whose: String,
    /// The key of the limit in the configuration.
    pub setting: &'static str,
    /// The maximum amount.
    pub most: u64,
    /// The time after which there is room; `None` if the message alone exceeds the limit.
    pub wait: Option<Duration>,
}

impl OverLimit {
    /// Describes a limit that has room after this time.
    pub fn of(who: LimitOwner, limit: &Limit, wait: Duration) -> Self {
        Self {
            whose: who.to_string(),
            setting: limit.setting,
            most: limit.most,
            wait: Some(Duration::from_secs(wait.as_secs_f64().ceil() as u64)),
        }
    }
}

fn refusal(who: LimitOwner, limit: &Limit, no_room: NoRoom) -> OverLimit {
    match no_room {
        NoRoom::For(wait) => OverLimit::of(who, limit, wait),
        NoRoom::Never => OverLimit {
            wait: None,
            ..OverLimit::of(who, limit, Duration::ZERO)
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Vec<Limit> {
        let limit = |setting, unit, seconds, most| Limit {
            setting,
            unit,
            period: Duration::from_secs(seconds),
            most,
        };
        vec![
            limit("messages_per_minute", Unit::Messages, 60, 2),
            limit("recipients_per_day", Unit::Recipients, 86_400, 10),
        ]
    }

    fn amount(recipients: u64) -> Amount {
        Amount {
            messages: 1,
            recipients,
        }
    }

    #[test]
    fn each_limit_is_named_with_what_it_allows_and_when() {
        let (usage, limits, begin) = (DoorUsage::default(), limits(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        let take = |recipients, seconds| {
            let taken = usage.take_at(
                LimitOwner::User("erp"),
                &limits,
                amount(recipients),
                at(seconds),
            );
            taken.map_err(|over| (over.setting, over.most, over.wait))
        };
        let after = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(take(3, 0), Ok(()));
        assert_eq!(take(3, 1), Ok(()));
        assert_eq!(take(1, 2), Err(("messages_per_minute", 2, after(58))));
        let day = take(5, 70).unwrap_err();
        assert_eq!(day, ("recipients_per_day", 10, after(86_330)));
        assert_eq!(take(11, 70), Err(("recipients_per_day", 10, None)));
        assert_eq!(take(4, 70), Ok(()));
        usage.give_back(LimitOwner::User("erp"), &limits, amount(4));
        assert_eq!(
            usage.check_at(LimitOwner::User("erp"), &limits, amount(4), at(70)),
            Ok(())
        );
    }

    #[test]
    fn a_refusal_takes_nothing() {
        let (usage, limits, now) = (DoorUsage::default(), limits(), Instant::now());
        for _ in 0..5 {
            assert!(
                usage
                    .take_at(LimitOwner::User("a"), &limits, amount(11), now)
                    .is_err()
            );
        }
        assert_eq!(
            usage.take_at(LimitOwner::User("a"), &limits, amount(10), now),
            Ok(())
        );
        assert_eq!(
            usage.take_at(LimitOwner::Listener("a"), &limits, amount(10), now),
            Ok(())
        );
    }
}
