//! Decides the fate of a message after an attempt. Pure.

use std::time::Duration;

use super::bounce::{Failed, ReportKind};
use super::fact::Fact;
use super::options::{DeliveryOptions, Uncertain};
use crate::base::Timestamp;
use crate::message::{Address, Recipient};
use crate::spool::{Fate, Record};
use crate::transport::{Answer, Outcome};

/// A message that has caused this many holds of its mailbox is held for an operator.
const MOST_HOLDS: u32 = 2;

/// The delay from the end of a hold until the message that caused it is due, so that other messages go first.
pub(super) const BEHIND_OTHERS: Duration = Duration::from_secs(5);

/// The result of an attempt at a message.
pub(super) struct Tried {
    /// The message as it was before the attempt.
    pub(super) record: Record,
    /// The outcome for its recipients.
    pub(super) outcome: Outcome,
    /// The reason for an interruption, in words, if there was one.
    pub(super) interruption: Option<String>,
    /// True if the message may have arrived in spite of the interruption.
    pub(super) may_have_arrived: bool,
    /// The message's Message-ID, which identifies it at the other end.
    pub(super) message_id: String,
    /// The envelope sender in place of the app's, if it was rewritten.
    pub(super) sent_as: Option<Address>,
}

/// Everything that the fate depends on, besides the attempt itself.
pub(super) struct Circumstances<'a> {
    /// The server that sent the message.
    pub(super) server: &'a str,
    /// The configured options.
    pub(super) options: &'a DeliveryOptions,
    /// True if this run has tried long enough to give messages up.
    pub(super) may_give_up: bool,
    /// Now.
    pub(super) now: Timestamp,
    /// A random number in 0..1, so that messages that failed together are not all retried at the same time.
    pub(super) random: f64,
}

/// The decision about a message.
#[derive(Debug)]
pub(super) struct Settled {
    /// The message's fate.
    pub(super) fate: Fate,
    /// Facts for the log and the story.
    pub(super) facts: Vec<Fact>,
    /// Recipients for whom the message failed permanently.
    pub(super) failed: Vec<Failed>,
    /// Recipients who requested a confirmation that the server does not send (RFC 3461 §5.2.2).
    pub(super) relayed: Vec<Failed>,
}

impl Tried {
    /// Returns how many of the `attempted` recipients may have got the message.
    pub(super) fn reached(&self, attempted: usize) -> usize {
        if self.may_have_arrived {
            attempted
        } else {
            self.outcome.delivered.len()
        }
    }

    /// The reason why the message was not delivered, in words.
    fn last(&self) -> String {
        let said = || self.outcome.not_now.as_ref().map(Answer::to_string);
        self.interruption.clone().or_else(said).unwrap_or_default()
    }
}

/// The next step for the recipients that are neither delivered nor failed.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Nothing,
    Later(Timestamp),
    Held(String),
    GivenUp,
}

/// Decides the fate of a message after an attempt.
pub(super) fn settle(given: &Circumstances, tried: &Tried) -> Settled {
    let outcome = &tried.outcome;
    let all = &tried.record.envelope.recipients;
    let waiting = outcome.deferred.iter().chain(&outcome.next);
    let waiting: Vec<Recipient> = waiting.map(|&place| all[place].clone()).collect();
    let last = tried.last();
    // The attempt does not count if further recipients follow at once, or if the message was not to blame.
    let is_counted = outcome.is_counted() && outcome.next.is_empty();
    let record = Record {
        attempts: tried.record.attempts + u32::from(is_counted),
        uncertain: tried.record.uncertain | tried.may_have_arrived,
        ..tried.record.clone()
    };
    let (mut facts, relayed) = delivered(given, tried, all);
    let mut failed = refused(outcome, all);
    let next = match waiting.is_empty() {
        true => Next::Nothing,
        false if is_counted => after_attempt(given, tried, record.attempts),
        false => after_hold(tried, given.now),
    };
    let fate = match next {
        Next::Nothing => Fate::Gone(Box::new(record)),
        Next::Later(due) => {
            if is_counted {
                facts.push(Fact::Deferred {
                    until: due,
                    attempts: record.attempts,
                    reason: last.clone(),
                    may_have_arrived: tried.may_have_arrived,
                });
            }
            let record = kept(given, tried, record, waiting, &last);
            Fate::Later(Box::new(Record { due, ..record }))
        }
        Next::Held(reason) => {
            let record = kept(given, tried, record, waiting, &last);
            hold(record, reason, &mut facts)
        }
        Next::GivenUp => {
            failed.extend(given_up(&record, waiting, &last));
            Fate::Gone(Box::new(record))
        }
    };
    Settled {
        fate,
        facts: [facts, failures(&failed)].concat(),
        failed,
        relayed,
    }
}

/// Gives a message up for all its recipients; `last` is the reason why it was not delivered.
pub(super) fn give_up(record: &Record, last: &str) -> Settled {
    let failed = given_up(record, record.envelope.recipients.clone(), last);
    Settled {
        fate: Fate::Gone(Box::new(record.clone())),
        facts: failures(&failed),
        failed,
        relayed: Vec::new(),
    }
}

/// Returns the fate of a message that is held for an operator, and adds the fact to `facts`.
pub(super) fn hold(record: Record, reason: String, facts: &mut Vec<Fact>) -> Fate {
    facts.push(Fact::Held {
        reason: reason.clone(),
    });
    Fate::Held(Box::new(Record {
        last: Some(reason),
        ..record
    }))
}

/// Keeps a message whose failure cannot be reported to anybody, so that it does not vanish. If the message
/// stays in the spool for other recipients, the failed recipients stay with them and are tried again.
/// Otherwise the message is held for the failed recipients.
pub(super) fn untold(settled: &mut Settled, untold: Vec<Failed>, why: &str) {
    let Some(first) = untold.first() else { return };
    let reason = format!(
        "delivery failed, and nobody is told because {why}: {}",
        first.answer
    );
    let recipients = untold.into_iter().map(|failed| failed.recipient);
    match &mut settled.fate {
        Fate::Later(rest) | Fate::Held(rest) => rest.envelope.recipients.extend(recipients),
        Fate::Gone(record) => {
            let mut record = Record::clone(record);
            record.envelope.recipients = recipients.collect();
            settled.fate = hold(record, reason, &mut settled.facts);
        }
    }
}

/// Returns the fact that the message was delivered, and the recipients who requested a confirmation that the
/// server does not send.
fn delivered(given: &Circumstances, tried: &Tried, all: &[Recipient]) -> (Vec<Fact>, Vec<Failed>) {
    let Some(answer) = &tried.outcome.accepted else {
        return (Vec::new(), Vec::new());
    };
    let delivered = tried.outcome.delivered.iter();
    let delivered: Vec<&Recipient> = delivered.map(|&place| &all[place]).collect();
    let addresses = delivered.iter().map(|it| it.address.clone());
    let fact = Fact::Delivered {
        to: addresses.collect::<Vec<Address>>(),
        answer: answer.clone(),
        message_id: tried.message_id.clone(),
        sent_as: tried.sent_as.clone(),
        waited: given.now.since(tried.record.received),
    };
    let asked = delivered.into_iter();
    let asked = asked.filter(|it| !tried.outcome.confirms && ReportKind::Relayed.is_wanted(it));
    let relayed = asked.map(|recipient| Failed {
        recipient: recipient.clone(),
        answer: answer.clone(),
        by_upstream: true,
        remedy: String::new(),
    });
    (vec![fact], relayed.collect())
}

fn refused(outcome: &Outcome, all: &[Recipient]) -> Vec<Failed> {
    let refused = outcome.failed.iter().map(|refused| Failed {
        recipient: all[refused.place].clone(),
        answer: refused.answer.clone(),
        by_upstream: true,
        remedy: refused.remedy.clone(),
    });
    refused.collect()
}

fn given_up(record: &Record, recipients: Vec<Recipient>, last: &str) -> Vec<Failed> {
    let text = format!(
        "Given up after {} attempts; the last error: {last}",
        record.attempts
    );
    let answer = Answer::new(554, "5.4.7", text);
    let late = recipients.into_iter().map(|recipient| Failed {
        recipient,
        answer: answer.clone(),
        by_upstream: false,
        remedy: String::new(),
    });
    late.collect()
}

fn failures(failed: &[Failed]) -> Vec<Fact> {
    let facts = failed.iter().map(|failed| Fact::Failed {
        to: failed.recipient.address.clone(),
        answer: failed.answer.clone(),
        remedy: failed.remedy.clone(),
    });
    facts.collect()
}

/// Returns the message as it stays in the spool, with only the waiting recipients.
fn kept(
    given: &Circumstances,
    tried: &Tried,
    mut record: Record,
    waiting: Vec<Recipient>,
    last: &str,
) -> Record {
    record.envelope.recipients = waiting;
    record.holds += u32::from(tried.outcome.holds_for().is_some());
    record.lane = given.server.to_owned();
    if !last.is_empty() {
        record.last = Some(last.to_owned());
    }
    record
}

/// Returns the next step after an attempt that does not count. If the attempt caused no hold of the mailbox,
/// the message is due at once. If it caused a hold, the message is due after that hold, behind other
/// messages. A message that has caused two holds is held for an operator.
fn after_hold(tried: &Tried, now: Timestamp) -> Next {
    let Some(hold) = tried.outcome.holds_for() else {
        return Next::Later(now);
    };
    if tried.record.holds + 1 < MOST_HOLDS {
        return Next::Later(now.after(hold).after(BEHIND_OTHERS));
    }
    Next::Held(format!(
        "set aside, because sending it caused {MOST_HOLDS} holds of the mailbox: {}; `queue retry` sends it \
         again, `queue delete` removes it",
        tried.last()
    ))
}

/// Returns the next step for the waiting recipients after an attempt that counts.
fn after_attempt(given: &Circumstances, tried: &Tried, attempts: u32) -> Next {
    let now = given.now;
    let received = if given.may_give_up {
        tried.record.received
    } else {
        now
    };
    let usual = given
        .options
        .schedule()
        .next(received, attempts, now, given.random);
    let asked = now.after(tried.outcome.wait.unwrap_or(Duration::ZERO));
    match (tried.may_have_arrived, given.options.uncertain, usual) {
        (true, Uncertain::Retry, _) if tried.record.uncertain => Next::Held(format!(
            "two attempts may have delivered it: {}; `queue release` sends it once more, `queue delete` removes it",
            tried.last()
        )),
        (true, Uncertain::Hold, _) => Next::Held(format!(
            "it may have been delivered: {}; `queue release` sends it again, `queue delete` removes it",
            tried.last()
        )),
        (true, Uncertain::Retry, usual) => {
            let late = now.after(given.options.uncertain_pause);
            Next::Later(late.max(usual.unwrap_or(now)))
        }
        (false, _, Some(due)) => Next::Later(due.max(asked)),
        (false, _, None) => Next::GivenUp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::MessageId;
    use crate::message::{Envelope, Parameters, ReversePath};
    use crate::spool::Origin;
    use crate::transport::{FailedRecipient, Finding, Until};
    use proptest::prelude::*;

    fn tried(was_uncertain: bool, may_have_arrived: bool) -> Tried {
        let recipient = Recipient {
            address: Address::parse("to@x.com").unwrap(),
            parameters: Parameters::default(),
        };
        let record = Record {
            uncertain: was_uncertain,
            ..Record::new(
                MessageId::from_i64(1),
                Timestamp(0),
                Origin::Report(MessageId::from_i64(2)),
                Envelope {
                    sender: ReversePath::Null,
                    parameters: Parameters::default(),
                    recipients: vec![recipient],
                },
            )
        };
        Tried {
            record,
            outcome: Outcome {
                deferred: vec![0],
                ..Outcome::default()
            },
            interruption: Some("lost".into()),
            may_have_arrived,
            message_id: String::new(),
            sent_as: None,
        }
    }

    fn options(uncertain: Uncertain) -> DeliveryOptions {
        DeliveryOptions {
            uncertain,
            uncertain_pause: Duration::from_secs(3_600),
            ..DeliveryOptions::default()
        }
    }

    fn given(options: &DeliveryOptions, minutes: u64) -> Circumstances<'_> {
        Circumstances {
            server: "s",
            options,
            may_give_up: true,
            now: Timestamp(0).after(Duration::from_secs(60 * minutes)),
            random: 0.5,
        }
    }

    #[test]
    fn a_message_that_got_its_mailbox_held_goes_behind_the_others_and_then_aside() {
        let hours = Duration::from_secs(4 * 3_600);
        let mut tried = tried(false, false);
        tried.interruption = None;
        tried.outcome.not_now = Some(Answer::new(550, "5.2.251", "Sender throttled"));
        tried.outcome.finding = Some(Finding::Held(Until::For(hours), "blocked".into()));
        let options = options(Uncertain::Hold);
        let given = given(&options, 0);
        let settled = settle(&given, &tried);
        let Fate::Later(later) = settled.fate else {
            panic!("it is tried again");
        };
        assert_eq!(later.due, given.now.after(hours).after(BEHIND_OTHERS));
        assert_eq!((later.attempts, later.holds), (0, 1));
        assert_eq!(settled.facts, []);
        tried.record.holds = 1;
        let Fate::Held(held) = settle(&given, &tried).fate else {
            panic!("it is set aside");
        };
        assert!(held.last.unwrap().contains("5.2.251"));
    }

    #[test]
    fn a_wait_that_the_server_asks_for_is_kept() {
        let options = options(Uncertain::Hold);
        let mut tried = tried(false, false);
        tried.outcome.wait = Some(Duration::from_secs(1_800));
        let given = given(&options, 1);
        assert_eq!(
            after_attempt(&given, &tried, 1),
            Next::Later(given.now.after(Duration::from_secs(1_800)))
        );
    }

    fn next_of(uncertain: Uncertain, was: bool, is: bool, minutes: u64) -> Next {
        let options = options(uncertain);
        after_attempt(&given(&options, minutes), &tried(was, is), 1)
    }

    #[test]
    fn what_may_have_arrived_is_tried_once_more_and_late() {
        let at = |minutes: u64| Next::Later(Timestamp(0).after(Duration::from_secs(60 * minutes)));
        assert_eq!(next_of(Uncertain::Retry, false, true, 1), at(61));
        assert_eq!(next_of(Uncertain::Retry, true, false, 1), at(2));
        let last = 5 * 24 * 60 - 1;
        assert_eq!(next_of(Uncertain::Retry, false, true, last), at(last + 60));
        assert_eq!(next_of(Uncertain::Retry, true, false, last), Next::GivenUp);
        for next in [
            next_of(Uncertain::Retry, true, true, 1),
            next_of(Uncertain::Hold, false, true, 1),
        ] {
            assert!(matches!(next, Next::Held(_)), "{next:?}");
        }
    }

    proptest! {
        /// Each recipient ends up delivered, failed or still waiting, and in only one of these groups.
        #[test]
        fn no_recipient_is_lost(
            kinds in prop::collection::vec(0u8..4, 1..20),
            may_have_arrived in any::<bool>(),
            was_uncertain in any::<bool>(),
            minutes in 0u64..10_000,
        ) {
            let mut tried = tried(was_uncertain, may_have_arrived);
            tried.outcome = Outcome::default();
            let recipient = |place: usize| Recipient {
                address: Address::parse(&format!("r{place}@x.com")).unwrap(),
                parameters: Parameters::default(),
            };
            tried.record.envelope.recipients = (0..kinds.len()).map(recipient).collect();
            let answer = Answer::new(250, "", "x");
            for (place, kind) in kinds.iter().enumerate() {
                let outcome = &mut tried.outcome;
                match kind {
                    0 => {
                        outcome.delivered.push(place);
                        outcome.accepted = Some(answer.clone());
                    }
                    1 => outcome.failed.push(FailedRecipient {
                        place,
                        answer: answer.clone(),
                        remedy: String::new(),
                    }),
                    2 => outcome.deferred.push(place),
                    _ => outcome.next.push(place),
                }
            }
            let options = options(Uncertain::Hold);
            let settled = settle(&given(&options, minutes), &tried);
            let mut ended: Vec<Address> = settled
                .facts
                .iter()
                .flat_map(|fact| match fact {
                    Fact::Delivered { to, .. } => to.clone(),
                    Fact::Failed { to, .. } => vec![to.clone()],
                    _ => Vec::new(),
                })
                .collect();
            if let Fate::Later(record) | Fate::Held(record) = &settled.fate {
                ended.extend(record.envelope.recipients.iter().map(|it| it.address.clone()));
            }
            let mut all: Vec<Address> = tried.record.envelope.recipients.iter().map(|it| it.address.clone()).collect();
            ended.sort_by(|a, b| a.as_str().cmp(b.as_str()));
            all.sort_by(|a, b| a.as_str().cmp(b.as_str()));
            prop_assert_eq!(ended, all);
        }
    }
}
