//! Sessions of a mailbox that several nodes use: a node may open only as many as it has leased, so that all nodes
//! together keep to the mailbox's limit. A node without sessions leaves the mailbox's messages to the others.

use std::sync::Arc;
use std::time::Duration;

use super::desk::Desk;
use super::fates::SPOOL_PAUSE;
use super::world::World;
use crate::base::Timestamp;
use crate::observe::maillog;
use crate::spool::{SessionLease, SpoolError};

/// How long a node leaves a mailbox to the other nodes when they have all its sessions.
const ELSEWHERE: Duration = Duration::from_millis(500);

/// The longest time that an app's message for a server in direct mode waits for a session.
const DIRECT: Duration = Duration::from_secs(30);

impl World {
    /// Makes sure that this node may have `wanted` sessions at a desk's mailbox, or leases one more. Returns false if all
    /// sessions are in use by other nodes or by this node.
    async fn lease(&self, desk: &Desk, wanted: usize) -> Result<bool, SpoolError> {
        if !self.spool.is_shared() || wanted <= desk.sessions.most() {
            return Ok(true);
        }
        let most = desk.limits().sessions;
        let leased = self.spool.lease_session(desk.name(), most).await?;
        if leased == SessionLease::Granted {
            desk.sessions.limit(desk.sessions.most() + 1);
        }
        Ok(leased == SessionLease::Granted)
    }

    /// Returns true if this node may have `wanted` sessions at a desk's mailbox.
    pub(super) async fn may_open(&self, desk: &Desk, wanted: usize) -> bool {
        match self.lease(desk, wanted).await {
            Ok(is_leased) => is_leased,
            Err(error) => {
                maillog::claim_failed("", &error);
                self.clock.sleep(SPOOL_PAUSE).await;
                false
            }
        }
    }

    /// Leaves the messages of a desk to the other nodes, if this node has no session at all.
    pub(super) fn without_session(self: &Arc<Self>, desk: &Arc<Desk>) {
        if desk.sessions.most() > 0 {
            return;
        }
        desk.leave_to_others(self.clock.now().after(ELSEWHERE));
        self.give_back(desk);
        let world = self.clone();
        tokio::spawn(async move {
            world.clock.sleep(ELSEWHERE).await;
            world.wake();
        });
    }

    /// Waits for the right to a session for an app's message. Returns false if there is none for a while. If the spool
    /// does not answer, one session goes on without it.
    pub(super) async fn may_open_soon(&self, desk: &Desk) -> bool {
        let until = self.clock.now().after(DIRECT);
        loop {
            match self.lease(desk, 1).await {
                Ok(true) => return true,
                Ok(false) if self.clock.now() >= until => return false,
                Ok(false) => self.clock.sleep(ELSEWHERE).await,
                Err(error) => {
                    maillog::claim_failed("", &error);
                    desk.sessions.limit(desk.sessions.most().max(1));
                    return true;
                }
            }
        }
    }

    /// Gives back the sessions that this node does not need. If other nodes have taken over from this node, ends all
    /// sessions, because the others may open as many.
    pub(super) fn tend_sessions(&self, epoch: &mut i64, now: Timestamp) {
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
                continue;
            }
            let spare = desk.sessions.spare();
            if spare > 0 {
                desk.sessions
                    .limit(desk.sessions.most().saturating_sub(spare));
                self.spool.return_sessions(desk.name(), spare);
            }
        }
    }
}
