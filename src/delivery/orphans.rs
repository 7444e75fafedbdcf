//! Messages that another node was sending when it died: they may have arrived.

use super::fact;
use super::plan::Plan;
use super::settle::{Circumstances, Tried, settle};
use super::world::World;
use crate::base::Timestamp;
use crate::spool::{ClaimFrom, Claimed, Finish, SpoolError};
use crate::transport::Outcome;

/// The reason for the interruption, in words.
const DIED: &str = "the node that was sending it stopped before it knew the server's reply";

/// Claims messages. Messages that may have arrived are settled like those whose attempt was interrupted, and the
/// others are returned.
pub(super) async fn claim(
    world: &World,
    which: ClaimFrom,
    max: usize,
    now: Timestamp,
    until: Timestamp,
) -> Result<Vec<Claimed>, SpoolError> {
    let claimed = world.spool.claim(which, max, now, until).await?;
    if !claimed.iter().any(|message| message.may_have_arrived) {
        return Ok(claimed);
    }
    let plan = world.plan();
    let (orphans, claimed): (Vec<_>, Vec<_>) =
        claimed.into_iter().partition(|it| it.may_have_arrived);
    for orphan in orphans {
        let finish = settled(world, &plan, orphan, now);
        world.finish(finish).await;
    }
    Ok(claimed)
}

fn settled(world: &World, plan: &Plan, orphan: Claimed, now: Timestamp) -> Finish {
    let Claimed { claim, record, .. } = orphan;
    let (options, lane) = (&plan.settings.options, record.lane.clone());
    let all = record.envelope.recipients.len();
    let tried = Tried {
        message_id: record.message_id.clone().unwrap_or_default(),
        outcome: Outcome {
            deferred: (0..all).collect(),
            confirms: true,
            ..Outcome::default()
        },
        interruption: Some(DIED.to_owned()),
        may_have_arrived: true,
        sent_as: None,
        record,
    };
    let given = Circumstances {
        server: &lane,
        options,
        may_give_up: world.has_tried(options.expire_after),
        now,
        random: rand::random(),
    };
    let settled = settle(&given, &tried);
    let entry = world.entry(plan, &lane);
    Finish {
        events: fact::tell(settled.facts, claim.id, &lane, &world.clock),
        used: entry.and_then(|entry| entry.desk.used(all, now)),
        ..Finish::new(claim, settled.fate)
    }
}
