//! How much one sender is told: so many reports an hour, and what comes on top in a digest. Pure.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::base::{MessageId, Timestamp};
use crate::message::Address;

/// The time in which a sender is told so much.
const HOUR: Duration = Duration::from_secs(3_600);

/// Senders that are told something within the hour. Whoever may use any sender address must not make this
/// program write to the whole world.
pub(crate) const SENDERS: usize = 1_000;

/// Lines of a digest; more begin another one.
const LINES: usize = 250;

/// A digest that is due so soon takes no more, so that all of it is written when it is due.
const CLOSING: Duration = Duration::from_secs(60);

/// What every sender was told of late.
#[derive(Debug, Default)]
pub(crate) struct Storm {
    senders: HashMap<String, ToldSender>,
}

#[derive(Debug, Default)]
struct ToldSender {
    told: VecDeque<Timestamp>,
    /// The one that takes more.
    digest: Option<Digest>,
}

/// What a sender will be told at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest {
    /// Its name.
    pub id: MessageId,
    /// When it goes.
    pub due: Timestamp,
    /// How many lines it has.
    lines: usize,
}

/// How a sender is told something.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// By a report of its own.
    Report,
    /// By a line each of this digest.
    Digest(Digest),
    /// Not at all: [`SENDERS`] others were told something within the hour.
    TooMany,
}

impl Storm {
    /// Decides for `lines` that are to be told of one message of `to`; `id` is the name of a digest that
    /// they may begin. `most` reports go in an hour.
    pub(crate) fn tell(
        &mut self,
        to: &Address,
        most: usize,
        lines: usize,
        id: MessageId,
        now: Timestamp,
    ) -> Told {
        self.forget(now);
        let key = to.as_str().to_lowercase();
        if self.senders.len() >= SENDERS && !self.senders.contains_key(&key) {
            return Told::TooMany;
        }
        let sender = self.senders.entry(key).or_default();
        if sender.told.len() < most {
            sender.told.push_back(now);
            return Told::Report;
        }
        let begun = sender.told.front().copied().unwrap_or(now);
        let takes = |digest: &Digest| digest.lines < LINES && digest.due > now.after(CLOSING);
        let mut digest = sender.digest.filter(takes).unwrap_or(Digest {
            id,
            due: begun.after(HOUR).max(now.after(2 * CLOSING)),
            lines: 0,
        });
        digest.lines += lines;
        sender.digest = Some(digest);
        Told::Digest(digest)
    }

    /// A message leaves, before its time maybe: if it is a digest, what comes begins another.
    pub(crate) fn leaves(&mut self, id: MessageId) {
        for sender in self.senders.values_mut() {
            sender.digest = sender.digest.filter(|digest| digest.id != id);
        }
    }

    fn forget(&mut self, now: Timestamp) {
        self.senders.retain(|_, sender| {
            sender.told.retain(|told| now < told.after(HOUR));
            sender.digest = sender.digest.filter(|digest| digest.due > now);
            !sender.told.is_empty() || sender.digest.is_some()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_for_an_hour_is_gathered() {
        let mut storm = Storm::default();
        let to = Address::parse("app@x.com").unwrap();
        let mut tell = |number: i64, at: u64| {
            let now = Timestamp(0).after(Duration::from_secs(at));
            match storm.tell(&to, 2, 1, MessageId::from_i64(100 + number), now) {
                Told::Report => None,
                Told::TooMany => panic!("it is one sender"),
                Told::Digest(digest) => {
                    Some((digest.id.to_i64(), digest.due.0 / 1_000, digest.lines))
                }
            }
        };
        assert_eq!([tell(1, 0), tell(2, 10)], [None, None]);
        assert_eq!(tell(3, 20), Some((103, 3_600, 1)));
        assert_eq!(tell(4, 30), Some((103, 3_600, 2)));
        // The digest may be on its way, so this one waits for the next.
        assert_eq!(tell(5, 3_590), Some((105, 3_710, 1)));
        assert_eq!(tell(6, 3_605), None, "the first hour is over");
        let mut last = None;
        for number in 7..300 {
            last = tell(number, 3_606);
        }
        assert_eq!(
            last.map(|(.., lines)| lines),
            Some(44),
            "a long one is followed by another"
        );
    }

    #[test]
    fn so_many_senders_are_told_in_an_hour_and_no_more() {
        let mut storm = Storm::default();
        let mut tell = |number: usize, now| {
            let to = Address::parse(&format!("a{number}@x.com")).unwrap();
            let id = MessageId::from_i64(1);
            storm.tell(&to, 2, 1, id, Timestamp(now)) == Told::Report
        };
        assert!((0..SENDERS).all(|number| tell(number, 0)));
        assert!(!tell(SENDERS, 1));
        assert!(tell(7, 1), "one of them is still told");
        assert!(tell(SENDERS, 3_600_000));
    }

    #[test]
    fn what_is_on_its_way_takes_no_more() {
        let mut storm = Storm::default();
        let to = Address::parse("app@x.com").unwrap();
        let tell = |storm: &mut Storm, number: i64| {
            let id = MessageId::from_i64(100 + number);
            match storm.tell(&to, 0, 1, id, Timestamp(0)) {
                Told::Report | Told::TooMany => panic!("each goes with the digest"),
                Told::Digest(digest) => (digest.id.to_i64(), digest.lines),
            }
        };
        assert_eq!(tell(&mut storm, 1), (101, 1));
        storm.leaves(MessageId::from_i64(7));
        assert_eq!(tell(&mut storm, 2), (101, 2));
        storm.leaves(MessageId::from_i64(101));
        assert_eq!(tell(&mut storm, 3), (103, 1));
    }
}
