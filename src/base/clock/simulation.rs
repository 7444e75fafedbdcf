//! Simulated time, which passes only on request, so that a program can run through a month in a moment.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::oneshot;

use super::{Clock, Timestamp};

/// Simulated time.
#[derive(Debug)]
pub struct Simulation {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The time as if nobody had ever set the simulated system clock.
    now: Timestamp,
    began: Timestamp,
    /// The total amount by which the simulated system clock was set.
    shift: SignedDuration,
    /// The waiting tasks, sorted by the time at which they wake, then by the order in which they began to
    /// wait.
    sleepers: BTreeMap<(Timestamp, u64), oneshot::Sender<()>>,
    count: u64,
}

impl Simulation {
    /// Creates simulated time that begins at `now`.
    pub fn new(now: Timestamp) -> Arc<Self> {
        let inner = Inner {
            now,
            began: now,
            shift: SignedDuration::ZERO,
            sleepers: BTreeMap::new(),
            count: 0,
        };
        Arc::new(Self {
            inner: Mutex::new(inner),
        })
    }

    /// Creates a clock that uses this simulated time.
    pub fn clock(self: &Arc<Self>) -> Clock {
        Clock::new(Some(self.clone()))
    }

    /// Returns the time that the simulated system clock shows.
    pub fn now(&self) -> Timestamp {
        let inner = self.inner();
        inner.now.shifted(inner.shift)
    }

    /// Returns the time that has passed since the beginning.
    pub fn steady(&self) -> Duration {
        let inner = self.inner();
        inner.now.since(inner.began)
    }

    /// Sets the simulated system clock forward, or back if `by` is negative; no time passes.
    pub fn set(&self, by: SignedDuration) {
        self.inner().shift += by;
    }

    /// Returns the number of tasks that are sleeping.
    pub fn sleepers(&self) -> usize {
        let mut inner = self.inner();
        inner.sleepers.retain(|_, sleeper| !sleeper.is_closed());
        inner.sleepers.len()
    }

    /// Lets time pass, and wakes the tasks whose time has come.
    pub fn advance(&self, by: Duration) {
        let mut inner = self.inner();
        let now = inner.now.after(by);
        inner.now = now;
        while let Some(entry) = inner.sleepers.first_entry()
            && entry.key().0 <= now
        {
            // If the task no longer waits, it need not be woken.
            let _ = entry.remove().send(());
        }
    }

    /// Lets time pass until the first task must wake, if any task waits. A runtime that calls this function
    /// whenever it has nothing to do (`Builder::on_thread_park`) never waits in real time, if all its tasks
    /// wait with this simulated time.
    pub fn advance_to_next(&self) {
        let next = {
            let mut inner = self.inner();
            inner.sleepers.retain(|_, sleeper| !sleeper.is_closed());
            let next = inner.sleepers.first_key_value();
            next.map(|((at, _), _)| at.since(inner.now))
        };
        if let Some(by) = next {
            self.advance(by);
        }
    }

    pub(super) async fn sleep(&self, time: Duration) {
        let woken = {
            let mut inner = self.inner();
            let (wake, woken) = oneshot::channel();
            let at = (inner.now.after(time), inner.count);
            inner.count += 1;
            inner.sleepers.insert(at, wake);
            woken
        };
        // This cannot fail: the sender is in the simulation, which lives as long as its clocks.
        let _ = woken.await;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn time_passes_when_it_is_told_to() {
        let simulation = Simulation::new(Timestamp(1_000));
        let clock = simulation.clock();
        let sleeper = clock.clone();
        let slept = tokio::spawn(async move {
            sleeper.sleep(Duration::from_secs(3_600)).await;
            sleeper.now()
        });
        while simulation.sleepers() == 0 {
            tokio::task::yield_now().await;
        }
        simulation.advance(Duration::from_secs(3_599));
        assert!(simulation.sleepers() == 1 && !slept.is_finished());
        simulation.advance(Duration::from_secs(1));
        assert_eq!(slept.await.unwrap(), Timestamp(3_601_000));
        assert_eq!(simulation.sleepers(), 0);
        simulation.advance_to_next();
        assert_eq!(simulation.now(), Timestamp(3_601_000), "nobody waits");
        simulation.set(SignedDuration::from_secs(-600));
        assert_eq!(simulation.now(), Timestamp(3_001_000));
        assert_eq!(simulation.steady(), Duration::from_secs(3_600));
    }

    #[test]
    fn a_runtime_with_nothing_to_do_lets_it_pass() {
        let simulation = Simulation::new(Timestamp(0));
        let parked = simulation.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .on_thread_park(move || parked.advance_to_next())
            .build()
            .unwrap();
        let clock = simulation.clock();
        runtime.block_on(async {
            clock.sleep(Duration::from_secs(3_600)).await;
            clock.sleep(Duration::from_secs(60)).await;
        });
        assert_eq!(simulation.now(), Timestamp(3_660_000));
    }
}
