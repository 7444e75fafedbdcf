//! After an attempt: the message's fate, the log and the story of it, and what its sender is told.

use std::time::Duration;

use bytes::Bytes;

use super::attempt::recipients_at_once;
use super::bounce::storm::SENDERS;
use super::bounce::{Failed, Kind};
use super::context::Context;
use super::lane::Lane;
use super::notice::{About, notice, sender};
use super::outcome::Verdict;
use super::trouble;
use crate::base::Timestamp;
use crate::message::{Address, Recipient};
use crate::observe::maillog;
use crate::session::Reply;
use crate::spool::{Claim, Event, Fate, Finish, Record, What};

/// Holds of a mailbox that one message may bring about; then it is set aside.
const MOST_HOLDS: u32 = 2;

/// How long after the end of a hold the message that brought it about is due: any other goes first.
pub(super) const BEHIND_OTHERS: Duration = Duration::from_secs(5);

/// What becomes of a message that may have arrived, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uncertain {
    /// It is sent once more, after so long.
    Retry(Duration),
    /// It is held for a person.
    Hold,
}

/// How an attempt at a message ended.
pub(super) struct Tried<'a> {
    pub(super) claim: Claim,
    /// The message as it was before.
    pub(super) record: Record,
    /// Of a digest, the number of its last line.
    pub(super) sent_lines: u64,
    /// What became of its recipients.
    pub(super) verdict: Verdict,
    /// Why some are to be tried again, where no reply says so.
    pub(super) reason: Option<String>,
    /// Whether it may have arrived all the same.
    pub(super) is_uncertain: bool,
    /// Whether the server confirms delivery by itself.
    pub(super) confirms: bool,
    /// Its header section.
    pub(super) head: &'a [u8],
    /// All of it, where it is in memory.
    pub(super) whole: Option<Bytes>,
    /// What it is known by at the other end.
    pub(super) message_id: String,
    /// The address that it was sent as: the reverse-path or, of a report, whom it is from.
    pub(super) sender: Option<Address>,
}

impl Tried<'_> {
    /// How many of the `attempted` recipients may have got the message.
    pub(super) fn reached(&self, attempted: usize) -> usize {
        if self.is_uncertain {
            attempted
        } else {
            self.verdict.delivered.len()
        }
    }
}

/// What becomes of those recipients that are not done with.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Nothing,
    Later(Timestamp),
    Held(String),
    GivenUp,
}

/// A message on its way to its fate.
struct Settling<'a> {
    context: &'a Context,
    server: &'a str,
    about: &'a About<'a>,
    now: Timestamp,
    finish: Finish,
}

/// Turns what an attempt found into the message's fate.
pub(super) fn settle(lane: &Lane, tried: Tried) -> Finish {
    let now = lane.context.clock.now();
    let mut record = tried.record.clone();
    let all = std::mem::take(&mut record.envelope.recipients);
    let Verdict {
        delivered, failed, ..
    } = &tried.verdict;
    // What goes on at once, and what was not the message's fault, is no failed attempt.
    let is_counted = tried.verdict.is_counted() && tried.verdict.next.is_empty();
    record.attempts += u32::from(is_counted);
    record.uncertain |= tried.is_uncertain;
    let waiting = [&tried.verdict.deferred[..], &tried.verdict.next].concat();
    let waiting: Vec<Recipient> = waiting.iter().map(|&place| all[place].clone()).collect();
    let sender = tried.sender.as_ref();
    let failed = failed.iter().map(|(place, reply, row)| Failed {
        recipient: all[*place].clone(),
        reply: reply.clone(),
        by_upstream: true,
        remedy: trouble::remedy(&lane.server, row, sender),
    });
    let failed: Vec<Failed> = failed.collect();
    let about = About {
        claim: tried.claim,
        record: &record,
        head: tried.head,
        whole: tried.whole.clone(),
        upstream: &lane.server.upstream.host,
    };
    let mut settling = Settling::new(&lane.context, &lane.server.name, &about);
    let delivered: Vec<&Recipient> = delivered.iter().map(|&place| &all[place]).collect();
    settling.delivered(&tried, &delivered);
    let reached = tried.reached(recipients_at_once(lane, &tried.record));
    settling.finish.used = lane.used(reached, now);
    settling.finish.sent_lines = tried.sent_lines;
    let last = last(&tried);
    let next = if waiting.is_empty() {
        Next::Nothing
    } else if is_counted {
        let usual = usual(lane, &record, now);
        next(lane.context.settings.uncertain, &tried, usual, now)
    } else {
        after_hold(&tried, now)
    };
    let later = |waiting: Vec<Recipient>| {
        let mut later = record.clone();
        later.envelope.recipients = waiting;
        later.holds += u32::from(tried.verdict.holds_for().is_some());
        later.lane = lane.server.name.clone();
        later.last = Some(last.clone())
            .filter(|last| !last.is_empty())
            .or(later.last);
        later
    };
    match next {
        Next::Nothing => settling.failed(failed),
        Next::Later(due) => {
            if is_counted {
                settling.deferred(due, &last, tried.is_uncertain);
            }
            let later = Record {
                due,
                ..later(waiting)
            };
            settling.finish.fate = Fate::Later(Box::new(later));
            settling.failed(failed);
        }
        Next::Held(reason) => {
            settling.held(later(waiting), reason);
            settling.failed(failed);
        }
        Next::GivenUp => {
            let reply = given_up(&record, &last);
            let late = waiting.into_iter().map(|recipient| Failed {
                recipient,
                reply: reply.clone(),
                by_upstream: false,
                remedy: String::new(),
            });
            settling.failed(failed.into_iter().chain(late).collect());
        }
    }
    settling.finish
}

/// Gives up a message that has waited long enough, for all its recipients; `last` is what stood in its
/// way.
pub(super) fn give_up(context: &Context, server: &str, about: &About, last: &str) -> Finish {
    let reply = given_up(about.record, last);
    let recipients = about.record.envelope.recipients.iter();
    let failed = recipients.map(|recipient| Failed {
        recipient: recipient.clone(),
        reply: reply.clone(),
        by_upstream: false,
        remedy: String::new(),
    });
    let mut settling = Settling::new(context, server, about);
    settling.failed(failed.collect());
    settling.finish
}

/// Tells the sender that a message is late, and until when it is tried.
pub(super) fn warn(context: &Context, about: &About, last: &str) -> Option<Finish> {
    let expires = context.settings.schedule.expires_after;
    let until = about.record.received.after(expires);
    // A run that has just begun gives nothing up yet.
    let until = until.max(context.clock.now().after(context.tries_for()));
    let kind = Kind::Delayed(context.clock.shown(until));
    let recipients = about.record.envelope.recipients.iter();
    let late = recipients.filter(|recipient| kind.is_wanted(recipient));
    let late = late.map(|recipient| Failed {
        recipient: recipient.clone(),
        reply: Reply::new(451, "4.4.7", format!("Delayed: {last}")),
        by_upstream: false,
        remedy: String::new(),
    });
    let late: Vec<Failed> = late.collect();
    if late.is_empty() {
        return None;
    }
    let (report, event) = notice(context, about, kind, &late)?;
    let warned = Record {
        warned: true,
        ..about.record.clone()
    };
    let mut finish = Finish::new(about.claim, Fate::Later(Box::new(warned)));
    report.add_to(&mut finish);
    finish.events.push(event);
    Some(finish)
}

fn given_up(record: &Record, last: &str) -> Reply {
    let text = format!(
        "Given up after {} attempts; the last ended with: {last}",
        record.attempts
    );
    Reply::new(554, "5.4.7", text)
}

/// The words of what stands in the way.
fn last(tried: &Tried) -> String {
    let said = || tried.verdict.not_now.as_ref().map(Reply::to_string);
    tried.reason.clone().or_else(said).unwrap_or_default()
}

/// When a message is tried again whose attempt was no fault of it: at once, but behind all others where
/// its attempt got the mailbox held. One that did so twice waits for a person.
fn after_hold(tried: &Tried, now: Timestamp) -> Next {
    let Some(hold) = tried.verdict.holds_for() else {
        return Next::Later(now);
    };
    if tried.record.holds + 1 < MOST_HOLDS {
        return Next::Later(now.after(hold).after(BEHIND_OTHERS));
    }
    Next::Held(format!(
        "sending it got the mailbox held {MOST_HOLDS} times, so it is set aside: {}; `queue retry` sends it \
         again, `queue delete` removes it",
        last(tried)
    ))
}

/// When a message that was tried is tried again by the schedule, unless that would be too late.
fn usual(lane: &Lane, record: &Record, now: Timestamp) -> Option<Timestamp> {
    let received = if lane.context.has_tried() {
        record.received
    } else {
        now
    };
    let schedule = &lane.context.settings.schedule;
    schedule.next(received, record.attempts, now, rand::random())
}

/// What becomes of those who wait after an attempt that counts; `usual` is what the schedule says.
fn next(uncertain: Uncertain, tried: &Tried, usual: Option<Timestamp>, now: Timestamp) -> Next {
    match (tried.is_uncertain, uncertain, usual) {
        (true, Uncertain::Retry(_), _) if tried.record.uncertain => Next::Held(format!(
            "it may have arrived, twice: {}; `queue release` sends it once more, `queue delete` does not",
            last(tried)
        )),
        (true, Uncertain::Hold, _) => Next::Held(format!(
            "it may have arrived: {}; `queue release` sends it again, `queue delete` does not",
            last(tried)
        )),
        (true, Uncertain::Retry(pause), usual) => {
            Next::Later(now.after(pause).max(usual.unwrap_or(now)))
        }
        (false, _, Some(due)) => Next::Later(due),
        (false, _, None) => Next::GivenUp,
    }
}

impl<'a> Settling<'a> {
    fn new(context: &'a Context, server: &'a str, about: &'a About<'a>) -> Self {
        Self {
            context,
            server,
            about,
            now: context.clock.now(),
            finish: Finish::new(about.claim, Fate::Gone(Box::new(about.record.clone()))),
        }
    }

    fn tell(&mut self, what: What) {
        self.finish.events.push(Event { at: self.now, what });
    }

    fn delivered(&mut self, tried: &Tried, delivered: &[&Recipient]) {
        let Some(answer) = &tried.verdict.accepted else {
            return;
        };
        let record = self.about.record;
        let to: Vec<&Address> = delivered
            .iter()
            .map(|recipient| &recipient.address)
            .collect();
        let (reply, waited) = (answer.to_string(), self.now.since(record.received));
        maillog::delivered(record.id, self.server, &to, &reply, waited);
        self.tell(What::Delivered {
            server: self.server.to_owned(),
            to: to.into_iter().cloned().collect(),
            reply,
            message_id: tried.message_id.clone(),
        });
        if !tried.confirms {
            self.relayed(delivered, answer);
        }
    }

    /// Who asked for a confirmation hears at least that nobody will give it (RFC 3461 §5.2.2).
    fn relayed(&mut self, delivered: &[&Recipient], answer: &Reply) {
        let asked = delivered.iter().filter(|to| Kind::Relayed.is_wanted(to));
        let asked: Vec<Failed> = asked
            .map(|recipient| Failed {
                recipient: Recipient::clone(recipient),
                reply: answer.clone(),
                by_upstream: true,
                remedy: String::new(),
            })
            .collect();
        if asked.is_empty() {
            return;
        }
        if let Some((report, event)) = notice(self.context, self.about, Kind::Relayed, &asked) {
            report.add_to(&mut self.finish);
            self.finish.events.push(event);
        }
    }

    fn deferred(&mut self, until: Timestamp, reason: &str, uncertain: bool) {
        let record = self.about.record;
        let (id, attempts) = (record.id, record.attempts);
        let shown = self.context.clock.shown(until);
        maillog::deferred(id, self.server, shown, attempts, reason, uncertain);
        self.tell(What::Deferred {
            server: self.server.to_owned(),
            until,
            reason: reason.to_owned(),
            uncertain,
        });
    }

    fn held(&mut self, record: Record, reason: String) {
        maillog::held(record.id, &reason);
        let last = Some(reason.clone());
        self.finish.fate = Fate::Held(Box::new(Record { last, ..record }));
        self.tell(What::Held { reason });
    }

    /// Reports what failed; what nobody can be told of is held, so that it does not vanish.
    fn failed(&mut self, failed: Vec<Failed>) {
        let record = self.about.record;
        for Failed {
            recipient,
            reply,
            remedy,
            ..
        } in &failed
        {
            maillog::failed(record.id, self.server, &recipient.address, reply, remedy);
            self.tell(What::Failed {
                server: self.server.to_owned(),
                to: vec![recipient.address.clone()],
                reply: trouble::with_remedy(&reply.to_string(), remedy),
            });
        }
        let wanted = failed.into_iter();
        let wanted = wanted.filter(|failed| Kind::Failed.is_wanted(&failed.recipient));
        let wanted: Vec<Failed> = wanted.collect();
        if wanted.is_empty() {
            return;
        }
        match notice(self.context, self.about, Kind::Failed, &wanted) {
            Some((report, event)) => {
                report.add_to(&mut self.finish);
                self.finish.events.push(event);
            }
            None => self.untold(wanted),
        }
    }

    fn untold(&mut self, wanted: Vec<Failed>) {
        let why = match sender(self.about.record) {
            Some(to) => format!(
                "no report goes to {to}: no server can send one, or {SENDERS} senders had some within the hour"
            ),
            None => "it has no sender".to_owned(),
        };
        let reason = format!(
            "failed, and nobody is told because {why}: {}",
            wanted[0].reply
        );
        let recipients = wanted.into_iter().map(|failed| failed.recipient);
        match &mut self.finish.fate {
            // Some recipients are still to be tried: the failed ones stay with them, to be judged again.
            Fate::Later(rest) | Fate::Held(rest) => rest.envelope.recipients.extend(recipients),
            Fate::Gone(_) => {
                let mut record = self.about.record.clone();
                record.envelope.recipients = recipients.collect();
                self.held(record, reason);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{MessageId, Service};
    use crate::delivery::{Schedule, outcome};
    use crate::message::{Envelope, Parameters, Priority, ReversePath};
    use crate::session::Stage;
    use crate::spool::{Origin, State};

    fn tried(was_uncertain: bool, is_uncertain: bool) -> Tried<'static> {
        let record = Record {
            id: MessageId::from_i64(1),
            received: Timestamp(0),
            origin: Origin::Report(MessageId::from_i64(2)),
            envelope: Envelope {
                sender: ReversePath::Null,
                parameters: Parameters::default(),
                recipients: vec![],
            },
            size: 0,
            sum: None,
            lane: String::new(),
            priority: Priority::Normal,
            state: State::Queued,
            due: Timestamp(0),
            attempts: 1,
            last: None,
            uncertain: was_uncertain,
            warned: false,
            holds: 0,
            former_lane: None,
        };
        Tried {
            claim: Claim {
                id: record.id,
                number: 1,
            },
            record,
            sent_lines: 0,
            verdict: Verdict::default(),
            reason: Some("lost".into()),
            is_uncertain,
            confirms: true,
            head: b"",
            whole: None,
            message_id: String::new(),
            sender: None,
        }
    }

    #[test]
    fn a_message_that_got_its_mailbox_held_goes_behind_the_others_and_then_aside() {
        let blocked = Reply::new(550, "5.2.251", "Sender throttled");
        let mut tried = tried(false, false);
        tried.reason = None;
        let ok = Reply::ok();
        tried.verdict = outcome::judge(
            Service::ExchangeOnline,
            1,
            &ok,
            std::slice::from_ref(&ok),
            Some(&(Stage::FinalDot, blocked)),
        );
        let hours = Duration::from_secs(4 * 3_600);
        let later = Next::Later(Timestamp(0).after(hours).after(BEHIND_OTHERS));
        assert_eq!(after_hold(&tried, Timestamp(0)), later);
        tried.record.holds = 1;
        let Next::Held(reason) = after_hold(&tried, Timestamp(0)) else {
            panic!("it is set aside");
        };
        assert!(reason.contains("5.2.251"), "{reason}");
    }

    fn next_of(uncertain: Uncertain, was: bool, is: bool, minutes: u64) -> Next {
        let tried = tried(was, is);
        let now = Timestamp(0).after(Duration::from_secs(60 * minutes));
        let usual = Schedule::default().next(Timestamp(0), 1, now, 0.5);
        next(uncertain, &tried, usual, now)
    }

    #[test]
    fn what_may_have_arrived_is_tried_once_more_and_late() {
        let hour = Duration::from_secs(3_600);
        let at = |minutes: u64| Next::Later(Timestamp(0).after(Duration::from_secs(60 * minutes)));
        assert_eq!(next_of(Uncertain::Retry(hour), false, true, 1), at(61));
        assert_eq!(next_of(Uncertain::Retry(hour), true, false, 1), at(2));
        let last = 5 * 24 * 60 - 1;
        assert_eq!(
            next_of(Uncertain::Retry(hour), false, true, last),
            at(last + 60)
        );
        assert_eq!(
            next_of(Uncertain::Retry(hour), true, false, last),
            Next::GivenUp
        );
        for next in [
            next_of(Uncertain::Retry(hour), true, true, 1),
            next_of(Uncertain::Hold, false, true, 1),
        ] {
            assert!(matches!(next, Next::Held(_)), "{next:?}");
        }
    }
}
