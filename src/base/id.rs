//! The id of a message, from acceptance to its end.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Timestamp;

/// Crockford's base 32, without letters that are easily misread, so that an id can be read out over the
/// telephone.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Bits below the milliseconds: room for several messages per millisecond, and for processes that share a
/// spool.
const SEQUENCE_BITS: u32 = 20;

/// A message's id: thirteen characters, ordered by time of acceptance. It has 63 bits, so that SQLite can
/// store it as a rowid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(u64);

/// Creates ids that never repeat within one process, and that start at a random number in each millisecond.
#[derive(Debug, Default)]
pub struct MessageIds {
    last: AtomicU64,
}

impl MessageIds {
    /// Returns the next id at `now`; `random` keeps the ids of several processes apart.
    pub fn next(&self, now: Timestamp, random: u32) -> MessageId {
        let spread = u64::from(random) & ((1 << SEQUENCE_BITS) - 1);
        let wanted = ((now.0.max(0) as u64) << SEQUENCE_BITS) | spread;
        let previous = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                Some(wanted.max(last + 1))
            })
            .unwrap_or_default();
        MessageId(wanted.max(previous + 1))
    }
}

impl MessageId {
    /// Converts the id to a key of the spool.
    pub fn to_i64(self) -> i64 {
        self.0 as i64
    }

    /// Returns the first possible id at `at`: no message accepted at `at` or later has a lower id.
    pub fn first_at(at: Timestamp) -> Self {
        Self((at.0.max(0) as u64) << SEQUENCE_BITS)
    }

    /// Returns the time at which the message was accepted.
    pub fn time(self) -> Timestamp {
        Timestamp((self.0 >> SEQUENCE_BITS) as i64)
    }

    /// Converts a key of the spool to an id.
    pub fn from_i64(key: i64) -> Self {
        Self(key as u64)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; 13];
        for (place, slot) in text.iter_mut().rev().enumerate() {
            *slot = ALPHABET[(self.0 >> (5 * place)) as usize & 31];
        }
        f.write_str(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
    }
}

/// The error for a text that is not an id.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is not a message id: an id has 13 letters and digits; the 250 reply and `mailferry queue list` show it"
)]
pub struct BadId(String);

impl FromStr for MessageId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let bad = || BadId(text.to_owned());
        if text.len() != 13 {
            return Err(bad());
        }
        let value = text.bytes().try_fold(0u128, |value, byte| {
            let digit = ALPHABET
                .iter()
                .position(|&letter| letter == byte.to_ascii_lowercase())?;
            Some(value << 5 | digit as u128)
        });
        match value {
            Some(value) if value < 1 << 63 => Ok(Self(value as u64)),
            _ => Err(bad()),
        }
    }
}

impl Serialize for MessageId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MessageId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_grow_even_when_the_clock_steps_back() {
        let ids = MessageIds::default();
        let first = ids.next(Timestamp(1_000_000), 7);
        let second = ids.next(Timestamp(1_000_000), 3);
        let third = ids.next(Timestamp(999_000), 3);
        assert!(first < second && second < third);
        assert!(MessageId::first_at(Timestamp(1_000_000)) <= first);
        assert!(MessageId::first_at(Timestamp(1_000_001)) > first);
    }

    proptest! {
        #[test]
        fn text_and_key_come_back(key in 0i64..) {
            let id = MessageId::from_i64(key);
            prop_assert_eq!(id.to_string().parse::<MessageId>().unwrap(), id);
            prop_assert_eq!(id.to_i64(), key);
        }
    }
}
