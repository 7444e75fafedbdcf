//! Sends a server's mail through another server while the first one cannot be used for long. This never evades a
//! limit or an operator's hold: only faults count.

use super::plan::Plan;
use super::server::Fallback;
use super::world::{CLAIM, World};
use crate::base::Timestamp;
use crate::spool::{ClaimFrom, Fate, Finish, Record, SpoolError};

/// The maximum number of messages of one place that are moved at once.
const AT_ONCE: usize = 256;

/// Routes the due mail of servers again whose fallback has begun. Mail returns to its own server by itself: it is
/// routed at each attempt.
pub(super) async fn look(world: &World, plan: &Plan, now: Timestamp) -> Result<(), SpoolError> {
    if plan.settings.servers.iter().all(|it| it.fallback.is_none()) {
        return Ok(());
    }
    for (place, due) in world.spool.waiting().await? {
        let fallback = plan.fallback(&place.lane, now);
        let takes = |it: &Fallback| it.priorities.contains(&place.flow.priority);
        if due > now || !fallback.is_some_and(takes) {
            continue;
        }
        let (which, until) = (ClaimFrom::DueIn(place), now.after(CLAIM));
        for message in world.spool.claim(which, AT_ONCE, now, until).await? {
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
