//! Finds the lanes of queued messages: the servers that they wait for, under the current configuration. If the
//! recipients of a message take different routes, the message is split: each part is a message of its own in the
//! queue, and the story of the message names its parts.

use super::fact::{self, Fact};
use super::plan::Plan;
use super::settle;
use super::world::World;
use crate::base::Timestamp;
use std::time::Duration;

use tokio::io::AsyncReadExt;

use crate::message::{Headers, Recipient};
use crate::routing::{Caller, Decision, Route};
use crate::spool::{Claim, Claimed, Content, Fate, Finish, NewMessage, Origin, Record, SpoolError};

/// The octets of a stored content that are copied at once.
const PIECE: usize = 1 << 16;

/// The wait of a message that was routed again, but has no other way.
const ROUTED_AGAIN: Duration = Duration::from_secs(60);

/// The way of some recipients of a message.
pub(super) struct Way {
    /// The route, or the reason why there is none.
    pub(super) route: Result<Route, String>,
    /// The recipients.
    pub(super) recipients: Vec<Recipient>,
}

/// Returns the ways of a message's waiting recipients under the current configuration.
pub(super) fn ways(plan: &Plan, record: &Record, headers: &Headers, now: Timestamp) -> Vec<Way> {
    let (policy, all) = (&plan.settings.policy, &record.envelope.recipients);
    let Origin::Client { user, listener, .. } = &record.origin else {
        let route = plan.report_route().map(|(route, _)| route);
        return vec![Way {
            route: route.ok_or("no server can send reports: set default_from".into()),
            recipients: all.clone(),
        }];
    };
    let decisions = policy.decide_each(
        &record.envelope.sender,
        &headers.author(),
        policy.caller(user, listener),
        all.iter().map(|recipient| &recipient.address),
    );
    let way = |(decision, places): (Decision, Vec<usize>)| {
        let recipients: Vec<Recipient> =
            places.into_iter().map(|place| all[place].clone()).collect();
        let route = match decision {
            Decision::Route(route) => {
                // At its own server, the message probes whether the fault is over.
                let is_elsewhere = route.server != record.lane;
                let other = is_elsewhere
                    .then(|| by_fallback(plan, record, headers, &route.server, &recipients, now));
                Ok(other.flatten().unwrap_or(route))
            }
            Decision::Refused(refusal) => Err(format!(
                "the current configuration refuses it: {}",
                refusal.why
            )),
        };
        Way { route, recipients }
    };
    decisions.into_iter().map(way).collect()
}

/// Returns the route of a message through the fallback of its server, while that is used. The message is then sent as
/// if its user were pinned to the fallback. If the fallback cannot send it, it waits for its own server.
fn by_fallback(
    plan: &Plan,
    record: &Record,
    headers: &Headers,
    server: &str,
    recipients: &[Recipient],
    now: Timestamp,
) -> Option<Route> {
    let fallback = plan.fallback(server, now)?;
    let Origin::Client { user, listener, .. } = &record.origin else {
        return None;
    };
    if !fallback.priorities.contains(&record.priority) {
        return None;
    }
    let (policy, author) = (&plan.settings.policy, headers.author());
    let caller = Caller {
        pinned: Some(&fallback.server),
        servers: None,
        here: None,
        ..policy.caller(user, listener)
    };
    let addresses = recipients.iter().map(|recipient| &recipient.address);
    let mut decisions = policy.decide_each(&record.envelope.sender, &author, caller, addresses);
    match (decisions.pop()?.0, decisions.is_empty()) {
        (Decision::Route(route), true) => {
            let most = policy.message_size(&route.server);
            let fits = most.is_none_or(|most| record.size <= most);
            // The permission to write this From was given because it is replaced.
            let is_clear = route.plan.from.is_some() || author.mailbox().is_some();
            (fits && is_clear).then_some(route)
        }
        _ => None,
    }
}

/// Assigns a lane to a message without one, under the current configuration. Returns `None` if its content
/// cannot be read now.
pub(super) async fn assign(world: &World, plan: &Plan, message: Claimed) -> Option<Finish> {
    let Claimed {
        claim,
        record,
        content,
        ..
    } = message;
    let content = match content {
        Some(content) => content,
        None => world.spool.content(record.id).await.ok()?,
    };
    let head = content.head().await.ok()?;
    let ways = ways(plan, &record, &Headers::parse(&head), world.clock.now());
    assigned(world, (claim, record), &content, ways).await.ok()
}

/// Returns the fate of a message that takes these ways: it moves to the lane of the first way, or is held if there
/// is no route. Each further way gets a part of the message.
pub(super) async fn assigned(
    world: &World,
    (claim, mut record): (Claim, Record),
    content: &Content,
    ways: Vec<Way>,
) -> Result<Finish, SpoolError> {
    let (now, mut ways) = (world.clock.now(), ways.into_iter());
    let Some(first) = ways.next() else {
        // Nobody is left to send to.
        return Ok(Finish::new(claim, Fate::Gone(Box::new(record))));
    };
    let (mut parts, mut facts) = (Vec::new(), Vec::new());
    for way in ways {
        let id = world.spool.next_id(now);
        // Without a route, the part is routed again, and is held then.
        let lane = way.route.map(|route| route.server).unwrap_or_default();
        let to = way.recipients.iter().map(|it| it.address.clone());
        facts.push(Fact::Split {
            part: id,
            server: lane.clone(),
            to: to.collect(),
        });
        let mut part = Record {
            id,
            lane,
            former_lane: None,
            due: now,
            ..record.clone()
        };
        part.envelope.recipients = way.recipients;
        parts.push(NewMessage {
            content: copy(world, &part, content).await?,
            record: part,
        });
    }
    let events = fact::tell(facts, record.id, &record.lane, &world.clock);
    record.envelope.recipients = first.recipients;
    let mut finish = match first.route {
        Ok(route) => {
            tell_rerouted(world, &record, &route.server);
            // A message that its server's fallback cannot send waits a little before it is routed again.
            let is_back = record.former_lane.as_ref() == Some(&route.server);
            let due = if is_back {
                now.after(ROUTED_AGAIN)
            } else {
                now
            };
            moved(claim, record, route.server, due)
        }
        Err(reason) => held(world, claim, record, reason),
    };
    finish.events.splice(0..0, events);
    finish.reports = parts;
    Ok(finish)
}

/// Returns the content for a part of a message.
async fn copy(world: &World, part: &Record, content: &Content) -> Result<Content, SpoolError> {
    if content.in_memory().is_some() {
        return Ok(content.clone());
    }
    let (mut from, mut writer) = (content.open().await?, world.spool.writer(part.id));
    let mut piece = vec![0; PIECE];
    loop {
        let read = from.read(&mut piece).await;
        let read = read.map_err(|error| SpoolError::io("content".as_ref(), error))?;
        if read == 0 {
            return writer.finish().await;
        }
        writer.write(piece[..read].to_vec()).await?;
    }
}

fn tell_rerouted(world: &World, record: &Record, to: &str) {
    let from = record.former_lane.as_ref().unwrap_or(&record.lane);
    if from.is_empty() || from == to {
        return;
    }
    let fact = Fact::Rerouted {
        from: from.clone(),
        to: to.to_owned(),
    };
    fact::tell(vec![fact], record.id, to, &world.clock);
}

/// Logs that a message is held, and returns its fate: the message is held until an operator decides.
pub(super) fn held(world: &World, claim: Claim, record: Record, reason: String) -> Finish {
    let (id, lane, mut facts) = (record.id, record.lane.clone(), Vec::new());
    let fate = settle::hold(record, reason, &mut facts);
    Finish {
        events: fact::tell(facts, id, &lane, &world.clock),
        ..Finish::new(claim, fate)
    }
}

/// Returns the fate of a message that moves to another server's lane and is due there at this time.
fn moved(claim: Claim, record: Record, lane: String, due: Timestamp) -> Finish {
    let moved = Record {
        lane,
        former_lane: None,
        due,
        ..record
    };
    Finish::new(claim, Fate::Later(Box::new(moved)))
}
