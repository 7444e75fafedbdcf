//! Direct mode, for an app that waits for the upstream's own reply: its message is sent at once, to all
//! recipients or to none, and is never queued.

use super::attempt::{compose, message_id, sent_as};
use super::desk::NotNow;
use super::fact::{self, Fact};
use super::plan::{Plan, ServerEntry};
use super::sending::{NotSent, Sendable};
use super::world::World;
use crate::message::{Address, Headers};
use crate::routing::{Decision, Refusal, Route};
use crate::spool::{Content, Origin, Permission, Record, Story};
use crate::transport::{Answer, Outcome, Progress};

/// The result of a message that was sent at once.
#[derive(Debug)]
pub enum DirectOutcome {
    /// The upstream's own reply, positive or negative.
    Upstream(Answer),
    /// Routing does not admit the message.
    Refused(Refusal),
    /// Trouble with the server, which is not the message's fault: the app can send the message again later.
    Trouble(String),
    /// The message cannot be sent now, for a reason that is in the log.
    Unavailable,
}

/// Sends a message at once.
pub(super) async fn send(world: &World, record: &Record, content: &Content) -> DirectOutcome {
    let plan = world.plan();
    let Some(entry) = world.entry(&plan, &record.lane) else {
        return DirectOutcome::Unavailable;
    };
    let Ok(head) = content.head().await else {
        return DirectOutcome::Unavailable;
    };
    let headers = Headers::parse(&head);
    let Origin::Client { user, listener, .. } = &record.origin else {
        return DirectOutcome::Unavailable;
    };
    let policy = &plan.settings.policy;
    let caller = policy.caller(user, listener);
    let recipients = record.envelope.recipients.iter().map(|it| &it.address);
    let author = headers.author();
    let mut decisions = policy.decide_each(&record.envelope.sender, &author, caller, recipients);
    match (decisions.pop(), decisions.is_empty()) {
        (Some((Decision::Refused(refusal), _)), true) => DirectOutcome::Refused(refusal),
        (Some((Decision::Route(route), _)), true) if route.server == entry.name() => {
            through(world, &plan, &entry, &route, record, &headers, content).await
        }
        // A reload has changed the routes meanwhile.
        _ => DirectOutcome::Unavailable,
    }
}

/// Sends a message through a server if the mailbox's limits allow it, as soon as the mailbox has a free
/// session.
async fn through(
    world: &World,
    plan: &Plan,
    entry: &ServerEntry,
    route: &Route,
    record: &Record,
    headers: &Headers<'_>,
    content: &Content,
) -> DirectOutcome {
    let count = record.envelope.recipients.len();
    let admission = match entry.desk.admit(count, world.clock.now()) {
        Ok(admission) => admission,
        Err(not_now) => return DirectOutcome::Trouble(why(entry, &not_now)),
    };
    if let Some(reason) = refused_by_nodes(world, entry, record, count).await {
        drop(entry.desk.settle(admission, 0));
        return DirectOutcome::Trouble(reason);
    }
    let composed = compose(world, plan, record, headers, route);
    let letter = Sendable {
        sender: &route.plan.envelope_sender,
        author: route.plan.from.as_ref().map(|mailbox| &mailbox.address),
        envelope: &record.envelope,
        composed: &composed,
        content,
        all_or_none: true,
    };
    let Some(mut seat) = world.seat_soon(&entry.desk).await else {
        drop(entry.desk.settle(admission, 0));
        let reason = "other nodes use all sessions of the mailbox";
        return DirectOutcome::Trouble(reason.to_owned());
    };
    let sent = world.sender.send(entry, &mut seat, &letter).await;
    entry.desk.sessions.park(seat, world.clock.now());
    let probe = entry.desk.settle(admission, reached(&sent, count));
    let answered = answered(world, plan, entry, sent);
    world.end_probe(probe);
    if let DirectOutcome::Upstream(answer) = &answered {
        let message_id = message_id(record, headers, &plan.settings.host);
        let sent_as = sent_as(&route.plan.envelope_sender, &record.envelope.sender);
        tell(world, entry, record, answer, message_id, sent_as);
    }
    answered
}

/// Returns why a message must not be sent now although this node alone would: the nodes together have used up a limit
/// of the mailbox. A database that does not answer refuses nothing.
async fn refused_by_nodes(
    world: &World,
    entry: &ServerEntry,
    record: &Record,
    count: usize,
) -> Option<String> {
    if let Some(spending) = entry.desk.spending(count) {
        let now = world.clock.now();
        let reserved = world.spool.reserve(record.id, spending, now).await;
        if let Ok(Permission::UsedUp(until)) = reserved {
            return Some(why(entry, &NotNow::UsedUp(until)));
        }
    }
    None
}

fn why(entry: &ServerEntry, not_now: &NotNow) -> String {
    let hold = entry.desk.held();
    match (not_now, hold) {
        (NotNow::Held, Some(hold)) => hold.reason,
        (NotNow::Held, None) => {
            "another message is testing whether the server works again".to_owned()
        }
        (NotNow::UsedUp(_), _) => "the mailbox has reached its sending limit".to_owned(),
    }
}

/// Returns how many recipients may have got a message that is sent either to all recipients or to none.
fn reached(sent: &Result<Outcome, NotSent>, count: usize) -> usize {
    let may_have = match sent {
        Ok(outcome) => !outcome.delivered.is_empty(),
        Err(NotSent::Interrupted(interruption)) => {
            interruption.progress == Progress::MayHaveArrived
        }
        Err(NotSent::Spool(_)) => false,
    };
    if may_have { count } else { 0 }
}

/// Applies the finding about the mailbox, and returns the result for the app. Trouble with the mailbox is not
/// the message's fault: the app receives a temporary error, even if the server's reply was permanent.
fn answered(
    world: &World,
    plan: &Plan,
    entry: &ServerEntry,
    sent: Result<Outcome, NotSent>,
) -> DirectOutcome {
    let interruption = match sent {
        Ok(outcome) => {
            let is_about_message = outcome.is_counted();
            let answer = outcome.decisive().cloned();
            world.note(plan, entry, outcome.finding, outcome.accepted.is_some());
            return match answer {
                Some(answer) if is_about_message => DirectOutcome::Upstream(answer),
                Some(answer) => temporary(Some(answer.clone()), answer.to_string()),
                None => DirectOutcome::Unavailable,
            };
        }
        Err(NotSent::Interrupted(interruption)) => interruption,
        Err(NotSent::Spool(_)) => return DirectOutcome::Unavailable,
    };
    let finding = interruption.finding.as_ref();
    let reason = finding.map_or(interruption.reason, |finding| finding.reason());
    world.note(plan, entry, interruption.finding, false);
    temporary(interruption.answer, reason)
}

fn temporary(answer: Option<Answer>, reason: String) -> DirectOutcome {
    match answer {
        Some(answer) if answer.is_transient() && answer.code != 421 => {
            DirectOutcome::Upstream(answer)
        }
        _ => DirectOutcome::Trouble(reason),
    }
}

/// Writes a message's story in the background, so that the app does not wait for the story. If the server
/// refused the message, nothing is logged, because the app receives the refusal as the reply.
fn tell(
    world: &World,
    entry: &ServerEntry,
    record: &Record,
    answer: &Answer,
    message_id: String,
    sent_as: Option<Address>,
) {
    let (at, server) = (world.clock.now(), entry.name());
    let recipients = record.envelope.recipients.iter();
    let to: Vec<Address> = recipients.map(|to| to.address.clone()).collect();
    let count = to.len();
    let was_accepted = answer.is_completion();
    let events = if was_accepted {
        let fact = Fact::Delivered {
            to,
            answer: answer.clone(),
            message_id,
            sent_as,
            waited: at.since(record.received),
        };
        fact::tell(vec![fact], record.id, server, &world.clock)
    } else {
        let failed = to.into_iter().map(|to| Fact::Failed {
            to,
            answer: answer.clone(),
            remedy: String::new(),
        });
        fact::events(failed.collect(), server, at)
    };
    let story = Story {
        record: record.clone(),
        ended: Some(at),
        events,
    };
    let used = entry.desk.used(count, at).filter(|_| was_accepted);
    let spool = world.spool.clone();
    tokio::spawn(async move { spool.add_story(story, used).await });
}
