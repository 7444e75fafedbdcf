//! How far this machine's clock is from the provider's. With a wrong clock, certificates and assertions
//! appear invalid, and the resulting errors do not mention the clock.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::base::Timestamp;
use crate::observe::maillog;

/// Differences up to this one (milliseconds) are ignored: they may come from the response's travel time, or
/// from the `Date` header, which has whole seconds.
const SMALLEST: i64 = 60_000;

/// The skew in the last response (milliseconds, positive when this machine's clock is ahead). A machine has
/// one clock, so the process has one skew.
static SKEW: AtomicI64 = AtomicI64::new(0);

/// Records a response: `date` is its time by the provider's clock, and `now` its arrival by our clock.
pub(super) fn note(date: Timestamp, now: Timestamp) {
    let skew = now.0.saturating_sub(date.0);
    let before = SKEW.swap(skew, Ordering::Relaxed);
    if let Some(words) = words(skew).filter(|_| skew.abs_diff(before) > SMALLEST as u64) {
        maillog::clock_wrong(&words);
    }
}

/// Returns the problem with this machine's clock, according to a provider's last response, and the remedy.
/// `None` if the clock is right, or no provider has responded.
pub fn clock_words() -> Option<String> {
    words(SKEW.load(Ordering::Relaxed))
}

fn words(skew: i64) -> Option<String> {
    // Rounded to the minute, because people compare minutes.
    let by = Duration::from_secs((skew.unsigned_abs() / 1_000 + 30) / 60 * 60);
    let side = if skew > 0 { "ahead of" } else { "behind" };
    (skew.unsigned_abs() > SMALLEST as u64).then(|| {
        format!(
            "this machine's clock is {} {side} the token endpoint's: set it by NTP (timedatectl set-ntp true)",
            jiff::SignedDuration::try_from(by).map_or_else(|_| "far".to_owned(), |by| format!("{by:#}"))
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_clock_is_said_in_words() {
        assert_eq!(words(59_000), None);
        assert_eq!(words(-60_000), None);
        let ahead = words(600_500).unwrap();
        assert!(
            ahead.starts_with("this machine's clock is 10m ahead of the"),
            "{ahead}"
        );
        let behind = words(-7_200_000).unwrap();
        assert!(
            behind.starts_with("this machine's clock is 2h behind the"),
            "{behind}"
        );
        assert!(words(i64::MIN).is_some());
    }
}
