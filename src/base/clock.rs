//! Time as a plain value, so that pure files can take it as an argument; and the clock with which all other
//! files read the time and wait.

mod simulation;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::SignedDuration;
use jiff::fmt::rfc2822;
use serde::{Deserialize, Serialize};

use crate::platform::clock::steady;
pub use simulation::Simulation;

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Returns the time that the system's clock shows. Code that decides when something is due uses the
    /// program's [`Clock`] instead; pure files take a `Timestamp`.
    pub fn now() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self(since.as_millis() as i64)
    }

    /// Returns this instant moved by `by` into the future.
    pub fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by.as_millis() as i64))
    }

    /// Returns this instant moved by `by` into the past.
    pub fn before(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(by.as_millis() as i64))
    }

    /// Returns this instant as shown by a clock that is ahead by `by`, or behind if `by` is negative.
    pub fn shifted(self, by: SignedDuration) -> Self {
        let by = i64::try_from(by.as_millis()).unwrap_or_default();
        Self(self.0.saturating_add(by))
    }

    /// Returns the time from `earlier` to this instant; zero if `earlier` is in the future (clocks may step
    /// back).
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0).max(0) as u64)
    }

    /// Returns the first instant in UTC of a day such as `2027-05-01`.
    pub fn of_date(text: &str) -> Option<Self> {
        let day = text.parse::<jiff::civil::Date>().ok()?;
        let begin = day.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(Self(begin.timestamp().as_millisecond()))
    }

    /// Returns the day in UTC, such as `2027-05-01`.
    pub fn date(self) -> String {
        self.jiff().strftime("%Y-%m-%d").to_string()
    }

    /// Formats the date as in RFC 5322 §3.3, in UTC.
    pub fn rfc5322(self) -> String {
        rfc2822::to_string(&self.jiff().to_zoned(jiff::tz::TimeZone::UTC)).unwrap_or_default()
    }

    /// Formats the date as in RFC 9110 §5.6.7.
    pub fn http(self) -> String {
        self.jiff()
            .strftime("%a, %d %b %Y %H:%M:%S GMT")
            .to_string()
    }

    /// Reads a date in the format of RFC 9110 §5.6.7.
    pub fn of_http(text: &str) -> Option<Self> {
        let at = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
        Some(Self(at.as_millisecond()))
    }

    fn jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(self.0).unwrap_or_default()
    }
}

/// The clock for the program's policy: when a message is due, a token is stale, a hold ends. Network
/// timeouts use tokio's own time. The clock begins with the time of the system's clock and then advances on
/// its own, so that setting the system's clock makes no measured time wrong. Times shown to people are
/// converted to the system's clock ([`Clock::shown`]). All clones show the same time.
#[derive(Debug, Clone)]
pub struct Clock {
    simulation: Option<Arc<Simulation>>,
    /// How far this clock is ahead of the steady time (milliseconds).
    ahead: Arc<AtomicI64>,
    /// How far the system's clock was ahead of this clock when the difference last changed (milliseconds).
    offset: Arc<AtomicI64>,
}

/// A change of the offset by less than this (milliseconds) is drift. A greater change means that somebody has
/// set the system's clock.
const DRIFT: u64 = 1_000;

impl Default for Clock {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Clock {
    fn new(simulation: Option<Arc<Simulation>>) -> Self {
        let clock = Self {
            simulation,
            ahead: Arc::default(),
            offset: Arc::default(),
        };
        clock.begin_at(clock.wall());
        clock
    }

    /// Creates another clock, which begins with the time that the system's clock shows now.
    pub fn another(&self) -> Self {
        Self::new(self.simulation.clone())
    }

    /// Returns the present instant.
    pub fn now(&self) -> Timestamp {
        let ahead = self.ahead.load(Ordering::Acquire);
        Timestamp(ahead).after(self.steady())
    }

    /// Returns the time that the system's clock shows.
    pub fn wall(&self) -> Timestamp {
        match &self.simulation {
            None => Timestamp::now(),
            Some(simulation) => simulation.now(),
        }
    }

    /// Returns how far the system's clock is ahead of this clock because somebody set the system's clock;
    /// negative if it is behind. The offset stays the same until somebody sets the system's clock again, so
    /// an instant is shown the same each time.
    pub fn offset(&self) -> SignedDuration {
        let now = self.wall().0.saturating_sub(self.now().0);
        let known = self.offset.load(Ordering::Acquire);
        if now.abs_diff(known) < DRIFT {
            return SignedDuration::from_millis(known);
        }
        self.offset.store(now, Ordering::Release);
        SignedDuration::from_millis(now)
    }

    /// Converts an instant of this clock to the system's clock, for people and other programs.
    pub fn shown(&self, at: Timestamp) -> Timestamp {
        at.shifted(self.offset())
    }

    /// Sets the clock to this instant. This must happen before anything is measured with the clock.
    pub fn begin_at(&self, now: Timestamp) {
        let steady = Timestamp(0).after(self.steady());
        self.ahead.store(now.0 - steady.0, Ordering::Release);
        let offset = self.wall().0.saturating_sub(now.0);
        self.offset.store(offset, Ordering::Release);
    }

    /// Returns the time since a fixed instant, which is the same while the process runs. On Linux, it also
    /// advances while the machine is suspended.
    pub fn steady(&self) -> Duration {
        match &self.simulation {
            None => steady(),
            Some(simulation) => simulation.steady(),
        }
    }

    /// Waits for the duration `time`.
    pub async fn sleep(&self, time: Duration) {
        match &self.simulation {
            None => tokio::time::sleep(time).await,
            Some(simulation) => simulation.sleep(time).await,
        }
    }
}

/// RFC 3339 in UTC, to the second.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.jiff().strftime("%Y-%m-%dT%H:%M:%SZ"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_dates_of_both_standards() {
        let at = Timestamp(1_763_800_000_123);
        assert_eq!(at.to_string(), "2025-11-22T08:26:40Z");
        assert_eq!(
            Timestamp::of_date("1970-01-02"),
            Some(Timestamp(86_400_000))
        );
        assert_eq!(Timestamp::of_date("1970-01-32"), None);
        assert_eq!(at.http(), "Sat, 22 Nov 2025 08:26:40 GMT");
        assert_eq!(at.rfc5322(), "Sat, 22 Nov 2025 08:26:40 +0000");
    }

    #[test]
    fn a_clock_that_stepped_back_gives_no_time_passed() {
        assert_eq!(Timestamp(5).since(Timestamp(9)), Duration::ZERO);
    }

    #[test]
    fn a_clock_goes_on_whatever_the_system_shows() {
        let simulation = Simulation::new(Timestamp(1_000_000));
        let (clock, by) = (simulation.clock(), SignedDuration::from_secs(-600));
        simulation.set(by);
        simulation.advance(Duration::from_secs(1));
        assert_eq!((clock.now(), clock.offset()), (Timestamp(1_001_000), by));
        assert_eq!(clock.shown(clock.now()), simulation.now());
        assert_eq!(clock.another().offset(), SignedDuration::ZERO);
        clock.clone().begin_at(Timestamp(5));
        assert_eq!(clock.now(), Timestamp(5));
    }

    #[test]
    fn the_clock_of_the_system_goes() {
        let clock = Clock::default();
        let (steady, now) = (clock.steady(), clock.now());
        assert!(!steady.is_zero() && clock.steady() >= steady);
        assert!(now.0 > 1_700_000_000_000 && clock.now() >= now);
    }
}
