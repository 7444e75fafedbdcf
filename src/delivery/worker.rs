//! A worker is a task that sends a desk's messages one after another over one session. When no message is
//! left, it leaves the session, still signed in, for the next worker.

use std::sync::Arc;
use std::time::Duration;

use super::attempt::{self, Ended};
use super::desk::{Desk, NotNow};
use super::fates::SPOOL_PAUSE;
use super::plan::ServerEntry;
use super::sessions::SessionSlot;
use super::world::World;
use crate::base::Timestamp;
use crate::observe::maillog;
use crate::spool::{Claim, Claimed, Permission, SpoolError};
use crate::transport::Finding;

/// How long a session slot stays unused after the server reported that the mailbox has too many sessions.
const CROWD_REST: Duration = Duration::from_secs(60);

/// The longest time that a worker waits for a limit. The worker waits for the limit per minute. The limit per
/// day takes longer, so it leads to a hold.
const PACE_REST: Duration = Duration::from_secs(120);

/// A worker's slot at the desk, which becomes free however the task ends. If an attempt panics, its message
/// stays claimed until the claim expires, so that it is not retried in a loop.
pub(super) struct Worker {
    world: Arc<World>,
    desk: Arc<Desk>,
    is_counted: bool,
    current: Option<Claim>,
}

impl Worker {
    /// Starts a worker at a desk that has already counted it.
    pub(super) fn begin(world: &Arc<World>, desk: &Arc<Desk>) {
        let worker = Self {
            world: world.clone(),
            desk: desk.clone(),
            is_counted: true,
            current: None,
        };
        tokio::spawn(worker.run());
    }

    async fn run(mut self) {
        let (world, desk) = (self.world.clone(), self.desk.clone());
        let Some(mut seat) = world.seat(&desk).await else {
            return;
        };
        while let Some(message) = self.next() {
            self.handle(&mut seat, message).await;
        }
        desk.sessions.park(seat, world.clock.now());
    }

    /// Takes the next message. If there is none, this worker is no longer counted.
    fn next(&mut self) -> Option<Claimed> {
        let next = self.desk.next();
        self.is_counted = next.is_some();
        if next.as_ref().is_none_or(|next| next.is_low) {
            self.world.wake();
        }
        next.map(|next| next.item)
    }

    /// Sends a message, or gives it back if it cannot be sent now.
    async fn handle(&mut self, seat: &mut SessionSlot, message: Claimed) {
        let (world, desk) = (self.world.clone(), self.desk.clone());
        let plan = world.plan();
        let entry = world.entry(&plan, &message.record.lane);
        // If a new configuration has given the server another mailbox, or removed the server, the message
        // returns to the spool.
        let Some(entry) = entry
            .as_ref()
            .filter(|entry| Arc::ptr_eq(&entry.desk, &desk))
        else {
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
            Err(NotNow::UsedUp(until)) => return self.used_up(entry, message, until).await,
        };
        self.current = Some(message.claim);
        let (claimed, holds) = (
            (message.claim, message.record.place()),
            message.record.holds,
        );
        let spending = desk.spending(count);
        let permission = world.spool.sending(message.claim, spending, now).await;
        if !matches!(permission, Ok(Permission::Granted)) {
            self.current = None;
            world.end_probe(desk.settle(admission, 0));
            return self.leave(entry, message, permission).await;
        }
        let ended = attempt::run(&world, &plan, entry, seat, message).await;
        let probe = desk.settle(admission, ended.reached);
        let is_crowded = matches!(ended.finding, Some(Finding::Crowded(_)));
        let Ended {
            finish,
            finding,
            was_accepted,
            ..
        } = ended;
        world.note(&plan, entry, finding, was_accepted);
        world.end_probe(probe);
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
            self.leave_if_spare(seat).await;
        }
    }

    /// Puts a message back, because a limit of the mailbox is used up until the given time.
    async fn used_up(&self, entry: &ServerEntry, message: Claimed, until: Timestamp) {
        let (world, desk) = (&self.world, &self.desk);
        let wait = until.since(world.clock.now());
        world.release(desk.put_back(message));
        match wait <= PACE_REST {
            true if desk.has_waiting() => self.rest(wait).await,
            true => {}
            false => world.hold_for_day(entry, until),
        }
    }

    /// Leaves a message unsent, because another node has taken it over, because the nodes together have used up a limit
    /// of the mailbox, or because the spool does not answer.
    async fn leave(
        &self,
        entry: &ServerEntry,
        message: Claimed,
        permission: Result<Permission, SpoolError>,
    ) {
        match permission {
            Ok(Permission::UsedUp(until)) => self.used_up(entry, message, until).await,
            Ok(Permission::Lost | Permission::Granted) => {
                maillog::claim_taken(message.claim.id);
                self.world.fates.forget(message.claim);
            }
            Err(error) => {
                maillog::claim_failed(&message.record.lane, &error);
                self.world.release(Some(message));
                self.rest(SPOOL_PAUSE).await;
            }
        }
    }

    /// Ends this session and leaves its slot unused for a while, because the mailbox had one session too
    /// many.
    async fn leave_if_spare(&self, seat: &mut SessionSlot) {
        if let Some(session) = seat.take() {
            session.quit().await;
        }
        let share = 0.5 + rand::random::<f64>();
        self.rest(CROWD_REST.mul_f64(share)).await;
    }

    /// Waits, but at most until the desk is emptied or closed.
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
        if self.is_counted {
            self.desk.lost_worker();
        }
        if let Some(claim) = self.current {
            self.world.fates.forget(claim);
        }
    }
}
