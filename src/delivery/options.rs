//! The table `[delivery]` of the configuration: each key with its default. `config/mailferry.toml` explains the keys.

use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::retry::{self, Schedule};
use super::usage::BackOff;
use crate::base::written::{self, Wait};

/// The options of delivery. The fields are named like the keys.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeliveryOptions {
    /// The waits between attempts; the last one repeats. Default: `["1m", "5m", "15m", "30m", "1h"]`.
    #[serde(deserialize_with = "retry_waits")]
    pub retry: Vec<Duration>,
    /// The time from acceptance to giving up. Default: `"5 days"`.
    #[serde(deserialize_with = "written::wait")]
    pub expire_after: Duration,
    /// The first and the longest pause of a mailbox after trouble with its server. Default: `["30s", "15m"]`.
    #[serde(deserialize_with = "back_off")]
    pub back_off: BackOff,
    /// The treatment of a message that may have arrived. Default: `"retry"`.
    pub uncertain: Uncertain,
    /// How long a message that may have arrived waits before it is sent once more. Default: `"30m"`.
    #[serde(deserialize_with = "written::wait")]
    pub uncertain_pause: Duration,
    /// The age at which the sender is warned that a message is late; zero for never. Default: `"4h"`.
    #[serde(deserialize_with = "written::wait")]
    pub warn_after: Duration,
    /// The maximum number of separate reports to one sender in an hour; further ones are combined in a
    /// digest. Default: `20`.
    pub reports_per_hour: usize,
    /// How long the program, when it stops, waits for messages that are being sent. Default: `"30s"`.
    #[serde(deserialize_with = "written::wait")]
    pub grace: Duration,
}

/// The treatment of a message that may or may not have arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Uncertain {
    /// The message is sent once more, after a long pause.
    Retry,
    /// The message is held for an operator.
    Hold,
}

impl Default for DeliveryOptions {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        Self {
            retry: retry::WAITS.to_vec(),
            expire_after: retry::EXPIRES_AFTER,
            back_off: BackOff::default(),
            uncertain: Uncertain::Retry,
            uncertain_pause: minutes(30),
            warn_after: minutes(4 * 60),
            reports_per_hour: 20,
            grace: Duration::from_secs(30),
        }
    }
}

impl DeliveryOptions {
    /// The schedule of retries.
    pub(super) fn schedule(&self) -> Schedule<'_> {
        Schedule {
            waits: &self.retry,
            expires_after: self.expire_after,
        }
    }

    /// The age at which a sender is warned that a message is late, if at all.
    pub(super) fn warns_after(&self) -> Option<Duration> {
        Some(self.warn_after).filter(|after| !after.is_zero())
    }

    /// Returns warnings about times that are allowed, but probably not intended.
    pub fn doubts(&self) -> impl Iterator<Item = &'static str> {
        let (expires, warns) = (self.expire_after, self.warn_after);
        let odd = [
            (
                self.back_off.longest < self.back_off.first,
                "[delivery] back_off: the longest pause is shorter than the first, so the first is always used; write the shorter one first",
            ),
            (
                expires.is_zero(),
                "[delivery] expire_after: it is zero, so a message that is not delivered at the first attempt is given up",
            ),
            (
                warns >= expires && !expires.is_zero(),
                "[delivery] warn_after: it is not shorter than expire_after, so messages are given up before their senders are warned",
            ),
        ];
        odd.into_iter()
            .filter(|(is_odd, _)| *is_odd)
            .map(|(_, words)| words)
    }
}

fn retry_waits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Duration>, D::Error> {
    let waits: Vec<Duration> = Vec::<Wait>::deserialize(deserializer)?
        .into_iter()
        .map(|wait| wait.0)
        .collect();
    if waits.is_empty() {
        return Err(D::Error::custom(
            "the list is empty; write waits, such as [\"1m\", \"1h\"]",
        ));
    }
    if waits.iter().any(Duration::is_zero) {
        return Err(D::Error::custom(
            "a wait of zero would try again without a pause; write \"1s\" or more",
        ));
    }
    Ok(waits)
}

/// Reads a list of two: the first pause and the longest.
fn back_off<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BackOff, D::Error> {
    let [first, longest] = <[Wait; 2]>::deserialize(deserializer)?;
    Ok(BackOff {
        first: first.0,
        longest: longest.0,
    })
}
