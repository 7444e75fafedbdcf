//! Decides if a mailbox may be used. Keeps track of its hold, of the one message that probes whether the hold
//! is over, and of the senders that the mailbox may not send as. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::{MessageId, Timestamp};
use crate::message::Address;
use crate::transport::Answer;

/// How long the server's refusal of a sender is remembered. In that time the sender is refused without asking
/// the server again.
const REFUSED: Duration = Duration::from_secs(3_600);

/// The maximum number of refused senders that are remembered; the oldest are forgotten first.
const MOST_REFUSED: usize = 100;

/// The maximum number of messages that are remembered as the cause of a hold: more than the number of
/// sessions that can run into one hold at the same time.
const MOST_SUSPECTS: usize = 100;

/// A hold: the mailbox is not used for now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The start of the hold.
    pub since: Timestamp,
    /// The end of the hold, after which one message probes the mailbox. `None` if the hold lasts until an
    /// operator releases it.
    pub until: Option<Timestamp>,
    /// The kind of reason.
    #[serde(default)]
    pub cause: HoldCause,
    /// The reason, with the remedy.
    pub reason: String,
}

/// The kind of reason for a hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HoldCause {
    /// An operator holds the mailbox. Only such holds are stored for the next run.
    #[default]
    Operator,
    /// The server cannot be reached, or refuses the sign-in.
    Fault,
    /// The mailbox has sent as much as it may, or is blocked because of what it has sent.
    Limit,
}

/// The amount that a mailbox may send now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// Everything that its limits allow.
    Open,
    /// One message, to find out whether the hold is over.
    OneMessage,
    /// Nothing.
    Closed,
}

/// The state of the one message that goes first after a hold, through any server of the mailbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Probe {
    /// No probe is needed.
    #[default]
    None,
    /// One message may go.
    Due,
    /// The message is on its way.
    UnderWay,
}

/// The server's refusal of a sender: the server's reply, and the remedy.
pub(super) type SenderRefusal = (Answer, String);

/// The hold of a mailbox, and its refused senders.
#[derive(Debug, Default)]
pub(super) struct Holding {
    hold: Option<Hold>,
    /// The start of the first of the holds between which no message was accepted.
    since: Option<Timestamp>,
    /// The start of the first of the latest holds in a row that have a fault as their cause.
    fault_since: Option<Timestamp>,
    probe: Probe,
    /// Messages whose attempts caused the hold; the oldest are forgotten first.
    suspects: Vec<MessageId>,
    refused: Vec<(Address, Timestamp, SenderRefusal)>,
}

impl Holding {
    /// Restores the hold that an earlier run left.
    pub(super) fn restored(hold: Option<Hold>) -> Self {
        Self {
            hold,
            ..Self::default()
        }
    }

    /// The current hold, if there is one.
    pub(super) fn hold(&self) -> Option<&Hold> {
        self.hold.as_ref()
    }

    /// Returns since when the mailbox has not been usable because of a fault. A hold that has ended counts until a
    /// message is accepted. `None` if there is no fault, or if an operator holds the mailbox.
    pub(super) fn fault_since(&self) -> Option<Timestamp> {
        let is_by_hand = self.hold.as_ref().is_some_and(|hold| hold.until.is_none());
        self.fault_since.filter(|_| !is_by_hand)
    }

    /// The amount that may be sent now.
    pub(super) fn gate(&self) -> Gate {
        match (&self.hold, self.probe) {
            (Some(_), _) | (None, Probe::UnderWay) => Gate::Closed,
            (None, Probe::Due) => Gate::OneMessage,
            (None, Probe::None) => Gate::Open,
        }
    }

    /// Notes that the probing message is on its way.
    pub(super) fn begin_probe(&mut self) {
        self.probe = Probe::UnderWay;
    }

    /// Notes that the probe was inconclusive: another message may probe.
    pub(super) fn probe_again(&mut self) {
        if self.probe == Probe::UnderWay {
            self.probe = Probe::Due;
        }
    }

    /// Notes that the server accepted a message or the sign-in. Returns true if that ends the probing after a
    /// hold.
    pub(super) fn is_well(&mut self) -> bool {
        self.since = None;
        self.fault_since = None;
        std::mem::take(&mut self.probe) != Probe::None
    }

    /// Begins a hold. An operator's hold is replaced only by another operator's hold. If a probe has failed, the
    /// hold continues the one before it.
    pub(super) fn begin(&mut self, mut hold: Hold) {
        let is_by_hand = self.hold.as_ref().is_some_and(|hold| hold.until.is_none());
        if hold.until.is_none() {
            self.hold = Some(hold);
        } else if !is_by_hand {
            self.fault_since = match hold.cause {
                HoldCause::Fault => self.fault_since.or(Some(hold.since)),
                HoldCause::Limit | HoldCause::Operator => None,
            };
            hold.since = *self.since.get_or_insert(hold.since);
            self.hold = Some(hold);
        }
    }

    /// Ends the hold if its end has passed at `now`. Returns true if a hold has ended.
    pub(super) fn end(&mut self, now: Timestamp) -> bool {
        let is_over = |hold: &Hold| hold.until.is_some_and(|until| until <= now);
        let over = self.hold.as_ref().is_some_and(is_over);
        if over {
            self.hold = None;
            self.probe = Probe::Due;
        }
        over
    }

    /// Ends the hold, but an operator's hold only if `also_by_hand` is true. Returns true if a hold has
    /// ended.
    pub(super) fn release(&mut self, also_by_hand: bool) -> bool {
        let ends = |hold: &Hold| also_by_hand || hold.until.is_some();
        let ended = self.hold.as_ref().is_some_and(ends);
        if ended {
            self.hold = None;
            self.probe = Probe::Due;
            self.refused.clear();
            // A person has mended it, most likely.
            self.fault_since = None;
        }
        ended
    }

    /// Notes that an attempt at this message caused a hold.
    pub(super) fn suspect(&mut self, id: MessageId) {
        if self.suspects.len() >= MOST_SUSPECTS {
            self.suspects.remove(0);
        }
        self.suspects.push(id);
    }

    /// Takes the list of messages that caused the ended hold.
    pub(super) fn take_suspects(&mut self) -> Vec<MessageId> {
        std::mem::take(&mut self.suspects)
    }

    /// Notes that the server does not let the mailbox send as `sender`.
    pub(super) fn refuse(&mut self, sender: Address, refusal: SenderRefusal, now: Timestamp) {
        self.refused
            .retain(|(known, until, _)| now < *until && *known != sender);
        if self.refused.len() >= MOST_REFUSED {
            self.refused.remove(0);
        }
        self.refused.push((sender, now.after(REFUSED), refusal));
    }

    /// The server's recent refusal to let the mailbox send as `sender`, if there was one.
    pub(super) fn refuses(&self, sender: &Address, now: Timestamp) -> Option<SenderRefusal> {
        let known = self.refused.iter().find(|(known, ..)| known == sender);
        let (_, until, refusal) = known?;
        (now < *until).then(|| refusal.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(until: Option<i64>) -> Hold {
        Hold {
            since: Timestamp(0),
            until: until.map(Timestamp),
            cause: HoldCause::Fault,
            reason: "blocked".into(),
        }
    }

    #[test]
    fn one_message_probes_after_a_hold() {
        let mut holding = Holding::default();
        holding.begin(hold(Some(10)));
        assert_eq!(holding.gate(), Gate::Closed);
        assert!(!holding.end(Timestamp(9)) && holding.end(Timestamp(10)));
        assert_eq!(holding.gate(), Gate::OneMessage);
        holding.begin_probe();
        assert_eq!(holding.gate(), Gate::Closed);
        holding.probe_again();
        assert_eq!(holding.gate(), Gate::OneMessage);
        assert!(holding.is_well() && !holding.is_well());
        assert_eq!(holding.gate(), Gate::Open);
    }

    #[test]
    fn a_hold_after_a_failed_probe_continues_the_one_before() {
        let at = |since| Hold {
            since: Timestamp(since),
            ..hold(Some(since + 10))
        };
        let mut holding = Holding::default();
        holding.begin(at(0));
        holding.end(Timestamp(10));
        assert_eq!(holding.fault_since(), Some(Timestamp(0)));
        holding.begin(at(11));
        assert_eq!(holding.hold().map(|hold| hold.since), Some(Timestamp(0)));
        holding.end(Timestamp(30));
        holding.is_well();
        assert_eq!(holding.fault_since(), None);
        holding.begin(at(40));
        assert_eq!(holding.hold().map(|hold| hold.since), Some(Timestamp(40)));
    }

    #[test]
    fn only_a_fault_counts_as_a_fault() {
        let mut holding = Holding::default();
        holding.begin(Hold {
            cause: HoldCause::Limit,
            ..hold(Some(10))
        });
        assert_eq!(holding.fault_since(), None);
        holding.end(Timestamp(10));
        let fault = |since| Hold {
            since: Timestamp(since),
            ..hold(Some(since + 10))
        };
        // The time of the limit does not count.
        holding.begin(fault(20));
        assert_eq!(holding.fault_since(), Some(Timestamp(20)));
        holding.end(Timestamp(30));
        holding.begin(fault(31));
        assert_eq!(holding.fault_since(), Some(Timestamp(20)));
        assert!(holding.release(false));
        assert_eq!(holding.fault_since(), None);
        holding.begin(fault(40));
        holding.begin(hold(None));
        assert_eq!(holding.fault_since(), None);
    }

    #[test]
    fn what_an_operator_holds_only_an_operator_releases() {
        let mut holding = Holding::restored(Some(hold(None)));
        holding.begin(hold(Some(10)));
        assert!(!holding.end(Timestamp(99)) && !holding.release(false));
        assert_eq!(holding.hold(), Some(&hold(None)));
        assert!(holding.release(true) && !holding.release(true));
    }

    #[test]
    fn a_refused_sender_is_tried_again_after_an_hour_or_a_release() {
        let [one, other] = ["a@x.com", "b@x.com"].map(|text| Address::parse(text).unwrap());
        let answer = (Answer::new(554, "5.2.252", "SendAsDenied"), String::new());
        let mut holding = Holding::default();
        holding.refuse(one.clone(), answer.clone(), Timestamp(0));
        assert_eq!(holding.refuses(&one, Timestamp(1)), Some(answer));
        assert_eq!(holding.refuses(&other, Timestamp(1)), None);
        assert_eq!(holding.refuses(&one, Timestamp(0).after(REFUSED)), None);
        holding.begin(hold(Some(10)));
        holding.release(false);
        assert_eq!(holding.refuses(&one, Timestamp(1)), None);
    }
}
