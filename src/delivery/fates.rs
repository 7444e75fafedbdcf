//! The claims that this process has, and the fates that it is writing to the spool.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use crate::base::{Clock, Timestamp};
use crate::observe::maillog;
use crate::spool::{Claim, Finish, Spool};

/// The maximum number of fates that wait for their commit.
pub(super) const FINISHES: usize = 1_024;

/// How long fates are collected before they are committed. No client waits for a fate, and after this delay
/// it may share a commit with messages whose clients do wait.
const GATHER: Duration = Duration::from_millis(2);

/// The pause after a failure of the spool.
pub(super) const SPOOL_PAUSE: Duration = Duration::from_secs(1);

/// The claims and fates of this process.
pub(super) struct Fates {
    pub(super) spool: Arc<dyn Spool>,
    pub(super) clock: Clock,
    /// Notified when the scheduler should start another round.
    pub(super) wake: Notify,
    claims: Mutex<HashMap<Claim, Timestamp>>,
    /// True if fates cannot be written now. Nothing is sent in the meantime: a message whose fate was not
    /// written would be sent again by the next run.
    is_stuck: AtomicBool,
}

impl Fates {
    pub(super) fn new(spool: Arc<dyn Spool>, clock: Clock) -> Self {
        Self {
            spool,
            clock,
            wake: Notify::new(),
            claims: Mutex::default(),
            is_stuck: AtomicBool::new(false),
        }
    }

    fn claims(&self) -> MutexGuard<'_, HashMap<Claim, Timestamp>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if fates cannot be written now.
    pub(super) fn is_stuck(&self) -> bool {
        self.is_stuck.load(Ordering::Acquire)
    }

    /// True if no message is claimed.
    pub(super) fn is_quiet(&self) -> bool {
        self.claims().is_empty()
    }

    /// Records that a message is claimed until the given time. The claim is renewed until
    /// [`Fates::forget`].
    pub(super) fn remember(&self, claim: Claim, until: Timestamp) {
        self.claims().insert(claim, until);
    }

    /// Stops renewing a claim.
    pub(super) fn forget(&self, claim: Claim) {
        self.claims().remove(&claim);
    }

    /// Returns the claims that end before `soon`, and records that they now end at `until`.
    pub(super) fn renewed(&self, soon: Timestamp, until: Timestamp) -> Vec<Claim> {
        let mut claims = self.claims();
        let old = claims.iter_mut().filter(|(_, ends)| **ends < soon);
        let renewed = old.map(|(claim, ends)| {
            *ends = until;
            *claim
        });
        renewed.collect()
    }

    /// Commits fates in groups. If the spool fails, retries until it works: messages that the upstream
    /// accepted must not be sent again, and nothing more is sent until their fates are written.
    pub(super) async fn write(self: Arc<Self>, mut finishes: mpsc::Receiver<Finish>) {
        let mut batch = Vec::new();
        while finishes.recv_many(&mut batch, FINISHES).await > 0 {
            self.clock.sleep(GATHER).await;
            while batch.len() < FINISHES
                && let Ok(finish) = finishes.try_recv()
            {
                batch.push(finish);
            }
            let claims: Vec<Claim> = batch.iter().map(|finish| finish.claim).collect();
            self.commit(batch.drain(..).collect()).await;
            if self.is_stuck.swap(false, Ordering::AcqRel) {
                maillog::finishes_written();
                self.wake.notify_one();
            }
            self.end(claims);
        }
    }

    fn end(&self, ended: Vec<Claim>) {
        let mut claims = self.claims();
        for claim in ended {
            claims.remove(&claim);
        }
        if claims.is_empty() {
            self.wake.notify_one();
        }
    }

    /// Writes a group, and retries until it succeeds.
    async fn commit(&self, group: Arc<[Finish]>) {
        loop {
            let error = match self.spool.finish(group.clone()).await {
                Ok(lost) => return lost.iter().for_each(|claim| maillog::claim_lost(claim.id)),
                Err(error) => error,
            };
            self.is_stuck.store(true, Ordering::Release);
            maillog::finish_failed(group.len(), &error);
            self.clock.sleep(SPOOL_PAUSE).await;
        }
    }
}
