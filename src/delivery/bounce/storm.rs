//! Limits how many separate reports a sender receives in an hour; further reports become lines of a digest.
//! Pure.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::base::{MessageId, Timestamp};
use crate::message::Address;

/// The period in which the reports to a sender are limited.
const HOUR: Duration = Duration::from_secs(3_600);

/// The maximum number of senders that receive reports within an hour. A client that may use any sender
/// address must not be able to make this program send mail to the whole world.
pub(crate) const SENDERS: usize = 1_000;

/// The number of lines at which a digest is full; further lines begin another one.
const LINES: usize = 250;

/// A digest that is due within this time takes no more lines, so that all its lines are in the spool when it
/// is sent.
const CLOSING: Duration = Duration::from_secs(60);

/// The record of recent reports to each sender.
#[derive(Debug, Default)]
pub(crate) struct Storm {
    senders: HashMap<String, ToldSender>,
}

#[derive(Debug, Default)]
struct ToldSender {
    told: VecDeque<Timestamp>,
    /// The digest that further lines are added to.
    digest: Option<Digest>,
}

/// A digest that a sender will receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest {
    /// The digest's ID.
    pub id: MessageId,
    /// The time at which the digest is sent.
    pub due: Timestamp,
    /// The number of its lines.
    lines: usize,
}

/// The way in which a report reaches a sender.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// By a separate report.
    Report,
    /// By lines in this digest, one for each recipient.
    Digest(Digest),
    /// Not at all: [`SENDERS`] other senders have received reports within the hour.
    TooMany,
}

impl Storm {
    /// Decides how the sender `to` receives the results for `lines` recipients of one message. `most` is the
    /// maximum number of separate reports in an hour; `id` becomes the ID of the digest if a new one begins.
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

    /// Notes that a message is about to be sent, perhaps before it is due. If the message is a digest,
    /// further lines begin another digest.
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
        // The digest may be on its way already, so this line goes into the next one.
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
