//! The guard against password guessing: an address whose sign-ins fail waits longer for each reply, and is
//! then shut out for a while.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::counts::site;
use super::limits::DoorLimits;
use crate::base::Window;

/// The pause before the reply to the first failure; it doubles with each further failure.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause before a reply. It is limited because a waiting session occupies a session slot.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// The maximum number of remembered addresses; each takes about 5 KiB in the worst case.
const REMEMBERED: usize = 10_000;

/// The longest wait for a turn to check a password.
const TURN: Duration = Duration::from_secs(20);

/// The number of locks that all addresses share; only addresses with the same lock wait for each other.
const TURNS: usize = 256;

/// The consequence of a failed sign-in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Consequence {
    /// The pause before the reply.
    pub pause: Duration,
    /// The number of failures within `auth_time`.
    pub failures: u64,
    /// True if the address is shut out from now on.
    pub is_shut_out: bool,
}

/// The addresses whose sign-ins failed recently.
#[derive(Debug)]
pub(crate) struct Guard {
    seen: DashMap<IpAddr, SeenAddress>,
    turns: [Mutex<()>; TURNS],
    hasher: RandomState,
}

#[derive(Debug)]
struct SeenAddress {
    failures: Window,
    shut_until: Option<Instant>,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            seen: DashMap::new(),
            turns: std::array::from_fn(|_| Mutex::new(())),
            hasher: RandomState::new(),
        }
    }
}

impl Guard {
    /// Waits until no other password from this address is being checked, so that an attacker with many
    /// sessions gets no more guesses than with one.
    pub(crate) async fn turn(
        &self,
        peer: IpAddr,
        limits: &DoorLimits,
    ) -> Result<Option<MutexGuard<'_, ()>>, Elapsed> {
        if limits.auth_failures == 0 || limits.spares(peer) {
            return Ok(None);
        }
        let which = self.hasher.hash_one(site(peer)) as usize % TURNS;
        timeout(TURN, self.turns[which].lock()).await.map(Some)
    }

    /// Records a failed sign-in from this address.
    pub(crate) fn failed(&self, peer: IpAddr, limits: &DoorLimits, now: Instant) -> Consequence {
        self.make_room(now);
        let fresh = || SeenAddress {
            failures: Window::new(limits.auth_time),
            shut_until: None,
        };
        let mut seen = self.seen.entry(site(peer)).or_insert_with(fresh);
        seen.failures.add(1, now);
        let failures = seen.failures.count(now);
        let is_over = limits.auth_failures > 0 && failures >= limits.auth_failures;
        let is_shut_out = is_over && !limits.spares(peer);
        if is_shut_out {
            seen.shut_until = Some(now + limits.shut_out);
        }
        Consequence {
            pause: pause(failures),
            failures,
            is_shut_out,
        }
    }

    /// Returns the time for which this address is still shut out; `None` if it is not.
    pub(crate) fn shut_out(
        &self,
        peer: IpAddr,
        limits: &DoorLimits,
        now: Instant,
    ) -> Option<Duration> {
        if limits.spares(peer) {
            return None;
        }
        let until = self.seen.get(&site(peer))?.shut_until?;
        until
            .checked_duration_since(now)
            .filter(|left| !left.is_zero())
    }

    /// If too many addresses are remembered, removes those without recent failures. If that is not enough,
    /// removes all that are not shut out.
    fn make_room(&self, now: Instant) {
        if self.seen.len() < REMEMBERED {
            return;
        }
        let is_shut = |seen: &SeenAddress| seen.shut_until.is_some_and(|until| until > now);
        self.seen
            .retain(|_, seen| is_shut(seen) || seen.failures.count(now) > 0);
        if self.seen.len() >= REMEMBERED {
            self.seen.retain(|_, seen| is_shut(seen));
        }
        if self.seen.len() >= REMEMBERED {
            // As a last resort, remove those whose shut-out ends soonest.
            let ends = self.seen.iter().filter_map(|seen| seen.shut_until);
            let soonest = ends.min();
            self.seen.retain(|_, seen| seen.shut_until > soonest);
        }
    }
}

fn pause(failures: u64) -> Duration {
    let doublings = failures.saturating_sub(1).min(10) as u32;
    (FIRST_PAUSE * 2u32.pow(doublings)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> DoorLimits {
        DoorLimits {
            auth_failures: 3,
            auth_time: Duration::from_secs(60),
            shut_out: Duration::from_secs(600),
            ..DoorLimits::default()
        }
    }

    #[test]
    fn failures_slow_down_and_then_shut_out() {
        let (guard, limits, now) = (Guard::default(), limits(), Instant::now());
        let peer = "192.0.2.7".parse().unwrap();
        let failed = || guard.failed(peer, &limits, now);
        assert_eq!(failed().pause, FIRST_PAUSE);
        assert_eq!(guard.shut_out(peer, &limits, now), None);
        assert_eq!(failed().pause, 2 * FIRST_PAUSE);
        let third = failed();
        assert!(third.is_shut_out && third.failures == 3);
        assert_eq!(guard.shut_out(peer, &limits, now), Some(limits.shut_out));
        assert_eq!(
            guard.shut_out("192.0.2.8".parse().unwrap(), &limits, now),
            None
        );
        assert_eq!(guard.shut_out(peer, &limits, now + limits.shut_out), None);
        assert!(
            !guard
                .failed(peer, &limits, now + limits.shut_out)
                .is_shut_out
        );
    }

    #[test]
    fn an_address_that_many_share_is_slowed_down_only() {
        let (guard, limits, now) = (Guard::default(), limits(), Instant::now());
        let peer = "127.0.0.1".parse().unwrap();
        for _ in 0..20 {
            assert!(!guard.failed(peer, &limits, now).is_shut_out);
        }
        assert_eq!(guard.failed(peer, &limits, now).pause, LONGEST_PAUSE);
        assert_eq!(guard.shut_out(peer, &limits, now), None);
    }

    #[test]
    fn a_flood_of_addresses_takes_no_more_memory() {
        let (guard, limits, now) = (Guard::default(), limits(), Instant::now());
        for number in 0..25_000u32 {
            guard.failed(IpAddr::V4(number.into()), &limits, now);
            assert!(guard.seen.len() <= REMEMBERED);
        }
    }
}
