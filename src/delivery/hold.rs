//! Whether a mailbox is used: holds, the one message that probes whether a hold is over, and senders that
//! the mailbox may not send as. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::{MessageId, Timestamp};
use crate::message::Address;
use crate::transport::Answer;

/// How long a sender that the mailbox may not send as is refused without asking the server.
const REFUSED: Duration = Duration::from_secs(3_600);

/// Senders that are refused so; the oldest make room.
const MOST_REFUSED: usize = 100;

/// Messages that are remembered to have brought about a hold: more than sessions that meet it at once.
const MOST_SUSPECTS: usize = 100;

/// A mailbox is not used for now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Since when.
    pub since: Timestamp,
    /// Until when; then one message probes it. None: until an operator releases it.
    pub until: Option<Timestamp>,
    /// Why, with the remedy.
    pub reason: String,
}

/// What a mailbox lets its servers send now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// Whatever its limits allow.
    Open,
    /// One message, to find out whether the hold is over.
    OneMessage,
    /// Nothing.
    Closed,
}

/// After a hold one message goes first, whichever server's it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Probe {
    /// There is nothing to be found out.
    #[default]
    None,
    /// One message may go.
    Due,
    /// It is on its way.
    UnderWay,
}

/// How the server refused a sender: its answer, and what mends it.
pub(super) type SenderRefusal = (Answer, String);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Holding {
    hold: Option<Hold>,
    probe: Probe,
    /// Messages whose attempts brought about the hold; the oldest make room.
    suspects: Vec<MessageId>,
    refused: Vec<(Address, Timestamp, SenderRefusal)>,
}

impl Holding {
    /// As an earlier run left it.
    pub(super) fn restored(hold: Option<Hold>) -> Self {
        Self {
            hold,
            ..Self::default()
        }
    }

    /// Why it is not used, if it is not.
    pub(super) fn hold(&self) -> Option<&Hold> {
        self.hold.as_ref()
    }

    /// What may be sent now.
    pub(super) fn gate(&self) -> Gate {
        match (&self.hold, self.probe) {
            (Some(_), _) | (None, Probe::UnderWay) => Gate::Closed,
            (None, Probe::Due) => Gate::OneMessage,
            (None, Probe::None) => Gate::Open,
        }
    }

    /// The one message that probes is on its way.
    pub(super) fn begin_probe(&mut self) {
        self.probe = Probe::UnderWay;
    }

    /// The one message has shown nothing: another may go.
    pub(super) fn probe_again(&mut self) {
        if self.probe == Probe::UnderWay {
            self.probe = Probe::Due;
        }
    }

    /// The server took what was sent; whether that ends a hold.
    pub(super) fn is_well(&mut self) -> bool {
        std::mem::take(&mut self.probe) != Probe::None
    }

    /// Leaves the mailbox alone. An operator's hold stays, unless an operator holds it again.
    pub(super) fn begin(&mut self, hold: Hold) {
        let is_by_hand = self.hold.as_ref().is_some_and(|hold| hold.until.is_none());
        if hold.until.is_none() || !is_by_hand {
            self.hold = Some(hold);
        }
    }

    /// Ends a hold that is over at `now`; whether there was one.
    pub(super) fn end(&mut self, now: Timestamp) -> bool {
        let is_over = |hold: &Hold| hold.until.is_some_and(|until| until <= now);
        let over = self.hold.as_ref().is_some_and(is_over);
        if over {
            self.hold = None;
            self.probe = Probe::Due;
        }
        over
    }

    /// Ends any hold, or any but an operator's; whether there was one.
    pub(super) fn release(&mut self, also_by_hand: bool) -> bool {
        let ends = |hold: &Hold| also_by_hand || hold.until.is_some();
        let ended = self.hold.as_ref().is_some_and(ends);
        if ended {
            self.hold = None;
            self.probe = Probe::Due;
            self.refused.clear();
        }
        ended
    }

    /// An attempt at this message brought about a hold.
    pub(super) fn suspect(&mut self, id: MessageId) {
        if self.suspects.len() >= MOST_SUSPECTS {
            self.suspects.remove(0);
        }
        self.suspects.push(id);
    }

    /// The messages that brought about the hold that has ended.
    pub(super) fn take_suspects(&mut self) -> Vec<MessageId> {
        std::mem::take(&mut self.suspects)
    }

    /// The server does not let the mailbox send as `sender`.
    pub(super) fn refuse(&mut self, sender: Address, refusal: SenderRefusal, now: Timestamp) {
        self.refused
            .retain(|(known, until, _)| now < *until && *known != sender);
        if self.refused.len() >= MOST_REFUSED {
            self.refused.remove(0);
        }
        self.refused.push((sender, now.after(REFUSED), refusal));
    }

    /// How it was refused to send as `sender` a while ago, if it was.
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
    fn what_an_operator_holds_only_an_operator_releases() {
        let mut holding = Holding::restored(Some(hold(None)));
        holding.begin(hold(Some(10)));
        assert!(!holding.end(Timestamp(99)) && !holding.release(false));
        assert_eq!(holding.hold(), Some(&hold(None)));
        assert!(holding.release(true) && !holding.release(true));
    }

    #[test]
    fn a_refused_sender_is_asked_for_again_after_an_hour_or_a_release() {
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
