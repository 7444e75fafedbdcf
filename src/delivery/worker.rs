//! A worker is a task that sends one message of a desk after another over one session while there is any, and
//! then leaves the session, still signed in, for the next worker.

use std::sync::Arc;
use std::time::Duration;

use super::attempt::{self, Ended};
use super::desk::{Desk, NotNow};
use super::sessions::Seat;
use super::world::World;
use crate::spool::{Claim, Claimed};
use crate::transport::Finding;

/// How long a session's place stays empty that was one too many for the mailbox.
const CROWD_REST: Duration = Duration::from_secs(60);

/// A worker waits for the mailbox's minute with its message in hand; for its day it does not.
const PACE_REST: Duration = Duration::from_secs(120);

/// A place among the desk's workers, given back however the task ends. A message whose attempt
/// panicked keeps its claim until that ends by itself, so that it is not tried in a circle.
pub(super) struct Worker {
    world: Arc<World>,
    desk: Arc<Desk>,
    is_counted: bool,
    current: Option<Claim>,
    /// Whether the message that it sends now is to show whether a hold is over.
    is_probe: bool,
}

impl Worker {
    /// Begins to work at a desk that counts it already.
    pub(super) fn begin(world: &Arc<World>, desk: &Arc<Desk>) {
        let worker = Self {
            world: world.clone(),
            desk: desk.clone(),
            is_counted: true,
            current: None,
            is_probe: false,
        };
        tokio::spawn(worker.run());
    }

    async fn run(mut self) {
        let (world, desk) = (self.world.clone(), self.desk.clone());
        let mut seat = desk.sessions.seat().await;
        while let Some(message) = self.next() {
            self.handle(&mut seat, message).await;
        }
        desk.sessions.park(seat, world.clock.now());
    }

    /// The next message; if there is none, this worker counts no more.
    fn next(&mut self) -> Option<Claimed> {
        let next = self.desk.next();
        self.is_counted = next.is_some();
        if next.as_ref().is_none_or(|next| next.is_low) {
            self.world.wake();
        }
        next.map(|next| next.item)
    }

    /// Sends a message, or gives it back if it cannot go now.
    async fn handle(&mut self, seat: &mut Seat, message: Claimed) {
        let (world, desk) = (self.world.clone(), self.desk.clone());
        let plan = world.plan();
        let entry = plan.entry(&message.record.lane);
        // Another configuration has given the server another mailbox, or removed it.
        let Some(entry) = entry.filter(|entry| Arc::ptr_eq(&entry.desk, &desk)) else {
            return world.release(Some(message));
        };
        if world.fates.is_stuck() {
            world.release(Some(message));
            return world.give_back(&desk);
        }
        let count = attempt::recipients_at_once(entry, &message.record);
        let now = world.clock.now();
        let admission = match desk.admit(count, now) {
            Ok(admission) => admission,
            Err(NotNow::Held) => {
                world.release(Some(message));
                return world.give_back(&desk);
            }
            Err(NotNow::UsedUp(until)) => {
                world.release(desk.put_back(message));
                return match until.since(now) <= PACE_REST {
                    true if desk.has_waiting() => self.rest(until.since(now)).await,
                    true => {}
                    false => world.hold_for_day(entry, until),
                };
            }
        };
        self.current = Some(message.claim);
        self.is_probe = admission.is_probe;
        let (claimed, holds) = (
            (message.claim, message.record.place()),
            message.record.holds,
        );
        world.spool.sending(message.claim);
        let ended = attempt::run(&world, &plan, entry, seat, message).await;
        desk.settle(admission, ended.reached);
        let is_crowded = matches!(ended.finding, Some(Finding::Crowded(_)));
        let Ended {
            finish,
            finding,
            was_accepted,
            ..
        } = ended;
        world.note(&plan, entry, finding, was_accepted);
        self.end_probe();
        match finish {
            Some(mut finish) => {
                if let Some(record) = finish.record_mut()
                    && record.holds > holds
                {
                    desk.suspect(record.id);
                }
                world.finish(*finish).await;
            }
            None => world.release_one(claimed),
        }
        self.current = None;
        if is_crowded {
            self.thin_out(seat).await;
        }
    }

    fn end_probe(&mut self) {
        if std::mem::take(&mut self.is_probe) {
            self.world.end_probe(&self.desk);
        }
    }

    /// The mailbox had one session too many: leaves this one's place empty for a while.
    async fn thin_out(&self, seat: &mut Seat) {
        if let Some(session) = seat.take() {
            session.quit().await;
        }
        let share = 0.5 + rand::random::<f64>();
        self.rest(CROWD_REST.mul_f64(share)).await;
    }

    /// Waits, unless the desk is emptied or closed meanwhile.
    async fn rest(&self, time: Duration) {
        let emptied = self.desk.emptied();
        if self.desk.is_closed() {
            return;
        }
        tokio::select! {
            () = self.world.clock.sleep(time) => {}
            () = emptied => {}
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end_probe();
        if self.is_counted {
            self.desk.lost_worker();
        }
        if let Some(claim) = self.current {
            self.world.fates.forget(claim);
        }
    }
}
