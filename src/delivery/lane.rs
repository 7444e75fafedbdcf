//! One server's lane: the messages that wait for it, and those who send them.
//!
//! A worker is a task that sends one message after another over one session while there is any, and
//! then leaves the session behind, still signed in, for whoever comes next. What the mailbox may do,
//! and whether it rests, is the [`Mailbox`]'s, which several lanes may share.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;

use super::attempt::{self, Ended};
use super::context::Context;
use super::fair::Fair;
use super::mailbox::{Hold, Mailbox, Seat};
use super::outcome::{Patience, Until};
use super::scheduler::ServerState;
use super::trouble::Word;
use super::usage::{BackOff, Limits};
use crate::base::{MessageId, Timestamp};
use crate::observe::maillog;
use crate::spool::{Flow, Leased, Used};
use crate::token::Source;
use crate::upstream;

/// Messages of which a lane keeps the content at hand; it reads that of others when their turn comes.
const CONTENTS: usize = 256;

/// How long a session's place stays empty that was one too many for the mailbox.
const CROWD_REST: Duration = Duration::from_secs(60);

/// A worker waits for the mailbox's minute with its message in hand; for its day it does not.
const PACE_REST: Duration = Duration::from_secs(120);

/// How many times longer than usual a server is left alone for hours.
const HOURS: u32 = 8;

/// An upstream server as delivery knows it.
#[derive(Clone)]
pub struct Server {
    /// Its name in the configuration.
    pub name: String,
    /// How it is reached.
    pub upstream: upstream::Settings,
    /// Where its tokens come from, for XOAUTH2.
    pub token: Option<Arc<Source>>,
    /// What it may do.
    pub limits: Limits,
}

/// See the module.
pub(super) struct Lane {
    pub(super) server: Server,
    pub(super) context: Arc<Context>,
    pub(super) mailbox: Arc<Mailbox>,
    state: Mutex<State>,
    closing: Notify,
}

#[derive(Default)]
struct State {
    queue: Fair<Leased>,
    workers: usize,
    is_closed: bool,
}

impl Lane {
    pub(super) fn new(server: Server, context: Arc<Context>) -> Arc<Self> {
        let mailbox = context
            .mailboxes
            .of(&server.upstream, &server.name, server.limits);
        Arc::new(Self {
            server,
            context,
            mailbox,
            state: Mutex::default(),
            closing: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// How many more messages of a flow it takes now.
    pub(super) fn room(&self, flow: &Flow) -> usize {
        self.room_in(&self.state(), flow)
    }

    fn room_in(&self, state: &State, flow: &Flow) -> usize {
        let is_free = self.mailbox.is_free() && !state.is_closed && !self.context.is_paused();
        match is_free && self.mailbox.is_probing() {
            true => 1usize.saturating_sub(state.workers + state.queue.len()),
            false if is_free => state.queue.room(flow),
            false => 0,
        }
    }

    /// Takes a message; gives it back where there is no room, or more of it to come.
    pub(super) fn push(self: &Arc<Self>, mut message: Leased) -> Option<Leased> {
        let mut state = self.state();
        let flow = message.record.place().flow;
        if self.room_in(&state, &flow) == 0 || !self.context.notices.leaves(&message.record) {
            return Some(message);
        }
        if state.queue.len() >= CONTENTS {
            message.content = None;
        }
        state.queue.push(flow, message);
        if state.workers < self.mailbox.limits().sessions {
            state.workers += 1;
            tokio::spawn(
                Worker {
                    lane: self.clone(),
                    is_counted: true,
                    current: None,
                }
                .run(),
            );
        }
        None
    }

    /// Leaves the mailbox alone until then; what waits for it goes back to the spool.
    pub(super) fn hold(&self, until: Until, reason: String) {
        let until = self
            .mailbox
            .hold(until, reason.clone(), self.context.clock.now());
        maillog::server_held(&self.server.name, until, &reason);
        self.give_back();
    }

    /// Leaves it alone for a while, longer each time.
    pub(super) fn slow(&self, patience: Patience, reason: String) {
        let usual = self.context.settings.back_off;
        let back_off = match patience {
            Patience::Minutes => usual,
            Patience::Hours => BackOff {
                longest: usual.longest.saturating_mul(HOURS),
                ..usual
            },
        };
        let now = self.context.clock.now();
        let until = self
            .mailbox
            .slow(&back_off, reason.clone(), now, rand::random());
        maillog::server_slowed(&self.server.name, until, &reason);
        self.give_back();
    }

    /// Leaves it alone until its day has room again: hours, that an operator should know of.
    fn hold_for_day(&self, until: Timestamp) {
        let most = self.mailbox.limits().per_day.unwrap_or_default();
        let reason = format!(
            "{most} recipients in 24 hours are used up, which is this mailbox's limit: spread the mail over more \
             mailboxes, or raise `recipients_per_day` where Exchange allows more"
        );
        maillog::server_held(&self.server.name, until, &reason);
        let now = self.context.clock.now();
        self.mailbox.hold_for_day(until, reason, now);
        self.give_back();
    }

    /// Leaves it alone until an operator releases it.
    pub(super) fn hold_by_hand(&self, reason: String) {
        maillog::server_held_by_hand(&self.server.name, &reason);
        self.mailbox.hold_by_hand(reason, self.context.clock.now());
        self.give_back();
    }

    /// As an operator sees it.
    pub(super) fn look(&self, now: Timestamp) -> ServerState {
        let mailbox = self.server.upstream.auth.username();
        ServerState {
            name: self.server.name.clone(),
            mailbox: mailbox.unwrap_or_default().to_owned(),
            limits: self.mailbox.limits(),
            recipients_of_day: self.mailbox.recipients_of_day(now),
            minute_until: self.mailbox.minute_until(now),
            hold: self.held(),
        }
    }

    /// What a message to so many recipients takes of what the mailbox may send.
    pub(super) fn used(&self, recipients: usize, at: Timestamp) -> Option<Used> {
        let limits = self.mailbox.limits();
        let is_limited = limits.per_day.is_some() || limits.per_minute.is_some();
        (recipients > 0 && is_limited).then(|| Used {
            mailbox: self.mailbox.name().to_owned(),
            at,
            last: at,
            messages: 1,
            recipients: recipients as u64,
        })
    }

    pub(super) fn give_back(&self) {
        let waiting = self.state().queue.drain();
        self.context.release(waiting);
    }

    /// Why the server is not used, if it is not.
    pub(super) fn held(&self) -> Option<Hold> {
        self.mailbox.held()
    }

    /// The mailbox is used again.
    pub(super) fn released(&self) {
        maillog::server_released(&self.server.name);
    }

    /// Takes nothing more; what is under way may end.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.give_back();
        self.closing.notify_waiters();
    }

    /// Whether nobody works.
    pub(super) fn is_quiet(&self) -> bool {
        self.state().workers == 0
    }

    /// Waits, but not longer than the lane is open.
    async fn rest(&self, time: Duration) {
        let closing = self.closing.notified();
        if self.state().is_closed {
            return;
        }
        tokio::select! {
            () = self.context.clock.sleep(time) => {}
            () = closing => {}
        }
    }

    /// What an attempt has shown of the mailbox.
    pub(super) fn note(&self, word: Word) {
        let now = self.context.clock.now();
        // Whoever is told that it is too many, or too fast, has been let in.
        let is_in = !matches!(word, Word::Nothing | Word::Slowed(..) | Word::Held(..));
        if is_in && self.mailbox.well() {
            self.context.wake.notify_one();
        }
        match word {
            Word::Nothing | Word::Well => {}
            Word::Crowded(reason) => maillog::server_crowded(&self.server.name, &reason),
            Word::TooFast(reason) => {
                maillog::server_crowded(&self.server.name, &reason);
                match self.mailbox.limits().per_minute {
                    Some(_) => self.mailbox.exhaust(now),
                    None => self.slow(Patience::Minutes, reason),
                }
            }
            Word::Slowed(patience, reason) if self.mailbox.is_free() => self.slow(patience, reason),
            Word::Held(until, reason) if self.mailbox.is_free() => self.hold(until, reason),
            // Another session has met it already.
            Word::Slowed(..) | Word::Held(..) => {}
            Word::Refused(sender, reply) => self.mailbox.refuse(sender, reply, now),
        }
    }

    /// The same for a worker, whose place stays empty for a while where it was one too many.
    async fn heed(&self, word: Word, seat: &mut Seat) {
        let is_crowded = matches!(word, Word::Crowded(_));
        self.note(word);
        if is_crowded {
            if let Some(session) = seat.session.take() {
                session.quit().await;
            }
            let share = 0.5 + rand::random::<f64>();
            self.rest(CROWD_REST.mul_f64(share)).await;
        }
    }
}

/// A place among the lane's workers, given back however the task ends. A message whose attempt
/// panicked keeps its lease until that ends by itself, so that it is not tried in a circle.
struct Worker {
    lane: Arc<Lane>,
    is_counted: bool,
    current: Option<MessageId>,
}

impl Worker {
    async fn run(mut self) {
        let lane = self.lane.clone();
        let mut seat = lane.mailbox.session().await;
        while let Some(message) = self.next() {
            let count = attempt::recipients_at_once(&lane, &message.record);
            let now = lane.context.clock.now();
            if let Err(at) = lane.mailbox.admit(count, now) {
                self.put_back(message);
                match at.since(now) <= PACE_REST {
                    true => lane.rest(at.since(now)).await,
                    false => lane.hold_for_day(at),
                }
                continue;
            }
            lane.mailbox.renew(&mut seat);
            let lease = (message.record.id, message.record.place());
            self.current = Some(message.record.id);
            lane.context.spool.sending(message.record.id);
            let before = lane.context.steps().by;
            let Ended { finish, word } = attempt::run(&lane, &mut seat.session, message).await;
            match finish {
                Some(mut finish) => {
                    if let Some(record) = finish.record_mut() {
                        let by = lane.context.steps().by - before;
                        record.received = record.received.shifted(by);
                    }
                    lane.context.finish(*finish).await;
                }
                None => lane.context.release_one(lease),
            }
            self.current = None;
            lane.heed(word, &mut seat).await;
        }
        lane.mailbox.park(seat, lane.context.clock.now());
    }

    /// The next message; where there is none the place is given back, in one step, so that whoever
    /// pushes next finds it.
    fn next(&mut self) -> Option<Leased> {
        let mut state = self.lane.state();
        let next = state.queue.pop();
        if next.is_none() {
            state.workers -= 1;
            self.is_counted = false;
        }
        drop(state);
        if next.as_ref().is_none_or(|next| next.is_low) {
            self.lane.context.wake.notify_one();
        }
        next.map(|next| next.item)
    }

    /// It is the next still, if the lane is.
    fn put_back(&self, message: Leased) {
        let mut state = self.lane.state();
        match state.is_closed {
            true => self.lane.context.release(Some(message)),
            false => {
                let flow = message.record.place().flow;
                state.queue.put_back(flow, message);
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.is_counted {
            self.lane.state().workers -= 1;
        }
        if let Some(id) = self.current {
            self.lane.context.forget(id);
        }
    }
}
