//! Wall-clock time as a plain value, so that decisions can take it as an argument, and the clock
//! that the edges read it from and wait by.

mod simulation;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::fmt::rfc2822;
use serde::{Deserialize, Serialize};

pub use simulation::Simulation;

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The present instant of the system. Only the edges call this, and those that go by policy ask
    /// their [`Clock`]; everything else takes a `Timestamp`.
    pub fn now() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self(since.as_millis() as i64)
    }

    /// This instant moved by `by` into the future.
    pub fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by.as_millis() as i64))
    }

    /// This instant moved by `by` into the past.
    pub fn before(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(by.as_millis() as i64))
    }

    /// The time from `earlier` to this instant; zero when `earlier` lies ahead (clocks may step back).
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0).max(0) as u64)
    }

    /// The first instant in UTC of a day such as `2027-05-01`.
    pub fn of_date(text: &str) -> Option<Self> {
        let day = text.parse::<jiff::civil::Date>().ok()?;
        let begin = day.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(Self(begin.timestamp().as_millisecond()))
    }

    /// The date as RFC 5322 §3.3 writes it, in UTC.
    pub fn rfc5322(self) -> String {
        rfc2822::to_string(&self.jiff().to_zoned(jiff::tz::TimeZone::UTC)).unwrap_or_default()
    }

    /// The date as RFC 9110 §5.6.7 writes it.
    pub fn http(self) -> String {
        self.jiff()
            .strftime("%a, %d %b %Y %H:%M:%S GMT")
            .to_string()
    }

    /// The instant of such a date.
    pub fn of_http(text: &str) -> Option<Self> {
        let at = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
        Some(Self(at.as_millisecond()))
    }

    fn jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(self.0).unwrap_or_default()
    }
}

/// What the program's policy goes by: when a message is due, a token is stale, a hold ends. Limits on
/// the network's patience are tokio's own. The default is the system's clock.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<Simulation>>);

impl Clock {
    /// The present instant.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            None => Timestamp::now(),
            Some(simulation) => simulation.now(),
        }
    }

    /// Ends when so much time has passed.
    pub async fn sleep(&self, time: Duration) {
        match &self.0 {
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
}
