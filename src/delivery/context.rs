//! What lanes and workers share, and how fates reach the spool.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::lane::Server;
use super::mailbox::Mailboxes;
use super::notice::Notices;
use super::scheduler::{CLAIM, SPOOL_PAUSE, Settings};
use super::settle::BEHIND_OTHERS;
use super::step::{self, Noted};
use crate::base::{Clock, MessageId, Timestamp};
use crate::message::Address;
use crate::observe::maillog;
use crate::spool::{Claim, Claimed, Fate, Finish, Place, Record, Spool, SpoolError, Which, time};
use crate::upstream::Dial;

/// Fates that wait for their commit.
pub(super) const FINISHES: usize = 1_024;

/// How long fates gather before they are committed: nobody waits for them, and in that time a
/// commit that somebody does wait for may take them along.
const GATHER: Duration = Duration::from_millis(2);

/// What lanes and workers share.
pub(super) struct Context {
    pub(super) spool: Arc<dyn Spool>,
    pub(super) dial: Arc<dyn Dial>,
    pub(super) settings: Arc<Settings>,
    pub(super) clock: Clock,
    pub(super) mailboxes: Arc<Mailboxes>,
    pub(super) notices: Arc<Notices>,
    pub(super) noted: Arc<Mutex<Noted>>,
    pub(super) wake: Arc<Notify>,
    /// How many keep lanes from taking messages.
    pub(super) pauses: Arc<AtomicUsize>,
    pub(super) claims: Arc<Mutex<HashMap<Claim, Timestamp>>>,
    pub(super) finishes: mpsc::Sender<Finish>,
    /// Whether fates cannot be written just now. Nothing is sent meanwhile: whatever is sent and not
    /// written is sent again by the next run.
    pub(super) stuck: Arc<AtomicBool>,
}

impl Context {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long this run has gone on, counted from when its clock was last set by much.
    fn age(&self) -> Duration {
        self.clock.steady().saturating_sub(self.noted().set)
    }

    /// If the wall clock was set, notes what time it is; whether it was set by much.
    pub(super) async fn follow_wall_clock(&self) -> Result<bool, SpoolError> {
        let Some(by) = self.noted().was_set(&self.clock) else {
            return Ok(false);
        };
        time::note(self.spool.as_ref(), &self.clock).await?;
        maillog::clock_set(by);
        Ok(self.noted().follow(by, &self.clock))
    }

    /// Whether messages may be given up by now.
    pub(super) fn has_tried(&self) -> bool {
        step::has_tried(self.age(), self.settings.schedule.expires_after)
    }

    /// How long it is from now until messages may be given up.
    pub(super) fn tries_for(&self) -> Duration {
        step::tries_for(self.age(), self.settings.schedule.expires_after)
    }

    pub(super) fn claims(&self) -> MutexGuard<'_, HashMap<Claim, Timestamp>> {
        self.claims
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Whether lanes take no messages for now.
    pub(super) fn is_paused(&self) -> bool {
        self.pauses.load(Ordering::Acquire) > 0 || self.is_stuck()
    }

    /// Whether fates cannot be written just now.
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Acquire)
    }

    /// Whether a server is used just now.
    pub(super) fn works(&self, server: &str) -> bool {
        let known = self.server(server);
        known.is_some_and(|server| self.mailboxes.held(server).is_none())
    }

    /// Whether a report would leave just now.
    pub(super) fn can_report(&self) -> bool {
        let route = self
            .settings
            .policy
            .report_route(|server| self.works(server));
        route.is_some_and(|(route, _)| self.works(&route.server))
    }

    /// Whether an address is in a domain that this configuration sends as: mail to it stays within the
    /// tenant, as far as is known.
    pub(super) fn is_own_domain(&self, address: &Address) -> bool {
        let policy = &self.settings.policy;
        let own = policy
            .servers
            .iter()
            .filter_map(|rule| rule.address.as_ref());
        let mut own = own.chain(&policy.default_from);
        own.any(|own| own.domain_key() == address.domain_key())
            || policy
                .servers
                .iter()
                .any(|rule| rule.names_domain_of(address))
    }

    /// Why a server is not used, if it is not.
    pub(super) fn reason_of(&self, server: &str) -> Option<String> {
        let server = self.server(server)?;
        Some(self.mailboxes.held(server)?.reason)
    }

    /// The host of a server.
    pub(super) fn upstream_of(&self, server: &str) -> Option<&str> {
        Some(&self.server(server)?.upstream.host)
    }

    fn server(&self, name: &str) -> Option<&Server> {
        self.settings
            .servers
            .iter()
            .find(|server| server.name == name)
    }

    /// Makes queued messages due in a moment, whatever they wait for.
    pub(super) async fn hasten(&self, ids: Vec<MessageId>) {
        let now = self.clock.now();
        let (which, most) = (Which::Named(ids), usize::MAX);
        let claimed = match self.spool.claim(which, most, now, now.after(CLAIM)).await {
            Ok(claimed) => claimed,
            Err(error) => return maillog::claim_failed("", &error),
        };
        for message in claimed {
            let soon = Record {
                due: now.after(BEHIND_OTHERS),
                ..message.record
            };
            let later = Fate::Later(Box::new(soon));
            self.finish(Finish::new(message.claim, later)).await;
        }
    }

    /// Ends a claim with a fate, soon.
    pub(super) async fn finish(&self, finish: Finish) {
        // The receiver lives as long as the process's runtime.
        let _ = self.finishes.send(finish).await;
    }

    /// Takes a message's lane from it, soon; gives it back where too many fates wait already.
    pub(super) fn unassign(&self, message: Claimed) -> Option<Claimed> {
        let Ok(place) = self.finishes.try_reserve() else {
            return Some(message);
        };
        let record = Record {
            lane: String::new(),
            ..message.record
        };
        let finish = Finish::new(message.claim, Fate::Later(Box::new(record)));
        place.send(finish);
        None
    }

    /// Gives messages back, as they were.
    pub(super) fn release(&self, messages: impl IntoIterator<Item = Claimed>) {
        for message in messages {
            self.release_one((message.claim, message.record.place()));
        }
    }

    /// Renews a claim no more.
    pub(super) fn forget(&self, claim: Claim) {
        self.claims().remove(&claim);
    }

    pub(super) fn release_one(&self, claimed: (Claim, Place)) {
        self.claims().remove(&claimed.0);
        self.spool.release(vec![claimed]);
    }
}

/// What fates are written by.
pub(super) struct Scribe {
    pub(super) spool: Arc<dyn Spool>,
    pub(super) claims: Arc<Mutex<HashMap<Claim, Timestamp>>>,
    pub(super) wake: Arc<Notify>,
    pub(super) stuck: Arc<AtomicBool>,
    pub(super) clock: Clock,
}

impl Scribe {
    /// Commits fates in groups; where the spool fails it goes on trying, since what the upstream took
    /// must not be sent again, and nothing more is sent until it is written.
    pub(super) async fn write(self, mut finishes: mpsc::Receiver<Finish>) {
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
            if self.stuck.swap(false, Ordering::AcqRel) {
                maillog::finishes_written();
                self.wake.notify_one();
            }
            self.forget(claims);
        }
    }

    fn forget(&self, ended: Vec<Claim>) {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        for claim in ended {
            claims.remove(&claim);
        }
        if claims.is_empty() {
            self.wake.notify_one();
        }
    }

    /// Writes a group, however often it takes.
    async fn commit(&self, group: Arc<[Finish]>) {
        loop {
            let error = match self.spool.finish(group.clone()).await {
                Ok(lost) => return lost.iter().for_each(|claim| maillog::claim_lost(claim.id)),
                Err(error) => error,
            };
            self.stuck.store(true, Ordering::Release);
            maillog::finish_failed(group.len(), &error);
            self.clock.sleep(SPOOL_PAUSE).await;
        }
    }
}
