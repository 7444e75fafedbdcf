//! Moves messages that are due from the spool to the desks.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::desk::Pushed;
use super::fallback;
use super::fates::SPOOL_PAUSE;
use super::lanes;
use super::orphans;
use super::patrol::Patrol;
use super::plan::Plan;
use super::worker::Worker;
use super::world::{CLAIM, World};
use crate::base::Timestamp;
use crate::observe::maillog;
use crate::spool::{ClaimFrom, Claimed, Place, SpoolError};

/// The longest time between two rounds, for changes that no event announces: holds that end, idle sessions,
/// claims to renew.
const TICK: Duration = Duration::from_secs(5);

/// The maximum number of messages that are claimed at once.
const AT_ONCE: usize = 64;

/// Runs the scheduler until it is stopped.
pub(super) async fn run(world: Arc<World>, stopping: Arc<Notify>) {
    let clock = world.clock.clone();
    let (mut last_tick, mut patrol) = (clock.now(), Patrol::default());
    let (mut epoch, mut is_noted) = (world.spool.sessions_epoch(), false);
    loop {
        let next = match round(&world).await {
            Ok(next) => next,
            Err(error) => {
                maillog::claim_failed("", &error);
                clock.now().after(SPOOL_PAUSE)
            }
        };
        let now = clock.now();
        let is_tick = now.since(last_tick) >= TICK;
        if (std::mem::take(&mut is_noted) || is_tick)
            && let Err(error) = world.follow_holds().await
        {
            maillog::claim_failed("", &error);
        }
        if is_tick {
            last_tick = now;
            world.tend_sessions(&mut epoch, now);
            world.renew_claims(now);
            if let Err(error) = fallback::look(&world, &world.plan(), now).await {
                maillog::claim_failed("", &error);
            }
            patrol.look(&world).await;
        }
        let pause = next.since(clock.now());
        tokio::select! {
            () = world.spool.changed() => {}
            () = world.fates.wake.notified() => {}
            () = world.spool.noted() => is_noted = true,
            () = clock.sleep(pause) => {}
            () = stopping.notified() => return,
        }
    }
}

/// Makes one round over the clock, the holds and the messages that are due. Returns the time by which the
/// next round must begin.
async fn round(world: &Arc<World>) -> Result<Timestamp, SpoolError> {
    let plan = world.plan();
    if world.follow_wall_clock().await? {
        // The wrong time may have caused recent failures.
        for entry in plan.entries() {
            if let Some(token) = &entry.server.upstream.token {
                token.clear_failure();
            }
        }
    }
    let now = world.clock.now();
    take_fresh(world, &plan, now).await?;
    let ends = world.end_holds(&plan, now);
    let next = ends.map_or(now.after(TICK), |ends| ends.min(now.after(TICK)));
    for (place, due) in world.spool.waiting().await? {
        if due <= now {
            take(world, &plan, place, now).await?;
        }
    }
    let waiting = world.spool.waiting().await?.into_iter();
    let for_the_clock = waiting.filter(|(place, due)| *due > now && room(world, &plan, place) > 0);
    let first = for_the_clock.map(|(_, due)| due).min();
    Ok(first.map_or(next, |first| next.min(first)))
}

/// Takes the messages that this process has just put into the spool.
async fn take_fresh(world: &Arc<World>, plan: &Plan, now: Timestamp) -> Result<(), SpoolError> {
    loop {
        let until = now.after(CLAIM);
        let fresh = orphans::claim(world, ClaimFrom::Fresh, AT_ONCE, now, until).await?;
        if fresh.is_empty() {
            return Ok(());
        }
        let (routed, unrouted): (Vec<_>, Vec<_>) =
            fresh.into_iter().partition(|it| !it.record.lane.is_empty());
        for message in routed {
            push(world, plan, message);
        }
        if !unrouted.is_empty() {
            assign(world, plan, unrouted).await;
        }
    }
}

/// Returns how many messages can be taken now from this lane and flow.
fn room(world: &World, plan: &Plan, place: &Place) -> usize {
    if place.lane.is_empty() {
        return AT_ONCE;
    }
    match world.entry(plan, &place.lane) {
        _ if world.is_paused() => 0,
        Some(entry) => entry.desk.room(place, world.clock.now()).min(AT_ONCE),
        // The server is no longer configured: its messages are routed again.
        None if plan.is_rerouted() => AT_ONCE,
        None => 0,
    }
}

/// Takes the messages that are due in this lane and flow, as far as there is room, to their desk. Messages
/// without a lane are routed instead.
async fn take(
    world: &Arc<World>,
    plan: &Plan,
    place: Place,
    now: Timestamp,
) -> Result<(), SpoolError> {
    let (room, is_unrouted) = (room(world, plan, &place), place.lane.is_empty());
    if room == 0 {
        return Ok(());
    }
    let (which, until) = (ClaimFrom::DueIn(place), now.after(CLAIM));
    let claimed = orphans::claim(world, which, room, now, until).await?;
    if is_unrouted {
        assign(world, plan, claimed).await;
        return Ok(());
    }
    for message in claimed {
        push(world, plan, message);
    }
    Ok(())
}

/// Pushes a message to its desk. If the desk has no room, the message returns to the spool. If the message's
/// server is no longer configured, the message is routed again.
fn push(world: &Arc<World>, plan: &Plan, message: Claimed) {
    world.fates.remember(message.claim, message.until);
    let Some(entry) = world.entry(plan, &message.record.lane) else {
        return world.release(world.unassign(message));
    };
    if world.is_paused() {
        return world.release(Some(message));
    }
    world.storms.leaves(&message.record);
    match entry.desk.push(message) {
        Pushed::Waits => {}
        Pushed::NeedsWorker => Worker::begin(world, &entry.desk),
        Pushed::NoRoom(message) => world.release(Some(*message)),
    }
}

/// Routes messages that have no lane.
async fn assign(world: &World, plan: &Plan, claimed: Vec<Claimed>) {
    let spool = &world.spool;
    let (mut assigned, mut places) = (Vec::new(), Vec::new());
    for message in claimed {
        let place = (message.claim, message.record.place());
        match lanes::assign(world, plan, message).await {
            Some(finish) => {
                assigned.push(finish);
                places.push(place);
            }
            None => spool.release(vec![place]),
        }
    }
    if let Err(error) = spool.finish(assigned.into()).await {
        maillog::finish_failed(places.len(), &error);
        spool.release(places);
    }
}
