//! A mailbox that mail is sent by: its limits, what it has used of them, and why it rests. All servers
//! of the configuration that sign in to it share one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::lane::{Server, SignInName};
use super::outcome::Until;
use super::usage::{BackOff, Limits, Usage};
use crate::base::{MessageId, Service, Timestamp, limits};
use crate::message::Address;
use crate::session::Reply;
use crate::spool::{Notes, Spool, SpoolError, Used};
use crate::upstream::Link;

/// Where the spool keeps that an operator holds a mailbox.
const NOTE: &str = "hold/";

/// How long what a mailbox has sent counts to its day.
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// How long a sender that the mailbox may not send as is refused without asking.
const REFUSED: Duration = Duration::from_secs(3_600);

/// Senders that are refused so; the oldest make room.
const MOST_REFUSED: usize = 100;

/// Messages that are remembered to have brought about a hold: more than sessions that meet it at once.
const MOST_SUSPECTS: usize = 100;

/// A mailbox is not used for now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Since when.
    pub since: Timestamp,
    /// Until when; then it is probed. None until an operator releases it.
    pub until: Option<Timestamp>,
    /// Why, with the remedy.
    pub reason: String,
}

/// See the module.
pub(super) struct Mailbox {
    name: String,
    former_name: String,
    permits: Arc<Semaphore>,
    state: Mutex<State>,
    /// Whether there is a hold, for who looks at a thousand mailboxes after each message.
    is_held: Arc<AtomicBool>,
}

struct State {
    limits: Limits,
    /// Sessions that nobody uses just now, with since when.
    parked: Vec<(Box<dyn Link>, Timestamp)>,
    /// The name that the last sign-in for a shared mailbox worked with.
    sign_in: SignInName,
    /// Grows when sessions of before are to be used no more.
    epoch: u64,
    probe: Probe,
    usage: Usage,
    hold: Option<Hold>,
    is_held: Arc<AtomicBool>,
    /// Messages whose attempts brought about the hold; the oldest make room.
    suspects: Vec<MessageId>,
    refused: Vec<(Address, Timestamp, Reply)>,
}

/// After a hold one message goes first, whichever server's it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Probe {
    /// There is nothing to be found out.
    #[default]
    None,
    /// One message may go.
    Due,
    /// It is on its way.
    UnderWay,
}

/// What a mailbox lets its servers send now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// Whatever its limits allow.
    Open,
    /// One message, to find out whether the hold is over.
    OneMessage,
    /// Nothing.
    Closed,
}

/// A place among the sessions of a mailbox, with the session if there is one.
pub(super) struct Seat {
    pub(super) session: Option<Box<dyn Link>>,
    epoch: u64,
    _permit: Option<OwnedSemaphorePermit>,
}

/// The mailboxes, by their names, and what the spool knows of those that nobody has asked for yet.
#[derive(Default)]
pub(super) struct Mailboxes {
    known: Mutex<HashMap<String, Arc<Mailbox>>>,
    used: Vec<Used>,
    holds: Vec<(String, Hold)>,
    /// Tenants whose mail to external recipients waits, until when, and why.
    external: Mutex<HashMap<String, (Timestamp, String)>>,
}

/// What a mailbox is called: whose limits count, and where; the server's name if nobody signs in.
/// Exchange Online has each mailbox once, by whatever host it is reached.
fn name_of(server: &Server) -> String {
    let user = server.limited().unwrap_or(&server.name).to_lowercase();
    match server.upstream.service {
        Service::ExchangeOnline => format!("{user} at Exchange Online"),
        Service::Other => format!("{user} at {}", address_of(server)),
    }
}

/// What versions before 0.2 called it in the spool.
fn former_name_of(server: &Server) -> String {
    let user = server.upstream.auth.username().unwrap_or(&server.name);
    format!("{} at {}", user.to_lowercase(), address_of(server))
}

fn address_of(server: &Server) -> String {
    format!("{}:{}", server.upstream.host, server.upstream.port)
}

impl Mailboxes {
    /// With what earlier runs have used, and what an operator holds.
    pub(super) async fn known(spool: &dyn Spool, now: Timestamp) -> Result<Self, SpoolError> {
        let notes = spool.notes(NOTE).await?.into_iter();
        let hold = |(name, value): (String, String)| {
            let name = name.strip_prefix(NOTE)?.to_owned();
            Some((name, serde_json::from_str(&value).ok()?))
        };
        let mut used = spool.used(now.before(DAY)).await?;
        // By a clock that was set back since.
        for used in &mut used {
            used.at = used.at.min(now);
            used.last = used.last.min(now);
        }
        Ok(Self {
            known: Mutex::default(),
            used,
            holds: notes.filter_map(hold).collect(),
            external: Mutex::default(),
        })
    }

    fn all_known(&self) -> MutexGuard<'_, HashMap<String, Arc<Mailbox>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The mailbox that a server sends by.
    pub(super) fn of(&self, server: &Server) -> Arc<Mailbox> {
        let mut known = self.all_known();
        let mailbox = known
            .entry(name_of(server))
            .or_insert_with(|| Mailbox::new(server, self));
        mailbox.limit(server.limits);
        mailbox.clone()
    }

    /// Why a server's mailbox is not used, if it is not.
    pub(super) fn held(&self, server: &Server) -> Option<Hold> {
        let known = self.all_known();
        known.get(&name_of(server))?.held()
    }

    fn external(&self) -> MutexGuard<'_, HashMap<String, (Timestamp, String)>> {
        self.external.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tenant's mail to external recipients waits until then.
    pub(super) fn hold_external(&self, tenant: &str, until: Timestamp, reason: String) {
        self.external().insert(tenant.to_owned(), (until, reason));
    }

    /// Until when the tenant's mail to external recipients waits, and why, if it does.
    pub(super) fn external_hold(
        &self,
        tenant: &str,
        now: Timestamp,
    ) -> Option<(Timestamp, String)> {
        let mut external = self.external();
        external.retain(|_, (until, _)| now < *until);
        external.get(tenant).cloned()
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<Mailbox>> {
        self.all_known().values().cloned().collect()
    }

    /// Forgets those that no server signs in to any more.
    pub(super) fn sweep(&self) {
        self.all_known()
            .retain(|_, mailbox| Arc::strong_count(mailbox) > 1);
    }
}

impl Mailbox {
    fn new(server: &Server, before: &Mailboxes) -> Arc<Self> {
        let (name, former, limits) = (name_of(server), former_name_of(server), server.limits);
        let is_own = |its: &str| its == name || its == former;
        let mut usage = Usage::default();
        let own = before.used.iter().filter(|used| is_own(&used.mailbox));
        own.for_each(|used| {
            usage.restore(used.messages, used.recipients, used.at, used.last);
        });
        let held = before.holds.iter().find(|(held, _)| is_own(held));
        let hold = held.map(|(_, hold)| hold.clone());
        let is_held = Arc::new(AtomicBool::new(hold.is_some()));
        Arc::new(Self {
            is_held: is_held.clone(),
            name,
            former_name: former,
            permits: Arc::new(Semaphore::new(limits.sessions)),
            state: Mutex::new(State {
                limits,
                parked: Vec::new(),
                epoch: 0,
                probe: Probe::None,
                sign_in: SignInName::default(),
                usage,
                hold,
                is_held,
                suspects: Vec::new(),
                refused: Vec::new(),
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it is called: who signs in, and where.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Keeps whether an operator holds it for the next run.
    pub(super) async fn note(&self, spool: &dyn Notes) -> Result<(), SpoolError> {
        let by_hand = self.held().filter(|hold| hold.until.is_none());
        let value = by_hand.and_then(|hold| serde_json::to_string(&hold).ok());
        spool
            .note(&format!("{NOTE}{}", self.former_name), None)
            .await?;
        spool.note(&format!("{NOTE}{}", self.name), value).await
    }

    /// The name to try first when a person signs in for a shared mailbox.
    pub(super) fn sign_in_name(&self) -> SignInName {
        self.state().sign_in
    }

    /// A sign-in by this name has worked.
    pub(super) fn signed_in_as(&self, name: SignInName) {
        self.state().sign_in = name;
    }

    /// Other limits from now on; of several servers' the strictest would be right, the last one holds.
    fn limit(&self, limits: Limits) {
        let mut state = self.state();
        match limits.sessions.checked_sub(state.limits.sessions) {
            Some(more) => self.permits.add_permits(more),
            None => {
                let fewer = state.limits.sessions - limits.sessions;
                let given = self.permits.forget_permits(fewer);
                // The rest are in use, and end with their sessions.
                let (permits, owed) = (self.permits.clone(), (fewer - given) as u32);
                if owed > 0 {
                    tokio::spawn(async move {
                        if let Ok(permits) = permits.acquire_many_owned(owed).await {
                            permits.forget();
                        }
                    });
                }
            }
        }
        state.limits = limits;
    }

    /// The limits.
    pub(super) fn limits(&self) -> Limits {
        self.state().limits
    }

    /// Recipients of the last 24 hours.
    pub(super) fn recipients_of_day(&self, now: Timestamp) -> u64 {
        self.state().usage.of_day(now)
    }

    /// Until when its minute is used up, if it is.
    pub(super) fn minute_until(&self, now: Timestamp) -> Option<Timestamp> {
        let state = self.state();
        state.usage.minute_until(&state.limits, now)
    }

    /// The right to have one session, and one that was kept if there is.
    pub(super) async fn session(&self) -> Seat {
        let permit = self.permits.clone().acquire_owned().await.ok();
        let epoch = self.state().epoch;
        loop {
            let kept = self.state().parked.pop();
            let session = match kept {
                Some((mut session, _)) => match session.is_alive().await {
                    true => Some(session),
                    false => continue,
                },
                None => None,
            };
            return Seat {
                session,
                epoch,
                _permit: permit,
            };
        }
    }

    /// Keeps a session for whoever comes next.
    pub(super) fn park(&self, seat: Seat, now: Timestamp) {
        let Some(session) = seat.session else {
            return;
        };
        let mut state = self.state();
        match seat.epoch == state.epoch {
            true => state.parked.push((session, now)),
            false => drop(tokio::spawn(session.quit())),
        }
    }

    /// Quits a session of before [`Mailbox::close_sessions`].
    pub(super) fn renew(&self, seat: &mut Seat) {
        let epoch = self.state().epoch;
        if seat.epoch != epoch
            && let Some(session) = seat.session.take()
        {
            tokio::spawn(session.quit());
        }
        seat.epoch = epoch;
    }

    /// Closes the sessions: those that are in use after the message under way.
    pub(super) fn close_sessions(&self) {
        let parked = {
            let mut state = self.state();
            state.epoch += 1;
            std::mem::take(&mut state.parked)
        };
        parked.into_iter().for_each(|(session, _)| {
            tokio::spawn(session.quit());
        });
    }

    /// Closes sessions that nobody has used for a while.
    pub(super) fn close_idle(&self, now: Timestamp) {
        let idle = {
            let mut state = self.state();
            let is_old = |since: &Timestamp| now.since(*since) >= limits::upstream::KEEP;
            let parked = std::mem::take(&mut state.parked);
            let (idle, kept): (Vec<_>, Vec<_>) = parked.into_iter().partition(|(_, at)| is_old(at));
            state.parked = kept;
            idle
        };
        idle.into_iter().for_each(|(session, _)| {
            tokio::spawn(session.quit());
        });
    }

    /// Counts a message to so many recipients, or tells when it may go.
    pub(super) fn admit(&self, recipients: usize, now: Timestamp) -> Result<(), Timestamp> {
        let state = &mut *self.state();
        state.usage.admit(&state.limits, recipients as u64, now)
    }

    /// Of a message to `recipients` that was admitted at `at`, `reached` may have got it.
    pub(super) fn settle(&self, recipients: usize, reached: usize, at: Timestamp) {
        let unreached = recipients.saturating_sub(reached) as u64;
        let mut state = self.state();
        state.usage.take_back(unreached, reached == 0, at);
    }

    /// The server says that it was too fast.
    pub(super) fn exhaust(&self, now: Timestamp) {
        let state = &mut *self.state();
        state.usage.exhaust(&state.limits, now);
    }

    /// The server took what was sent; whether that ends a hold.
    pub(super) fn well(&self) -> bool {
        let mut state = self.state();
        state.usage.well();
        std::mem::take(&mut state.probe) != Probe::None
    }

    /// What may be sent now.
    pub(super) fn gate(&self) -> Gate {
        self.state().gate()
    }

    /// What a worker may send now; it is the one that sends the one message.
    pub(super) fn pass_gate(&self) -> Gate {
        let mut state = self.state();
        let gate = state.gate();
        if gate == Gate::OneMessage {
            state.probe = Probe::UnderWay;
        }
        gate
    }

    /// The one message has told nothing: another may go.
    pub(super) fn probe_again(&self) {
        let mut state = self.state();
        if state.probe == Probe::UnderWay {
            state.probe = Probe::Due;
        }
    }

    /// Leaves it alone for a while, longer each time; gives until when.
    pub(super) fn slow(
        &self,
        back_off: &BackOff,
        reason: String,
        now: Timestamp,
        random: f64,
    ) -> Timestamp {
        let mut state = self.state();
        let until = now.after(state.usage.trouble(back_off, random));
        state.hold(now, Some(until), reason);
        until
    }

    /// Leaves it alone until then; gives when that is.
    pub(super) fn hold(&self, until: Until, reason: String, now: Timestamp) -> Timestamp {
        let until = now.after(until.lasts());
        self.state().hold(now, Some(until), reason);
        until
    }

    /// Leaves it alone until its day has room again.
    pub(super) fn hold_for_day(&self, until: Timestamp, reason: String, now: Timestamp) {
        self.state().hold(now, Some(until), reason);
    }

    /// Leaves it alone until it is released.
    pub(super) fn hold_by_hand(&self, reason: String, now: Timestamp) {
        self.state().hold(now, None, reason);
    }

    /// Why it is not used, if it is not.
    pub(super) fn held(&self) -> Option<Hold> {
        self.state().hold.clone()
    }

    /// Whether there is a hold, over or not.
    pub(super) fn is_held(&self) -> bool {
        self.is_held.load(Ordering::Acquire)
    }

    /// Whether it is used.
    pub(super) fn is_free(&self) -> bool {
        self.state().hold.is_none()
    }

    /// Ends a hold that is over at `now`; whether there was one.
    pub(super) fn end_hold(&self, now: Timestamp) -> bool {
        let mut state = self.state();
        let is_over = |hold: &Hold| hold.until.is_some_and(|until| until <= now);
        let over = state.hold.as_ref().is_some_and(is_over);
        if over {
            state.set_hold(None);
            state.probe = Probe::Due;
        }
        over
    }

    /// Ends any hold, or any but an operator's; whether there was one.
    pub(super) fn release(&self, also_by_hand: bool) -> bool {
        let mut state = self.state();
        let ends = |hold: &Hold| also_by_hand || hold.until.is_some();
        let ended = state.hold.as_ref().is_some_and(ends);
        if ended {
            state.set_hold(None);
            state.probe = Probe::Due;
            state.refused.clear();
        }
        ended
    }

    /// An attempt at this message brought about a hold.
    pub(super) fn suspect(&self, id: MessageId) {
        let suspects = &mut self.state().suspects;
        if suspects.len() >= MOST_SUSPECTS {
            suspects.remove(0);
        }
        suspects.push(id);
    }

    /// The messages that brought about the hold that has ended.
    pub(super) fn take_suspects(&self) -> Vec<MessageId> {
        std::mem::take(&mut self.state().suspects)
    }

    /// The server does not let it send as `sender`, in these words.
    pub(super) fn refuse(&self, sender: Address, reply: Reply, now: Timestamp) {
        let mut state = self.state();
        let state = &mut state.refused;
        state.retain(|(known, until, _)| now < *until && *known != sender);
        if state.len() >= MOST_REFUSED {
            state.remove(0);
        }
        state.push((sender, now.after(REFUSED), reply));
    }

    /// In which words it was refused to send as `sender` a while ago.
    pub(super) fn refuses(&self, sender: &Address, now: Timestamp) -> Option<Reply> {
        let state = self.state();
        let known = state.refused.iter().find(|(known, ..)| known == sender);
        let (_, until, reply) = known?;
        (now < *until).then(|| reply.clone())
    }
}

impl State {
    fn gate(&self) -> Gate {
        match (&self.hold, self.probe) {
            (Some(_), _) | (None, Probe::UnderWay) => Gate::Closed,
            (None, Probe::Due) => Gate::OneMessage,
            (None, Probe::None) => Gate::Open,
        }
    }

    /// What an operator holds stays held, unless by another word of an operator.
    fn hold(&mut self, since: Timestamp, until: Option<Timestamp>, reason: String) {
        let is_by_hand = self.hold.as_ref().is_some_and(|hold| hold.until.is_none());
        if until.is_none() || !is_by_hand {
            self.set_hold(Some(Hold {
                since,
                until,
                reason,
            }));
        }
    }

    fn set_hold(&mut self, hold: Option<Hold>) {
        self.is_held.store(hold.is_some(), Ordering::Release);
        self.hold = hold;
    }
}
