//! Values as people write them in the configuration. Each error says what to write instead.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

/// The longest time that can be configured, because a clock can represent only a limited range of times.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3_600);

/// The largest number of messages, sessions or recipients that can be configured, because each one takes
/// memory.
pub(crate) const MOST: u64 = 1_000_000;

/// A duration as text: `90s`, `15m`, `5 days`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wait(
    /// The time as a duration.
    pub Duration,
);

impl<'de> Deserialize<'de> for Wait {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let read = humantime::parse_duration(&text).map(Self);
        if read.as_ref().is_ok_and(|wait| wait.0 > LONGEST) {
            let words =
                format!("invalid value {text:?}: the maximum is 10 years; write a shorter time");
            return Err(serde::de::Error::custom(words));
        }
        read.map_err(|error| {
            let words = format!("invalid value {text:?} ({error}): write a time such as \"90s\", \"15m\" or \"5 days\"");
            serde::de::Error::custom(words)
        })
    }
}

/// Returns a text as TOML writes it; a basic string of TOML has JSON's escapes.
pub(crate) fn quoted(text: impl ToString) -> String {
    serde_json::Value::String(text.to_string()).to_string()
}

/// A network, such as `192.168.7.0/24`, or a single address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Network(
    /// The network as a range of addresses.
    pub IpNet,
);

impl Network {
    /// Converts networks to ranges of addresses.
    pub(crate) fn ranges(networks: &[Self]) -> Vec<IpNet> {
        networks.iter().map(|network| network.0).collect()
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let alone = |address: IpAddr| IpNet::from(address);
        let read = text.parse().or_else(|_| text.parse().map(alone));
        read.map(Self).map_err(|_| {
            let words = format!("invalid value {text:?}: write a network such as \"192.168.7.0/24\" or an address such as \"192.168.7.9\"");
            serde::de::Error::custom(words)
        })
    }
}

/// Reads a time. Errors: the time cannot be read, or is too long.
pub(crate) fn wait<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Wait::deserialize(deserializer).map(|wait| wait.0)
}

/// Reads networks. Errors: one of them cannot be read.
pub(crate) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let networks = Vec::<Network>::deserialize(deserializer)?;
    Ok(networks.into_iter().map(|network| network.0).collect())
}

/// Reads a number; 0 means no limit.
pub(crate) fn unlimited<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    usize::deserialize(deserializer).map(zero_as_unlimited)
}

/// Converts a number for which 0 means no limit.
pub(crate) fn zero_as_unlimited(most: usize) -> usize {
    if most == 0 { usize::MAX } else { most }
}

/// Reads a number from 1 to [`MOST`], for things that take memory.
pub(crate) fn count<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default + Copy + PartialEq + TryInto<u64>,
{
    let number: T = positive(deserializer)?;
    if number.try_into().is_ok_and(|number| number <= MOST) {
        Ok(number)
    } else {
        Err(serde::de::Error::custom(TOO_MANY))
    }
}

/// Reads a number up to [`MOST`], for things that take memory; 0 means no limit.
pub(crate) fn some_count<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Copy + TryInto<u64>,
{
    let number = T::deserialize(deserializer)?;
    if number.try_into().is_ok_and(|number| number <= MOST) {
        Ok(Some(number))
    } else {
        Err(serde::de::Error::custom(TOO_MANY))
    }
}

const TOO_MANY: &str = "the maximum is 1000000; write a smaller number";

/// Reads a number; 0 is an error, because it would allow nothing.
pub(crate) fn positive<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default + PartialEq,
{
    let number = T::deserialize(deserializer)?;
    if number == T::default() {
        Err(serde::de::Error::custom(
            "0 would allow nothing; write 1 or more",
        ))
    } else {
        Ok(number)
    }
}

/// Reads a number as `positive` does; the number may be missing.
pub(crate) fn some_positive<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default + PartialEq,
{
    positive(deserializer).map(Some)
}
