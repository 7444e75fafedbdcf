//! The state of delivery that lasts as long as the process: the spool, the transport, the desks, the clock,
//! and the plan of the current configuration.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use super::clock_step::{self, Noted};
use super::desk::Desk;
use super::desks::Desks;
use super::fates::{FINISHES, Fates};
use super::hold_notes::{self, KnownHolds};
use super::plan::{Plan, ServerEntry};
use super::sending::Dispatcher;
use super::settings::DeliverySettings;
use super::settle::BEHIND_OTHERS;
use super::storms::Storms;
use crate::base::{Clock, MessageId, Timestamp};
use crate::observe::maillog;
use crate::spool::{Claim, ClaimFrom, Claimed, Fate, Finish, Place, Record, Spool, SpoolError};
use crate::transport::Transport;

/// The time for which a message is claimed; the claim is renewed after half of that time.
pub(super) const CLAIM: Duration = Duration::from_secs(900);

/// The state of delivery for the whole process.
pub(super) struct World {
    pub(super) spool: Arc<dyn Spool>,
    pub(super) clock: Clock,
    pub(super) desks: Desks,
    pub(super) storms: Storms,
    pub(super) fates: Arc<Fates>,
    pub(super) sender: Dispatcher,
    /// Held while a delivery report is recorded.
    pub(super) returning: tokio::sync::Mutex<()>,
    /// The notes about holds as this node last read or wrote them; locked while it reads or writes them.
    pub(super) known_holds: Arc<tokio::sync::Mutex<KnownHolds>>,
    plan: ArcSwap<Plan>,
    finishes: mpsc::Sender<Finish>,
    noted: Mutex<Noted>,
    /// The number of pauses in force. While it is above zero, desks take no messages.
    pauses: AtomicUsize,
}

impl World {
    /// Restores the state that earlier runs left in the spool, and starts the task that writes fates.
    pub(super) async fn begin(
        spool: Arc<dyn Spool>,
        settings: DeliverySettings,
        transport: Arc<dyn Transport>,
        clock: Clock,
    ) -> Result<Arc<Self>, SpoolError> {
        spool.resume_time(&clock).await?;
        spool.note_time(&clock).await?;
        // Before the desks, so that a hold that another node ends meanwhile is noticed.
        let known_holds = hold_notes::read(spool.as_ref()).await?;
        let desks = Desks::restored(spool.as_ref(), clock.now()).await?;
        let plan = Plan::new(Arc::new(settings), &desks);
        // The caller has already rerouted the mail of servers that are no longer configured.
        plan.rerouted();
        let (finishes, receiver) = mpsc::channel(FINISHES);
        let fates = Arc::new(Fates::new(spool.clone(), clock.clone()));
        tokio::spawn(fates.clone().write(receiver));
        Ok(Arc::new(Self {
            spool,
            desks,
            storms: Storms::default(),
            fates,
            sender: Dispatcher::new(transport, clock.clone()),
            returning: tokio::sync::Mutex::default(),
            known_holds: Arc::new(tokio::sync::Mutex::new(known_holds)),
            plan: ArcSwap::from_pointee(plan),
            finishes,
            noted: Mutex::new(Noted::begin(&clock)),
            pauses: AtomicUsize::new(0),
            clock,
        }))
    }

    /// The current plan.
    pub(super) fn plan(&self) -> Arc<Plan> {
        self.plan.load_full()
    }

    /// Uses these settings from now on. Returns the previous plan.
    pub(super) fn replan(&self, settings: DeliverySettings) -> Arc<Plan> {
        let plan = Plan::new(Arc::new(settings), &self.desks);
        plan.carry_over(&self.plan(), &self.desks);
        self.plan.swap(Arc::new(plan))
    }

    /// Returns the server with this name under a plan, if it is configured.
    pub(super) fn entry(&self, plan: &Plan, server: &str) -> Option<Arc<ServerEntry>> {
        plan.entry(server, &self.desks)
    }

    /// Makes the scheduler start another round.
    pub(super) fn wake(&self) {
        self.fates.wake.notify_one();
    }
}

/// Time.
impl World {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time since this run started, or since the last large change of the wall clock if that is later.
    fn age(&self) -> Duration {
        self.clock.steady().saturating_sub(self.noted().set)
    }

    /// If the wall clock has been set, records the new time. Returns true if the change was large.
    pub(super) async fn follow_wall_clock(&self) -> Result<bool, SpoolError> {
        let Some(by) = self.noted().was_set(&self.clock) else {
            return Ok(false);
        };
        self.spool.note_time(&self.clock).await?;
        maillog::clock_set(by);
        Ok(self.noted().follow(by, &self.clock))
    }

    /// True if this run has tried long enough to give up messages with this lifetime.
    pub(super) fn has_tried(&self, expires_after: Duration) -> bool {
        clock_step::has_tried(self.age(), expires_after)
    }

    /// Returns how much longer this run must try before it may give up messages with this lifetime.
    pub(super) fn tries_for(&self, expires_after: Duration) -> Duration {
        clock_step::tries_for(self.age(), expires_after)
    }
}

/// Claims and fates.
impl World {
    /// Keeps desks from taking messages until [`World::resume`].
    pub(super) fn pause(&self) {
        self.pauses.fetch_add(1, Ordering::AcqRel);
        self.desks
            .all()
            .iter()
            .for_each(|desk| self.give_back(desk));
    }

    /// Ends a pause.
    pub(super) fn resume(&self) {
        self.pauses.fetch_sub(1, Ordering::AcqRel);
        self.wake();
    }

    /// True if desks take no messages for now.
    pub(super) fn is_paused(&self) -> bool {
        self.pauses.load(Ordering::Acquire) > 0 || self.fates.is_stuck()
    }

    /// Ends a claim with a fate, which is written soon.
    pub(super) async fn finish(&self, finish: Finish) {
        // Sending cannot fail, because the receiver lives as long as the process's runtime.
        let _ = self.finishes.send(finish).await;
    }

    /// Removes a message from its lane, so that it is routed again soon. Returns the message if too many
    /// fates already wait to be written.
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

    /// Makes queued messages due in a few seconds ([`BEHIND_OTHERS`]), whatever they are waiting for.
    pub(super) async fn try_at_once(&self, ids: Vec<MessageId>) {
        let now = self.clock.now();
        let (which, most) = (ClaimFrom::Named(ids), usize::MAX);
        let claimed = match self.spool.claim(which, most, now, now.after(CLAIM)).await {
            Ok(claimed) => claimed,
            Err(error) => return maillog::claim_failed("", &error),
        };
        let (orphans, claimed): (Vec<_>, Vec<_>) =
            claimed.into_iter().partition(|it| it.may_have_arrived);
        self.release(orphans);
        for message in claimed {
            let soon = Record {
                due: now.after(BEHIND_OTHERS),
                ..message.record
            };
            let later = Fate::Later(Box::new(soon));
            self.finish(Finish::new(message.claim, later)).await;
        }
    }

    /// Gives messages back to the spool unchanged.
    pub(super) fn release(&self, messages: impl IntoIterator<Item = Claimed>) {
        for message in messages {
            self.release_one((message.claim, message.record.place()));
        }
    }

    /// Gives one message back to the spool unchanged.
    pub(super) fn release_one(&self, claimed: (Claim, Place)) {
        self.fates.forget(claimed.0);
        self.spool.release(vec![claimed]);
    }

    /// Gives back to the spool all messages that wait at a desk.
    pub(super) fn give_back(&self, desk: &Desk) {
        self.release(desk.empty());
    }

    /// Renews the claims that have less than half of their time left.
    pub(super) fn renew_claims(self: &Arc<Self>, now: Timestamp) {
        let until = now.after(CLAIM);
        let renewed = self.fates.renewed(now.after(CLAIM / 2), until);
        if renewed.is_empty() {
            return;
        }
        let world = self.clone();
        tokio::spawn(async move {
            let lost = world.spool.renew(renewed, until).await;
            let lost = lost.unwrap_or_default();
            lost.into_iter().for_each(|claim| world.fates.forget(claim));
        });
    }
}
