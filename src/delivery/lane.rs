//! One server's lane: the messages that wait for it, and those who send them.
//!
//! A worker is a task that sends one message after another over one session while there is any, and
//! then leaves the session behind, still signed in, for whoever comes next. What the mailbox may do,
//! and whether it rests, is the [`Mailbox`]'s, which several lanes may share.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;

use super::attempt::{self, Ended};
use super::context::Context;
use super::fair::Fair;
use super::mailbox::{Gate, Hold, Mailbox, Seat};
use super::outcome::{Patience, Until};
use super::scheduler::ServerState;
use super::trouble::Word;
use super::usage::{BackOff, Limits};
use crate::base::Timestamp;
use crate::observe::maillog;
use crate::session::Reply;
use crate::spool::{Claim, Claimed, Flow, Used};
use crate::token::Source;
use crate::upstream;

/// Messages of which a lane keeps the content in memory; it reads that of others when their turn comes.
const CONTENTS: usize = 64;

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
    /// The tenant whose limits count besides the mailbox's, if one is known.
    pub tenant: Option<String>,
}

/// Whose name stands in `user=` where a person signs in for a shared mailbox. Microsoft documents the
/// mailbox; what was measured is the person (`exchange-online.md`, "The SMTP session").
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum SignInName {
    /// The person's.
    #[default]
    Person,
    /// The mailbox's.
    Mailbox,
}

impl SignInName {
    /// The one to try when this one was refused.
    pub(super) fn other(self) -> Self {
        match self {
            Self::Person => Self::Mailbox,
            Self::Mailbox => Self::Person,
        }
    }
}

impl Server {
    /// The person whose token signs in, where the mailbox is another's: a shared mailbox.
    pub(super) fn person(&self) -> Option<&str> {
        let settings = self.token.as_ref()?.settings();
        let person = settings.user.as_deref()?;
        let mailbox = self.upstream.auth.username()?;
        let is_shared = settings.grant.is_by_user() && !person.eq_ignore_ascii_case(mailbox);
        is_shared.then_some(person)
    }

    /// Whose limits count: those of whoever signs in.
    pub(super) fn limited(&self) -> Option<&str> {
        self.person().or(self.upstream.auth.username())
    }

    /// Whether nothing differs in how the server is reached and signed in to.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let is_same_token = match (&self.token, &other.token) {
            (Some(token), Some(other)) => token.settings().is_same(other.settings()),
            (token, other) => token.is_none() && other.is_none(),
        };
        is_same_token && self.upstream.is_same(&other.upstream) && self.limits == other.limits
    }

    /// The way to the server, signing in by this name.
    pub(super) fn upstream_as(&self, name: SignInName) -> upstream::Settings {
        let mut upstream = self.upstream.clone();
        if let (SignInName::Person, Some(person)) = (name, self.person()) {
            upstream.auth = upstream::Auth::XOAuth2 {
                username: person.to_owned(),
            };
        }
        upstream
    }
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
    queue: Fair<Claimed>,
    workers: usize,
    is_closed: bool,
    /// Unknown replies that were told of; each is told of once.
    unknown: HashSet<String>,
}

/// Unknown replies of one server that are kept apart. More are told of each time.
const UNKNOWN: usize = 1_000;

impl Lane {
    pub(super) fn new(server: Server, context: Arc<Context>) -> Arc<Self> {
        let mailbox = context.mailboxes.of(&server);
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

    /// Whether this unknown reply has not been told of. Exchange ends a reply with the name of the machine
    /// that gave it: `[AM0PR01CA0001...]`.
    pub(super) fn is_news(&self, reply: &Reply) -> bool {
        let text = reply.to_string();
        let words = text.split('[').next().unwrap_or_default();
        let mut state = self.state();
        !state.unknown.contains(words)
            && (state.unknown.len() >= UNKNOWN || state.unknown.insert(words.to_owned()))
    }

    /// How many more messages of a flow it takes now.
    pub(super) fn room(&self, flow: &Flow) -> usize {
        self.room_in(&self.state(), flow)
    }

    fn room_in(&self, state: &State, flow: &Flow) -> usize {
        if state.is_closed || self.context.is_paused() {
            return 0;
        }
        match self.mailbox.gate() {
            Gate::Open => state.queue.room(flow),
            Gate::OneMessage => 1usize.saturating_sub(state.workers + state.queue.len()),
            Gate::Closed => 0,
        }
    }

    /// Takes a message; gives it back where there is no room, or more of it to come.
    pub(super) fn push(self: &Arc<Self>, mut message: Claimed) -> Option<Claimed> {
        let mut state = self.state();
        let flow = message.record.place().flow;
        if self.room_in(&state, &flow) == 0 {
            return Some(message);
        }
        self.context.notices.leaves(&message.record);
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
                    is_probe: false,
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
        maillog::server_held(&self.server.name, self.shown(until), &reason);
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
        maillog::server_slowed(&self.server.name, self.shown(until), &reason);
        self.give_back();
    }

    /// Leaves it alone until its day has room again: hours, that an operator should know of.
    fn hold_for_day(&self, until: Timestamp) {
        let most = self.mailbox.limits().per_day.unwrap_or_default();
        let reason = format!(
            "the daily limit of {most} recipients is reached; sending continues at {}. Spread the mail over more \
             mailboxes, or raise `recipients_per_day` if Exchange allows more",
            self.shown(until)
        );
        maillog::server_held(&self.server.name, self.shown(until), &reason);
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

    fn shown(&self, at: Timestamp) -> Timestamp {
        self.context.clock.shown(at)
    }

    /// As an operator sees it, by the wall clock.
    pub(super) fn look(&self, now: Timestamp) -> ServerState {
        let mailbox = self.server.upstream.auth.username();
        ServerState {
            name: self.server.name.clone(),
            mailbox: mailbox.unwrap_or_default().to_owned(),
            limits: self.mailbox.limits(),
            recipients_of_day: self.mailbox.recipients_of_day(now),
            minute_until: self.mailbox.minute_until(now).map(|at| self.shown(at)),
            hold: self.held().map(|hold| Hold {
                since: self.shown(hold.since),
                until: hold.until.map(|until| self.shown(until)),
                ..hold
            }),
            needs_sign_in: false,
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

    /// A hold has ended, and one message will show whether the mailbox can be used.
    pub(super) fn probes(&self) {
        maillog::server_probing(&self.server.name);
    }

    /// A hold has ended before its time. The messages that brought it about are due again, behind others.
    pub(super) fn released(&self) {
        self.probes();
        let (context, suspects) = (self.context.clone(), self.mailbox.take_suspects());
        tokio::spawn(async move { context.hasten(suspects).await });
    }

    /// Until when the tenant's mail to external recipients waits, and why, if it does.
    pub(super) fn external_hold(&self) -> Option<(Timestamp, String)> {
        let now = self.context.clock.now();
        self.context.mailboxes.external_hold(self.tenant(), now)
    }

    /// Why its messages are held, where an operator holds the server and the configuration drops it.
    pub(super) fn reason_of_orphans(&self) -> Option<String> {
        let hold = self.held().filter(|hold| hold.until.is_none())?;
        let name = &self.server.name;
        Some(format!(
            "server {name} is no longer configured, and it was held by hand ({}); `queue release` sends the message \
             by another server, `queue delete` removes it",
            hold.reason
        ))
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
            maillog::server_released(&self.server.name);
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
            Word::ExternalHeld(time, reason) => self.hold_external(now.after(time), reason),
        }
    }

    fn hold_external(&self, until: Timestamp, reason: String) {
        let tenant = self.tenant();
        maillog::external_held(tenant, self.shown(until), &reason);
        self.context.mailboxes.hold_external(tenant, until, reason);
    }

    /// The tenant; where its name is not configured, the mailbox is all that is known of it.
    fn tenant(&self) -> &str {
        let tenant = self.server.tenant.as_deref();
        tenant.unwrap_or(self.mailbox.name())
    }

    /// Where the mailbox had one session too many, leaves this one's place empty for a while.
    async fn thin_out(&self, seat: &mut Seat) {
        if let Some(session) = seat.session.take() {
            session.quit().await;
        }
        let share = 0.5 + rand::random::<f64>();
        self.rest(CROWD_REST.mul_f64(share)).await;
    }
}

/// A place among the lane's workers, given back however the task ends. A message whose attempt
/// panicked keeps its claim until that ends by itself, so that it is not tried in a circle.
struct Worker {
    lane: Arc<Lane>,
    is_counted: bool,
    current: Option<Claim>,
    /// Whether what it sends now is to show whether a hold is over.
    is_probe: bool,
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
            if !self.may_send() {
                lane.mailbox.settle(count, 0, now);
                self.put_back(message);
                lane.give_back();
                continue;
            }
            lane.mailbox.renew(&mut seat);
            let claimed = (message.claim, message.record.place());
            self.current = Some(message.claim);
            lane.context.spool.sending(message.claim);
            let holds = message.record.holds;
            let Ended {
                finish,
                word,
                reached,
            } = attempt::run(&lane, &mut seat.session, message).await;
            lane.mailbox.settle(count, reached, now);
            let is_crowded = matches!(word, Word::Crowded(_));
            lane.note(word);
            self.end_probe();
            match finish {
                Some(mut finish) => {
                    if let Some(record) = finish.record_mut()
                        && record.holds > holds
                    {
                        lane.mailbox.suspect(record.id);
                    }
                    lane.context.finish(*finish).await;
                }
                None => lane.context.release_one(claimed),
            }
            self.current = None;
            if is_crowded {
                lane.thin_out(&mut seat).await;
            }
        }
        lane.mailbox.park(seat, lane.context.clock.now());
    }

    /// Whether the mailbox lets a message go, and the spool can keep what becomes of it.
    fn may_send(&mut self) -> bool {
        if self.lane.context.is_stuck() {
            return false;
        }
        let gate = self.lane.mailbox.pass_gate();
        self.is_probe = gate == Gate::OneMessage;
        gate != Gate::Closed
    }

    fn end_probe(&mut self) {
        if std::mem::take(&mut self.is_probe) {
            self.lane.mailbox.probe_again();
            self.lane.context.wake.notify_one();
        }
    }

    /// The next message; where there is none the place is given back, in one step, so that whoever
    /// pushes next finds it.
    fn next(&mut self) -> Option<Claimed> {
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
    fn put_back(&self, message: Claimed) {
        let mut state = self.lane.state();
        if state.is_closed {
            self.lane.context.release(Some(message));
        } else {
            let flow = message.record.place().flow;
            state.queue.put_back(flow, message);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end_probe();
        if self.is_counted {
            self.lane.state().workers -= 1;
        }
        if let Some(claim) = self.current {
            self.lane.context.forget(claim);
        }
    }
}
