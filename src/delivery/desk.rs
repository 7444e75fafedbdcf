//! A desk for each mailbox: the messages that wait for it, the number of workers that send them, its
//! sessions, its usage, and its hold. All servers that sign in to the mailbox share the desk.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::fair::{Fair, NextItem};
use super::hold::{Gate, Hold, HoldCause, Holding, SenderRefusal};
use super::sessions::Sessions;
use super::usage::{BackOff, MailboxLimits, Spent, Usage};
use crate::base::{MessageId, Timestamp};
use crate::message::Address;
use crate::spool::{Claimed, Place, Spending, Used};

/// The number of messages whose content a desk keeps in memory. The content of further messages is read when
/// their turn comes.
const CONTENTS: usize = 64;

/// The desk of one mailbox.
pub(super) struct Desk {
    name: String,
    former_name: String,
    /// The mailbox's sessions.
    pub(super) sessions: Sessions,
    state: Mutex<DeskState>,
    /// True if there is a hold. Atomic, because it is read after each message, for perhaps a thousand desks.
    is_held: AtomicBool,
    emptied: Notify,
    /// True if other nodes may use the mailbox too.
    is_shared: bool,
}

struct DeskState {
    queue: Fair<Claimed>,
    workers: usize,
    limits: MailboxLimits,
    usage: Usage,
    holding: Holding,
    is_closed: bool,
    /// The time until which the mailbox is left to other nodes.
    elsewhere_until: Timestamp,
}

/// The permission to send a message now. All its recipients count towards the limits until [`Desk::settle`]
/// corrects the count.
#[must_use]
pub(super) struct Admission {
    recipients: usize,
    at: Timestamp,
    /// Present if the message probes whether a hold is over.
    probe: Option<Probe>,
}

/// The one message that probes a mailbox after a hold. Dropping it ends the probe, however the attempt ended.
/// If the probe was inconclusive, another message may probe.
pub(super) struct Probe(Arc<Desk>);

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.state().holding.probe_again();
    }
}

/// The reason why a message may not go now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotNow {
    /// The mailbox is held, or another message is probing it.
    Held,
    /// The mailbox's limit per minute or per day is used up until the given time.
    UsedUp(Timestamp),
}

/// The result of pushing a message.
pub(super) enum Pushed {
    /// The message waits, and there are enough workers.
    Waits,
    /// The message waits, and needs another worker, which is counted already.
    NeedsWorker,
    /// There is no room for the message.
    NoRoom(Box<Claimed>),
}

impl Desk {
    /// Creates the desk of a mailbox, with the usage from earlier runs and an operator's hold.
    pub(super) fn new(
        name: String,
        former_name: String,
        limits: MailboxLimits,
        (used, hold): (&[Used], Option<Hold>),
        is_shared: bool,
    ) -> Arc<Self> {
        let mut usage = Usage::default();
        let own = used
            .iter()
            .filter(|used| used.mailbox == name || used.mailbox == former_name);
        own.for_each(|used| usage.restore(used.messages, used.recipients, used.at, used.last));
        Arc::new(Self {
            // If other nodes use the mailbox too, sessions are leased one by one.
            sessions: Sessions::new(if is_shared { 0 } else { limits.sessions }),
            is_shared,
            is_held: AtomicBool::new(hold.is_some()),
            state: Mutex::new(DeskState {
                queue: Fair::default(),
                workers: 0,
                limits,
                usage,
                holding: Holding::restored(hold),
                is_closed: false,
                elsewhere_until: Timestamp(0),
            }),
            emptied: Notify::new(),
            name,
            former_name,
        })
    }

    fn state(&self) -> MutexGuard<'_, DeskState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The mailbox's name: its account and its host.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The mailbox's name in the spool before version 0.2.
    pub(super) fn former_name(&self) -> &str {
        &self.former_name
    }

    /// The mailbox's limits.
    pub(super) fn limits(&self) -> MailboxLimits {
        self.state().limits
    }

    /// Uses these limits from now on.
    pub(super) fn limit(&self, limits: MailboxLimits) {
        self.state().limits = limits;
        if !self.is_shared {
            self.sessions.limit(limits.sessions);
        }
    }
}

/// The queue and its workers.
impl Desk {
    /// Returns how many further messages of this lane and flow have room at the desk now.
    pub(super) fn room(&self, place: &Place, now: Timestamp) -> usize {
        let state = self.state();
        if now < state.elsewhere_until {
            return 0;
        }
        state.room(place)
    }

    /// Takes no messages until the given time, because other nodes have all the mailbox's sessions.
    pub(super) fn leave_to_others(&self, until: Timestamp) {
        self.state().elsewhere_until = until;
    }

    /// The number of workers.
    pub(super) fn workers(&self) -> usize {
        self.state().workers
    }

    /// Adds a message, if there is room.
    pub(super) fn push(&self, mut message: Claimed) -> Pushed {
        let mut state = self.state();
        let place = message.record.place();
        if state.room(&place) == 0 {
            return Pushed::NoRoom(Box::new(message));
        }
        if state.queue.len() >= CONTENTS {
            message.content = None;
        }
        state.queue.push(place, message);
        if state.workers >= state.limits.sessions {
            return Pushed::Waits;
        }
        state.workers += 1;
        Pushed::NeedsWorker
    }

    /// Takes the next message. If there is none, the same step stops counting the worker, so that the next
    /// push starts another worker.
    pub(super) fn next(&self) -> Option<NextItem<Claimed>> {
        let mut state = self.state();
        let next = state.queue.pop();
        if next.is_none() {
            state.workers -= 1;
        }
        next
    }

    /// Stops counting a worker that ended before [`Desk::next`] found the queue empty.
    pub(super) fn lost_worker(&self) {
        self.state().workers -= 1;
    }

    /// Puts a message back at the front of its flow. Returns the message if the desk is closed.
    pub(super) fn put_back(&self, message: Claimed) -> Option<Claimed> {
        let mut state = self.state();
        if state.is_closed {
            return Some(message);
        }
        let place = message.record.place();
        state.queue.put_back(place, message);
        None
    }

    /// Removes and returns all waiting messages. Workers that wait for the limit per minute wake up, and find
    /// nothing.
    pub(super) fn empty(&self) -> Vec<Claimed> {
        let waiting = self.state().queue.drain();
        self.emptied.notify_waiters();
        waiting
    }

    /// Closes the desk: it takes nothing more.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
    }

    /// True if the desk takes nothing more.
    pub(super) fn is_closed(&self) -> bool {
        self.state().is_closed
    }

    /// Completes when the desk is emptied after this call.
    pub(super) fn emptied(&self) -> Notified<'_> {
        self.emptied.notified()
    }

    /// True if messages wait.
    pub(super) fn has_waiting(&self) -> bool {
        !self.state().queue.is_empty()
    }

    /// True if the desk can be forgotten: nothing waits or is being sent, there is no hold, and the mailbox has sent
    /// nothing in the last day.
    pub(super) fn is_idle(&self, now: Timestamp) -> bool {
        let state = self.state();
        let is_unused = state.workers == 0 && state.queue.is_empty();
        let has_used = state.usage.of_day(now) > 0 || state.usage.of_minute(now) > 0;
        is_unused && state.holding.hold().is_none() && !has_used
    }

    /// True if no worker is active.
    pub(super) fn is_quiet(&self) -> bool {
        self.state().workers == 0
    }
}

/// The mailbox's limits and its usage.
impl Desk {
    /// Admits a message to this many recipients and counts it, if it may go now.
    pub(super) fn admit(
        self: &Arc<Self>,
        recipients: usize,
        now: Timestamp,
    ) -> Result<Admission, NotNow> {
        let state = &mut *self.state();
        let gate = state.holding.gate();
        if gate == Gate::Closed {
            return Err(NotNow::Held);
        }
        state.count(recipients, now)?;
        let is_probe = gate == Gate::OneMessage;
        if is_probe {
            state.holding.begin_probe();
        }
        Ok(Admission {
            recipients,
            at: now,
            probe: is_probe.then(|| Probe(self.clone())),
        })
    }

    /// Returns what a message to this many recipients will use of the mailbox's limits, if it has any and other nodes use
    /// them too.
    pub(super) fn spending(&self, recipients: usize) -> Option<Spending> {
        let limits = self.limits();
        let is_limited = limits.per_minute.is_some() || limits.per_day.is_some();
        (self.is_shared && is_limited).then(|| Spending {
            mailbox: self.name.clone(),
            limits,
            recipients: recipients as u64,
        })
    }

    /// Admits an operator's test message and counts it, even if the mailbox is held.
    pub(super) fn admit_test(&self, now: Timestamp) -> Result<Admission, NotNow> {
        self.state().count(1, now)?;
        Ok(Admission {
            recipients: 1,
            at: now,
            probe: None,
        })
    }

    /// Corrects the count of an admitted message: only `reached` of its recipients may have got it. Returns
    /// the probe if the message was one; the probe ends when it is dropped.
    pub(super) fn settle(&self, admission: Admission, reached: usize) -> Option<Probe> {
        let unreached = admission.recipients.saturating_sub(reached) as u64;
        let usage = &mut self.state().usage;
        usage.take_back(unreached, reached == 0, admission.at);
        admission.probe
    }

    /// Uses up the limit per minute, because the server says that the mailbox was too fast. Returns false if
    /// the mailbox has no such limit.
    pub(super) fn exhaust(&self, now: Timestamp) -> bool {
        let state = &mut *self.state();
        state.usage.exhaust(&state.limits, now);
        state.limits.per_minute.is_some()
    }

    /// Returns how much of the limits this process has used.
    pub(super) fn spent(&self, now: Timestamp) -> Spent {
        let state = self.state();
        state.usage.spent(&state.limits, now)
    }

    /// Returns the usage of a message that reached this many recipients, which the spool records.
    pub(super) fn used(&self, reached: usize, at: Timestamp) -> Option<Used> {
        let limits = self.limits();
        let is_limited = limits.per_day.is_some() || limits.per_minute.is_some();
        (reached > 0 && is_limited).then(|| Used {
            mailbox: self.name.clone(),
            at,
            last: at,
            messages: 1,
            recipients: reached as u64,
        })
    }
}

/// Holds of the mailbox.
impl Desk {
    /// The current hold, if there is one.
    pub(super) fn held(&self) -> Option<Hold> {
        self.state().holding.hold().cloned()
    }

    /// Returns since when the mailbox has not been usable because of a fault; see [`Holding::fault_since`].
    pub(super) fn fault_since(&self) -> Option<Timestamp> {
        self.state().holding.fault_since()
    }

    /// True if there is a hold, even one whose end has passed.
    pub(super) fn is_held(&self) -> bool {
        self.is_held.load(Ordering::Acquire)
    }

    /// Holds the mailbox until the given time, or until an operator releases it.
    pub(super) fn hold(&self, hold: Hold) {
        self.hold_by(|holding| holding.begin(hold));
    }

    /// Holds the mailbox for a while, longer each time. Returns the end of the hold.
    pub(super) fn slow(
        &self,
        back_off: &BackOff,
        (cause, reason): (HoldCause, String),
        now: Timestamp,
        random: f64,
    ) -> Timestamp {
        let until = now.after(self.state().usage.trouble(back_off, random));
        self.hold(Hold {
            since: now,
            until: Some(until),
            cause,
            reason,
        });
        until
    }

    /// Ends the hold if its end has passed. Returns true if a hold has ended.
    pub(super) fn end_hold(&self, now: Timestamp) -> bool {
        self.hold_by(|holding| holding.end(now))
    }

    /// Ends the hold, but an operator's hold only if `also_by_hand` is true. Returns true if a hold has
    /// ended.
    pub(super) fn release(&self, also_by_hand: bool) -> bool {
        self.hold_by(|holding| holding.release(also_by_hand))
    }

    fn hold_by<T>(&self, change: impl FnOnce(&mut Holding) -> T) -> T {
        let mut state = self.state();
        let changed = change(&mut state.holding);
        let is_held = state.holding.hold().is_some();
        self.is_held.store(is_held, Ordering::Release);
        changed
    }

    /// Notes that the server accepted a message or the sign-in. Returns true if that ends the probing after a
    /// hold.
    pub(super) fn is_well(&self) -> bool {
        let mut state = self.state();
        state.usage.well();
        state.holding.is_well()
    }

    /// Notes that an attempt at this message caused a hold.
    pub(super) fn suspect(&self, id: MessageId) {
        self.state().holding.suspect(id);
    }

    /// Takes the list of messages that caused the ended hold.
    pub(super) fn take_suspects(&self) -> Vec<MessageId> {
        self.state().holding.take_suspects()
    }

    /// Notes that the server does not let the mailbox send as `sender`.
    pub(super) fn refuse(&self, sender: Address, refusal: SenderRefusal, now: Timestamp) {
        self.state().holding.refuse(sender, refusal, now);
    }

    /// The server's recent refusal to let the mailbox send as `sender`, if there was one.
    pub(super) fn refuses(&self, sender: &Address, now: Timestamp) -> Option<SenderRefusal> {
        self.state().holding.refuses(sender, now)
    }
}

impl DeskState {
    fn room(&self, place: &Place) -> usize {
        if self.is_closed {
            return 0;
        }
        match self.holding.gate() {
            Gate::Open => self.queue.room(place),
            Gate::OneMessage => 1usize.saturating_sub(self.workers + self.queue.len()),
            Gate::Closed => 0,
        }
    }

    fn count(&mut self, recipients: usize, now: Timestamp) -> Result<(), NotNow> {
        let admitted = self.usage.admit(&self.limits, recipients as u64, now);
        admitted.map_err(NotNow::UsedUp)
    }
}
