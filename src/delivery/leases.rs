//! Sessions of a mailbox that several nodes use: a node may open only as many as it has leased, so that all nodes
//! together keep to the mailbox's limit. A node without sessions leaves the mailbox's messages to the others.

use std::sync::Arc;
use std::time::Duration;

use super::desk::Desk;
use super::fates::SPOOL_PAUSE;
use super::sessions::SessionSlot;
use super::world::World;
use crate::base::Timestamp;
use crate::observe::maillog;
use crate::spool::{SessionLease, SpoolError};

/// How long a node leaves a mailbox to the other nodes when they have all its sessions.
const ELSEWHERE: Duration = Duration::from_millis(500);

/// How long a worker waits for a session before it asks for another one again.
const AGAIN: Duration = Duration::from_secs(5);

/// The longest time that an app's message for a server in direct mode waits for a session.
const DIRECT: Duration = Duration::from_secs(30);

impl World {
    /// Makes sure that this node may have `wanted` sessions at a desk's mailbox, or leases one more. Returns false if all
    /// sessions are in use by other nodes or by this node.
    async fn lease(&self, desk: &Desk, wanted: usize) -> Result<bool, SpoolError> {
        if !self.spool.is_shared() || wanted <= desk.sessions.most() {
            return Ok(true);
        }
        let mut is_unknown = desk.sessions.leasing.lock().await;
        if wanted <= desk.sessions.most() {
            return Ok(true);
        }
        let most = desk.limits().sessions;
        match self.spool.lease_session(desk.name(), most).await {
            Ok(SessionLease::Granted) => {
                desk.sessions.add();
                Ok(true)
            }
            Ok(SessionLease::None) => Ok(false),
            Err(error) => {
                *is_unknown = true;
                Err(error)
            }
        }
    }

    /// Waits for a session for a worker. Returns `None` if this node has no session at all, and the other nodes have all:
    /// then the desk's messages are left to them.
    pub(super) async fn seat(self: &Arc<Self>, desk: &Arc<Desk>) -> Option<SessionSlot> {
        if !self.spool.is_shared() {
            return Some(desk.sessions.seat().await);
        }
        loop {
            match self.lease(desk, desk.workers()).await {
                // Without another session, this worker waits until one of this node's own is free.
                Ok(_) if desk.sessions.most() > 0 => {}
                Ok(_) => {
                    self.leave_to_others(desk);
                    return None;
                }
                Err(error) => {
                    maillog::claim_failed("", &error);
                    self.clock.sleep(SPOOL_PAUSE).await;
                    self.leave_to_others(desk);
                    return None;
                }
            }
            tokio::select! {
                biased;
                seat = desk.sessions.seat() => return Some(seat),
                () = self.clock.sleep(AGAIN) => {}
            }
        }
    }

    /// Gives a desk's messages back, because the other nodes have all the mailbox's sessions.
    fn leave_to_others(self: &Arc<Self>, desk: &Arc<Desk>) {
        desk.leave_to_others(self.clock.now().after(ELSEWHERE));
        self.give_back(desk);
        let world = self.clone();
        tokio::spawn(async move {
            world.clock.sleep(ELSEWHERE).await;
            world.wake();
        });
    }

    /// Waits for a session for an app's message. Returns `None` if there is none for a while. If the spool does not answer,
    /// one session goes on without it.
    pub(super) async fn seat_soon(&self, desk: &Desk) -> Option<SessionSlot> {
        if !self.spool.is_shared() {
            return Some(desk.sessions.seat().await);
        }
        let until = self.clock.now().after(DIRECT);
        loop {
            match self.lease(desk, 1).await {
                Ok(true) => {}
                Ok(false) if self.clock.now() >= until => return None,
                Ok(false) => self.clock.sleep(ELSEWHERE).await,
                Err(error) => {
                    maillog::claim_failed("", &error);
                    if desk.sessions.most() == 0 {
                        desk.sessions.add();
                    }
                }
            }
            tokio::select! {
                biased;
                seat = desk.sessions.seat() => return Some(seat),
                () = self.clock.sleep(ELSEWHERE) => {}
            }
        }
    }

    /// Gives back the sessions that this node does not need. If other nodes have taken over from this node, ends all
    /// sessions, because the others may open as many.
    pub(super) fn tend_sessions(self: &Arc<Self>, epoch: &mut i64, now: Timestamp) {
        let desks = self.desks.all();
        desks.iter().for_each(|desk| desk.sessions.close_idle(now));
        if !self.spool.is_shared() {
            return;
        }
        let is_new = std::mem::replace(epoch, self.spool.sessions_epoch()) != *epoch;
        for desk in desks {
            if is_new {
                desk.sessions.close();
                desk.sessions.limit(0);
            }
            tokio::spawn(give_back(self.clone(), desk));
        }
    }
}

/// Tells the spool how many sessions this node has at a desk's mailbox, if it has fewer than before.
async fn give_back(world: Arc<World>, desk: Arc<Desk>) {
    let mut is_unknown = desk.sessions.leasing.lock().await;
    let is_fewer = desk.sessions.shrink(desk.workers());
    if !is_fewer && !*is_unknown {
        return;
    }
    let kept = desk.sessions.most();
    let told = world.spool.keep_sessions(desk.name(), kept).await;
    *is_unknown = told.is_err();
}
