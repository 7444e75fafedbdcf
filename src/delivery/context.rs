//! What lanes and workers share, and how fates reach the spool.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::{Notify, mpsc};

use super::lane::Server;
use super::mailbox::Mailboxes;
use super::notice::Notices;
use super::scheduler::{CLAIM, SPOOL_PAUSE, Settings};
use super::settle::BEHIND_OTHERS;
use super::step;
use crate::base::{Clock, MessageId, Timestamp};
use crate::message::Address;
use crate::observe::maillog;
use crate::spool::{Claim, Claimed, Fate, Finish, Place, Record, Spool, Which};
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
    pub(super) steps: Arc<Mutex<Steps>>,
    /// Held while fates are written, and while the spool moves with the clock.
    pub(super) writing: Arc<tokio::sync::Mutex<()>>,
    pub(super) wake: Arc<Notify>,
    /// How many keep lanes from taking messages.
    pub(super) pauses: Arc<AtomicUsize>,
    pub(super) claims: Arc<Mutex<HashMap<Claim, Timestamp>>>,
    pub(super) finishes: mpsc::Sender<Made>,
    /// Whether fates cannot be written just now. Nothing is sent meanwhile: whatever is sent and not
    /// written is sent again by the next run.
    pub(super) stuck: Arc<AtomicBool>,
}

/// How the clock was set in this run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps {
    /// By how much in all.
    pub(super) by: SignedDuration,
    /// When it last was by much, or when the run began, in steady time.
    pub(super) last: Duration,
}

/// A fate, with by how much the clock had been set in all when it was found.
pub(super) type Made = (SignedDuration, Finish);

impl Context {
    /// How the clock was set in this run.
    pub(super) fn steps(&self) -> Steps {
        *self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether messages may be given up by now.
    pub(super) fn has_tried(&self) -> bool {
        let age = self.clock.steady().saturating_sub(self.steps().last);
        step::has_tried(age, self.settings.schedule.expires_after)
    }

    /// How long it is from now until messages may be given up.
    pub(super) fn tries_for(&self) -> Duration {
        let age = self.clock.steady().saturating_sub(self.steps().last);
        step::tries_for(age, self.settings.schedule.expires_after)
    }

    /// The clock was set by so much: moves what is in memory.
    pub(super) fn shift(&self, by: SignedDuration) {
        let mut claims = self.claims();
        claims
            .values_mut()
            .for_each(|until| *until = until.shifted(by));
        drop(claims);
        self.mailboxes.shift(by);
        self.notices.shift(by);
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.by += by;
        if step::is_large(by) {
            steps.last = self.clock.steady();
        }
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
        let _ = self.finishes.send((self.steps().by, finish)).await;
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
        place.send((self.steps().by, finish));
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
    pub(super) steps: Arc<Mutex<Steps>>,
    pub(super) writing: Arc<tokio::sync::Mutex<()>>,
    pub(super) wake: Arc<Notify>,
    pub(super) stuck: Arc<AtomicBool>,
    pub(super) clock: Clock,
}

impl Scribe {
    /// Commits fates in groups; where the spool fails it goes on trying, since what the upstream took
    /// must not be sent again, and nothing more is sent until it is written.
    pub(super) async fn write(self, mut finishes: mpsc::Receiver<Made>) {
        let mut batch = Vec::new();
        while finishes.recv_many(&mut batch, FINISHES).await > 0 {
            self.clock.sleep(GATHER).await;
            while batch.len() < FINISHES
                && let Ok(finish) = finishes.try_recv()
            {
                batch.push(finish);
            }
            let claims: Vec<Claim> = batch.iter().map(|(_, finish)| finish.claim).collect();
            self.commit(batch.drain(..).unzip()).await;
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

    /// By how much the clock was set in this run.
    fn set_by(&self) -> SignedDuration {
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.by
    }

    /// Writes a group, however often it takes.
    async fn commit(&self, (mut made, group): (Vec<SignedDuration>, Vec<Finish>)) {
        let mut group: Arc<[Finish]> = group.into();
        loop {
            let turn = self.writing.lock().await;
            let by = self.set_by();
            // What the spool has refused it has given back.
            let finishes = Arc::get_mut(&mut group).into_iter().flatten();
            for (made, finish) in made.iter_mut().zip(finishes) {
                finish.shift(by - *made);
                *made = by;
            }
            let written = self.spool.finish(group.clone()).await;
            drop(turn);
            let error = match written {
                Ok(lost) => return lost.iter().for_each(|claim| maillog::claim_lost(claim.id)),
                Err(error) => error,
            };
            self.stuck.store(true, Ordering::Release);
            maillog::finish_failed(group.len(), &error);
            self.clock.sleep(SPOOL_PAUSE).await;
        }
    }
}
