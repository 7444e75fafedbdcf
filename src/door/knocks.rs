//! The clients that were refused lately, for an administrator who wonders why a device does not send. Pure: the time
//! is an argument.

use std::collections::HashMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::base::Timestamp;

/// The maximum number of different refusals that are remembered. The one that is longest ago is forgotten first.
const MOST: usize = 256;

/// The number of different refusals of one address from which on they are no longer told apart by the user.
const MOST_OF_ONE: usize = 16;

/// The maximum number of characters of a refusal that are remembered.
const SAID: usize = 400;

/// The number of words at the beginning of a refusal that make it different from another one: the reply code, the
/// enhanced status code, and two more.
const WORDS: usize = 4;

/// A client that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knock {
    /// The listener's name.
    pub listener: String,
    /// The client's address.
    pub peer: IpAddr,
    /// The user, or the name that the client tried to sign in with; empty if there was none.
    pub user: String,
    /// The last reply that the client got, or the reason that it was not told.
    pub said: String,
    /// The number of such refusals.
    pub count: u64,
    /// When the first one was.
    pub first: Timestamp,
    /// When the last one was.
    pub last: Timestamp,
}

/// The refusals since the program started.
#[derive(Debug, Default)]
pub(super) struct Knocks(HashMap<KnockKey, Knock>);

/// The properties by which refusals are told apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct KnockKey {
    listener: String,
    peer: IpAddr,
    user: String,
    /// The beginning of the refusal.
    said: String,
}

impl Knocks {
    /// Adds a refusal.
    pub(super) fn add(
        &mut self,
        listener: &str,
        peer: IpAddr,
        user: &str,
        said: &str,
        now: Timestamp,
    ) {
        let begin: Vec<&str> = said.split_whitespace().take(WORDS).collect();
        let theirs = self.0.keys().filter(|key| key.peer == peer);
        let key = KnockKey {
            listener: listener.to_owned(),
            peer,
            // A client that guesses names must not push out the refusals of others.
            user: match theirs.count() < MOST_OF_ONE {
                true => user.chars().take(SAID).collect(),
                false => String::new(),
            },
            said: begin.join(" "),
        };
        if !self.0.contains_key(&key) && self.0.len() >= MOST {
            let oldest = self.0.iter().min_by_key(|(_, knock)| knock.last);
            let oldest = oldest.map(|(key, _)| key.clone());
            oldest.and_then(|key| self.0.remove(&key));
        }
        let knock = self.0.entry(key).or_insert_with(|| Knock {
            listener: listener.to_owned(),
            peer,
            user: String::new(),
            said: String::new(),
            count: 0,
            first: now,
            last: now,
        });
        knock.user = user.chars().take(SAID).collect();
        knock.said = said.chars().take(SAID).collect();
        knock.count += 1;
        knock.last = now;
    }

    /// Returns all refusals, the latest first.
    pub(super) fn all(&self) -> Vec<Knock> {
        let mut all: Vec<Knock> = self.0.values().cloned().collect();
        all.sort_by_key(|knock| std::cmp::Reverse(knock.last));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn peer(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn refusals_of_one_kind_are_counted_together() {
        let mut knocks = Knocks::default();
        let later = NOW.after(Duration::from_secs(5));
        knocks.add(
            "apps",
            peer(1),
            "",
            "530 5.7.0 Authentication required",
            NOW,
        );
        knocks.add(
            "apps",
            peer(1),
            "",
            "530 5.7.0 Authentication required",
            later,
        );
        knocks.add("apps", peer(1), "erp", "550 5.7.1 <a@b.c>: no", NOW);
        let all = knocks.all();
        assert_eq!((all[0].count, all[0].first, all[0].last), (2, NOW, later));
        assert_eq!((all.len(), all[1].user.as_str()), (2, "erp"));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut knocks = Knocks::default();
        for number in 0..1_000 {
            let at = NOW.after(Duration::from_secs(number.into()));
            knocks.add("apps", peer(number), "", "530", at);
        }
        let all = knocks.all();
        assert_eq!((all.len(), all[0].peer), (MOST, peer(999)));
    }
}
