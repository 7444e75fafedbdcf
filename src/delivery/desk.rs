//! A desk for each mailbox: the messages that wait for it, how many workers send them, its sessions, what it
//! has used of its limits, and whether it is held. All servers that sign in to the mailbox share it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::fair::{Fair, NextItem};
use super::hold::{Gate, Hold, Holding, SenderRefusal};
use super::sessions::Sessions;
use super::usage::{BackOff, MailboxLimits, Usage};
use crate::base::{MessageId, Timestamp};
use crate::message::Address;
use crate::spool::{Claimed, Place, Used};

/// Messages of which a desk keeps the content in memory; it reads that of others when their turn comes.
const CONTENTS: usize = 64;

/// See the module.
pub(super) struct Desk {
    name: String,
    former_name: String,
    /// Its sessions.
    pub(super) sessions: Sessions,
    state: Mutex<DeskState>,
    /// Whether there is a hold: read after each message, for a thousand desks maybe.
    is_held: AtomicBool,
    emptied: Notify,
}

struct DeskState {
    queue: Fair<Claimed>,
    workers: usize,
    limits: MailboxLimits,
    usage: Usage,
    holding: Holding,
    is_closed: bool,
}

/// A message that may go now. It counts to the limits until [`Desk::settle`] says how many it reached.
#[must_use]
pub(super) struct Admission {
    recipients: usize,
    at: Timestamp,
    /// Whether it is to show whether a hold is over; then [`Desk::end_probe`] follows.
    pub(super) is_probe: bool,
}

/// Why a message may not go now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotNow {
    /// The mailbox is held, or another message probes it.
    Held,
    /// Its minute or its day is used up until then.
    UsedUp(Timestamp),
}

/// What became of a message that was pushed.
pub(super) enum Pushed {
    /// It waits, and the workers are enough.
    Waits,
    /// It waits, and needs another worker, which counts already.
    NeedsWorker,
    /// There is no room.
    NoRoom(Box<Claimed>),
}

impl Desk {
    /// The desk of a mailbox, with what earlier runs have used, and an operator's hold.
    pub(super) fn new(
        name: String,
        former_name: String,
        limits: MailboxLimits,
        used: &[Used],
        hold: Option<Hold>,
    ) -> Arc<Self> {
        let mut usage = Usage::default();
        let own = used
            .iter()
            .filter(|used| used.mailbox == name || used.mailbox == former_name);
        own.for_each(|used| usage.restore(used.messages, used.recipients, used.at, used.last));
        Arc::new(Self {
            sessions: Sessions::new(limits.sessions),
            is_held: AtomicBool::new(hold.is_some()),
            state: Mutex::new(DeskState {
                queue: Fair::default(),
                workers: 0,
                limits,
                usage,
                holding: Holding::restored(hold),
                is_closed: false,
            }),
            emptied: Notify::new(),
            name,
            former_name,
        })
    }

    fn state(&self) -> MutexGuard<'_, DeskState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The mailbox: who signs in, and where.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What versions before 0.2 called it in the spool.
    pub(super) fn former_name(&self) -> &str {
        &self.former_name
    }

    /// The limits.
    pub(super) fn limits(&self) -> MailboxLimits {
        self.state().limits
    }

    /// Other limits from now on.
    pub(super) fn limit(&self, limits: MailboxLimits) {
        self.state().limits = limits;
        self.sessions.limit(limits.sessions);
    }
}

/// The queue and its workers.
impl Desk {
    /// How many more messages of a place it takes now.
    pub(super) fn room(&self, place: &Place) -> usize {
        self.state().room(place)
    }

    /// Takes a message, if there is room.
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

    /// The next message. If there is none the worker counts no more, in the same step, so that the next
    /// push makes another.
    pub(super) fn next(&self) -> Option<NextItem<Claimed>> {
        let mut state = self.state();
        let next = state.queue.pop();
        if next.is_none() {
            state.workers -= 1;
        }
        next
    }

    /// A worker has ended without asking for the next message.
    pub(super) fn lost_worker(&self) {
        self.state().workers -= 1;
    }

    /// Makes a message the next again; gives it back if the desk is closed.
    pub(super) fn put_back(&self, message: Claimed) -> Option<Claimed> {
        let mut state = self.state();
        if state.is_closed {
            return Some(message);
        }
        let place = message.record.place();
        state.queue.put_back(place, message);
        None
    }

    /// All that wait; workers that wait for the minute go on, and find nothing.
    pub(super) fn empty(&self) -> Vec<Claimed> {
        let waiting = self.state().queue.drain();
        self.emptied.notify_waiters();
        waiting
    }

    /// Takes nothing more.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
    }

    /// Whether it takes nothing more.
    pub(super) fn is_closed(&self) -> bool {
        self.state().is_closed
    }

    /// Done when the desk is emptied after this call.
    pub(super) fn emptied(&self) -> Notified<'_> {
        self.emptied.notified()
    }

    /// Whether messages wait.
    pub(super) fn has_waiting(&self) -> bool {
        !self.state().queue.is_empty()
    }

    /// Whether nobody works.
    pub(super) fn is_quiet(&self) -> bool {
        self.state().workers == 0
    }
}

/// What it may send, and what it has sent.
impl Desk {
    /// Counts a message to this many recipients, if it may go now.
    pub(super) fn admit(&self, recipients: usize, now: Timestamp) -> Result<Admission, NotNow> {
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
            is_probe,
        })
    }

    /// Counts a message of a person who tests the mailbox, held or not.
    pub(super) fn admit_test(&self, now: Timestamp) -> Result<Admission, NotNow> {
        self.state().count(1, now)?;
        Ok(Admission {
            recipients: 1,
            at: now,
            is_probe: false,
        })
    }

    /// Of the recipients of a message that was admitted, `reached` may have got it.
    pub(super) fn settle(&self, admission: Admission, reached: usize) {
        let unreached = admission.recipients.saturating_sub(reached) as u64;
        let usage = &mut self.state().usage;
        usage.take_back(unreached, reached == 0, admission.at);
    }

    /// A message that was to show whether a hold is over has ended. If it showed nothing, another may go.
    pub(super) fn end_probe(&self) {
        self.state().holding.probe_again();
    }

    /// The server says that it was too fast: its minute is used up. False if it has no such limit.
    pub(super) fn exhaust(&self, now: Timestamp) -> bool {
        let state = &mut *self.state();
        state.usage.exhaust(&state.limits, now);
        state.limits.per_minute.is_some()
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

    /// What a message that reached this many recipients has used, for the spool to remember.
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

/// Whether it is used.
impl Desk {
    /// Why it is not used, if it is not.
    pub(super) fn held(&self) -> Option<Hold> {
        self.state().holding.hold().cloned()
    }

    /// Whether there is a hold, over or not.
    pub(super) fn is_held(&self) -> bool {
        self.is_held.load(Ordering::Acquire)
    }

    /// Leaves it alone until then, or until an operator releases it.
    pub(super) fn hold(&self, since: Timestamp, until: Option<Timestamp>, reason: String) {
        self.hold_by(|holding| {
            holding.begin(Hold {
                since,
                until,
                reason,
            });
        });
    }

    /// Leaves it alone for a while, longer each time; gives until when.
    pub(super) fn slow(
        &self,
        back_off: &BackOff,
        reason: String,
        now: Timestamp,
        random: f64,
    ) -> Timestamp {
        let until = now.after(self.state().usage.trouble(back_off, random));
        self.hold(now, Some(until), reason);
        until
    }

    /// Ends a hold that is over; whether there was one.
    pub(super) fn end_hold(&self, now: Timestamp) -> bool {
        self.hold_by(|holding| holding.end(now))
    }

    /// Ends any hold, or any but an operator's; whether there was one.
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

    /// The server took what was sent, or let the mailbox in; whether that ends a hold.
    pub(super) fn is_well(&self) -> bool {
        let mut state = self.state();
        state.usage.well();
        state.holding.is_well()
    }

    /// An attempt at this message brought about a hold.
    pub(super) fn suspect(&self, id: MessageId) {
        self.state().holding.suspect(id);
    }

    /// The messages that brought about the hold that has ended.
    pub(super) fn take_suspects(&self) -> Vec<MessageId> {
        self.state().holding.take_suspects()
    }

    /// The server does not let it send as `sender`.
    pub(super) fn refuse(&self, sender: Address, refusal: SenderRefusal, now: Timestamp) {
        self.state().holding.refuse(sender, refusal, now);
    }

    /// How it was refused to send as `sender` a while ago, if it was.
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
