//! How much one sender is told: so many reports an hour, and what comes on top in a digest. Pure.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::digest::Line;
use crate::base::{MessageId, Timestamp};
use crate::message::Address;

/// The time in which a sender is told so much.
const HOUR: Duration = Duration::from_secs(3_600);

/// Senders that are told something within the hour. Whoever may use any sender address must not make this
/// program write to the whole world.
pub const SENDERS: usize = 1_000;

/// Lines of a digest; more begin another one.
const LINES: usize = 250;

/// A digest that is due so soon takes no more, so that all of it is written when it is due.
const CLOSING: Duration = Duration::from_secs(60);

/// What every sender was told of late.
#[derive(Debug, Default)]
pub struct Storm {
    senders: HashMap<String, Sender>,
}

#[derive(Debug, Default)]
struct Sender {
    told: VecDeque<Timestamp>,
    /// Those that are not due, nor have left; the last may take more.
    digests: Vec<Digest>,
}

/// What a sender will be told at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// Its name.
    pub id: MessageId,
    /// When it goes.
    pub due: Timestamp,
    /// What it tells.
    pub lines: Vec<Line>,
    /// Octets of the text that was made of it last; the spool may not have it yet.
    pub size: u64,
}

/// How a sender is told something.
#[derive(Debug, PartialEq, Eq)]
pub enum Told<'a> {
    /// By a report of its own.
    Report,
    /// By this digest, which tells it by now.
    Digest(&'a mut Digest),
    /// Not at all: [`SENDERS`] others were told something within the hour.
    TooMany,
}

impl Storm {
    /// Decides for what is to be told of one message of `to`; `id` is the name of a digest that it may
    /// begin. `most` reports go in an hour.
    pub fn tell(
        &mut self,
        to: &Address,
        most: usize,
        lines: Vec<Line>,
        id: MessageId,
        now: Timestamp,
    ) -> Told<'_> {
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
        let takes = |digest: &Digest| digest.lines.len() < LINES && digest.due > now.after(CLOSING);
        let digest = sender.digests.pop_if(|digest| takes(digest));
        let digest = sender.digests.push_mut(digest.unwrap_or_else(|| Digest {
            id,
            due: begun.after(HOUR).max(now.after(2 * CLOSING)),
            lines: Vec::new(),
            size: 0,
        }));
        digest.lines.extend(lines);
        Told::Digest(digest)
    }

    /// Whether a message may leave, of which the spool had `size` octets. A digest may not while more of
    /// it is still to be written: it would go twice. Once it leaves, before its time maybe, what comes
    /// begins another.
    pub fn leaves(&mut self, id: MessageId, size: u64) -> bool {
        let is_more = |digest: &Digest| digest.id == id && digest.size > size;
        let mut digests = self.senders.values().flat_map(|sender| &sender.digests);
        if digests.any(is_more) {
            return false;
        }
        let senders = self.senders.values_mut();
        senders.for_each(|sender| sender.digests.retain(|digest| digest.id != id));
        true
    }

    fn forget(&mut self, now: Timestamp) {
        self.senders.retain(|_, sender| {
            sender.told.retain(|told| now < told.after(HOUR));
            sender.digests.retain(|digest| digest.due > now);
            !sender.told.is_empty() || !sender.digests.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: i64) -> Line {
        Line {
            about: MessageId::from_i64(number),
            received: Timestamp(0),
            recipient: Address::parse("to@y.com").unwrap(),
            said: "no".into(),
        }
    }

    #[test]
    fn what_is_too_much_for_an_hour_is_gathered() {
        let mut storm = Storm::default();
        let to = Address::parse("app@x.com").unwrap();
        let mut tell = |number: i64, at: u64| {
            let now = Timestamp(0).after(Duration::from_secs(at));
            match storm.tell(
                &to,
                2,
                vec![line(number)],
                MessageId::from_i64(100 + number),
                now,
            ) {
                Told::Report => None,
                Told::TooMany => panic!("it is one sender"),
                Told::Digest(digest) => {
                    Some((digest.id.to_i64(), digest.due.0 / 1_000, digest.lines.len()))
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
        let kept = &storm.senders["app@x.com"].digests;
        assert_eq!(kept.len(), 2, "the first was due");
    }

    #[test]
    fn so_many_senders_are_told_in_an_hour_and_no_more() {
        let mut storm = Storm::default();
        let mut tell = |number: usize, now| {
            let to = Address::parse(&format!("a{number}@x.com")).unwrap();
            let id = MessageId::from_i64(1);
            storm.tell(&to, 2, vec![line(1)], id, Timestamp(now)) == Told::Report
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
        let tell = |storm: &mut Storm, number| {
            let id = MessageId::from_i64(100 + number);
            match storm.tell(&to, 0, vec![line(number)], id, Timestamp(0)) {
                Told::Report | Told::TooMany => panic!("each goes with the digest"),
                Told::Digest(digest) => {
                    digest.size += 10;
                    (digest.id.to_i64(), digest.lines.len())
                }
            }
        };
        let id = MessageId::from_i64;
        assert_eq!(tell(&mut storm, 1), (101, 1));
        assert!(storm.leaves(id(7), 0), "it is no digest");
        assert_eq!(tell(&mut storm, 2), (101, 2));
        assert!(!storm.leaves(id(101), 10), "half of it is to be written");
        assert_eq!(tell(&mut storm, 3), (101, 3));
        assert!(storm.leaves(id(101), 30));
        assert_eq!(tell(&mut storm, 4), (104, 1));
        for number in 5..LINES as i64 + 4 {
            tell(&mut storm, number);
        }
        assert_eq!(tell(&mut storm, 1_000), (1_100, 1), "the other is full");
        assert!(!storm.leaves(id(104), 2_490), "and waits for its end still");
        assert!(storm.leaves(id(104), 2_500));
    }
}
