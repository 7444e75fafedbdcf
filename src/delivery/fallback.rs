//! Sends a server's mail through another server while the first one cannot be used for long. This never evades a
//! limit or an operator's hold: only faults count.

use std::time::Duration;

use super::orphans;
use super::plan::Plan;
use super::world::{CLAIM, World};
use crate::base::Timestamp;
use crate::routing::lane;
use crate::spool::{ClaimFrom, Fate, Finish, Record, SpoolError};

/// The maximum number of messages of one place that are moved at once.
const AT_ONCE: usize = 256;

/// How long after the beginning of a hold of a fallback its mail is routed again: two rounds of [`look`].
const JUST_HELD: Duration = Duration::from_secs(10);

/// Routes the due mail of servers again whose fallback has begun, and the mail of a fallback that has just been held: it
/// waits for its own server then. Mail at a fallback that works returns at its next attempt, once its own server works.
pub(super) async fn look(world: &World, plan: &Plan, now: Timestamp) -> Result<(), SpoolError> {
    let servers = plan.settings.servers.iter();
    let targets: Vec<&str> = servers
        .filter_map(|server| Some(server.fallback.as_ref()?.server.as_str()))
        .collect();
    if targets.is_empty() || world.is_paused() {
        return Ok(());
    }
    for (place, due) in world.spool.waiting().await? {
        if due > now {
            continue;
        }
        // If the server's hold is over, the round before this has already taken a message that probes the server.
        let fallback = plan.fallback(&place.lane, now);
        let begins = fallback.is_some_and(|it| it.priorities.contains(&place.flow.priority));
        let hold = plan.known(&place.lane).and_then(|entry| entry.desk.held());
        let is_just_held = hold.is_some_and(|hold| now.since(hold.since) < JUST_HELD);
        let ends = is_just_held && targets.contains(&lane::server(&place.lane));
        if !begins && !ends {
            continue;
        }
        let (which, until) = (ClaimFrom::DueIn(place), now.after(CLAIM));
        for message in orphans::claim(world, which, AT_ONCE, now, until).await? {
            let unrouted = Record {
                former_lane: Some(message.record.lane),
                lane: String::new(),
                ..message.record
            };
            let later = Fate::Later(Box::new(unrouted));
            world.finish(Finish::new(message.claim, later)).await;
        }
    }
    Ok(())
}
