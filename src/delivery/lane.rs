//! One server's lane: the messages that wait for it, and the sessions that are kept with it.
//!
//! A worker is a task that sends one message after another over one session while there is any, and
//! then leaves the session behind, still signed in, for whoever comes next. There are never more
//! workers than the server may have sessions.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::attempt::{self, Ended};
use super::scheduler::Context;
use crate::base::{MessageId, Timestamp, limits};
use crate::observe::maillog;
use crate::spool::Leased;
use crate::token::Source;
use crate::upstream::{self, Session};

/// Messages that a lane takes from the spool ahead of sending them.
const QUEUE: usize = 256;

/// How long a server is left alone that needs a person; then one message probes it.
const HOLD: Duration = Duration::from_secs(300);

/// An upstream server as delivery knows it.
#[derive(Clone)]
pub struct Server {
    /// Its name in the configuration.
    pub name: String,
    /// How it is reached.
    pub upstream: upstream::Settings,
    /// Where its tokens come from, for XOAUTH2.
    pub token: Option<Arc<Source>>,
    /// Sessions at once.
    pub sessions: usize,
}

/// A server is not used for now.
#[derive(Debug, Clone)]
pub struct Hold {
    /// Since when.
    pub since: Timestamp,
    /// Until when; then it is probed.
    pub until: Timestamp,
    /// Why, with the remedy.
    pub reason: String,
}

/// See the module.
pub(super) struct Lane {
    pub(super) server: Server,
    pub(super) context: Arc<Context>,
    permits: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Leased>,
    workers: usize,
    hold: Option<Hold>,
    parked: Vec<(Session, Timestamp)>,
    /// Grows when sessions of before are to be used no more.
    epoch: u64,
    is_closed: bool,
}

impl State {
    fn park(&mut self, session: Session, epoch: u64, now: Timestamp) {
        match self.is_closed || epoch != self.epoch {
            true => drop(tokio::spawn(session.quit())),
            false => self.parked.push((session, now)),
        }
    }
}

impl Lane {
    pub(super) fn new(server: Server, context: Arc<Context>) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(server.sessions));
        Arc::new(Self {
            server,
            context,
            permits,
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// How many more messages it takes now.
    pub(super) fn room(&self) -> usize {
        let state = self.state();
        match state.hold.is_some() || state.is_closed {
            true => 0,
            false => QUEUE.saturating_sub(state.queue.len()),
        }
    }

    /// Takes a message; gives it back where there is no room.
    pub(super) fn push(self: &Arc<Self>, message: Leased) -> Option<Leased> {
        let mut state = self.state();
        if state.hold.is_some() || state.is_closed || state.queue.len() >= QUEUE {
            return Some(message);
        }
        state.queue.push_back(message);
        if state.workers < self.server.sessions {
            state.workers += 1;
            tokio::spawn(
                Worker {
                    lane: self.clone(),
                    epoch: state.epoch,
                    is_counted: true,
                    current: None,
                }
                .run(),
            );
        }
        None
    }

    /// A session for one direct message, or for a worker: its right to be, and a kept one if there is.
    pub(super) async fn session(&self) -> (Option<OwnedSemaphorePermit>, Option<Session>) {
        let permit = self.permits.clone().acquire_owned().await.ok();
        loop {
            let kept = self.state().parked.pop();
            let Some((mut session, _)) = kept else {
                return (permit, None);
            };
            if session.is_alive().await {
                return (permit, Some(session));
            }
        }
    }

    /// To be taken before a session, and given back with it.
    pub(super) fn epoch(&self) -> u64 {
        self.state().epoch
    }

    /// Keeps a session of this epoch for whoever comes next.
    pub(super) fn park(&self, session: Option<Session>, epoch: u64) {
        if let Some(session) = session {
            self.state().park(session, epoch, self.context.clock.now());
        }
    }

    /// Leaves the server alone for a while; what waits for it goes back to the spool.
    pub(super) fn hold(&self, reason: String) {
        let now = self.context.clock.now();
        let until = now.after(HOLD);
        maillog::server_held(&self.server.name, until, &reason);
        let waiting = {
            let mut state = self.state();
            state.hold = Some(Hold {
                since: now,
                until,
                reason,
            });
            std::mem::take(&mut state.queue)
        };
        self.context.release(waiting);
    }

    /// Why the server is not used, if it is not.
    pub(super) fn held(&self) -> Option<Hold> {
        self.state().hold.clone()
    }

    /// Ends a hold that is over at `now`, or any where `now` is none.
    pub(super) fn end_hold(&self, now: Option<Timestamp>) {
        let mut state = self.state();
        let is_over = |hold: &Hold| now.is_none_or(|now| hold.until <= now);
        if state.hold.as_ref().is_some_and(is_over) {
            state.hold = None;
            if let Some(token) = &self.server.token {
                token.forgive();
            }
            maillog::server_released(&self.server.name);
        }
    }

    /// Closes sessions that nobody has used for a while.
    pub(super) fn close_idle(&self) {
        let now = self.context.clock.now();
        let mut state = self.state();
        let (idle, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut state.parked)
            .into_iter()
            .partition(|(_, since)| now.since(*since) >= limits::upstream::KEEP);
        state.parked = kept;
        for (session, _) in idle {
            tokio::spawn(session.quit());
        }
    }

    /// Closes the sessions: those that are in use after the message under way.
    pub(super) fn close_sessions(&self) {
        let kept = {
            let mut state = self.state();
            state.epoch += 1;
            std::mem::take(&mut state.parked)
        };
        for (session, _) in kept {
            tokio::spawn(session.quit());
        }
    }

    /// Takes nothing more; what is under way may end.
    pub(super) fn close(&self) {
        let (waiting, parked) = {
            let mut state = self.state();
            state.is_closed = true;
            (
                std::mem::take(&mut state.queue),
                std::mem::take(&mut state.parked),
            )
        };
        self.context.release(waiting);
        for (session, _) in parked {
            tokio::spawn(session.quit());
        }
    }

    /// Whether nobody works.
    pub(super) fn is_quiet(&self) -> bool {
        self.state().workers == 0
    }
}

/// A place among the lane's workers, given back however the task ends. A message whose attempt
/// panicked keeps its lease until that ends by itself, so that it is not tried in a circle.
struct Worker {
    lane: Arc<Lane>,
    epoch: u64,
    is_counted: bool,
    current: Option<MessageId>,
}

impl Worker {
    async fn run(mut self) {
        let lane = self.lane.clone();
        let (_permit, mut session) = lane.session().await;
        while let Some(message) = self.next(&mut session) {
            let lease = (message.record.id, message.record.lane.clone());
            self.current = Some(message.record.id);
            match attempt::run(&lane, &mut session, message).await {
                Ended::Finished(finish) => lane.context.finish(*finish).await,
                Ended::Released => lane.context.release_one(lease),
                Ended::ServerHeld(reason) => {
                    lane.context.release_one(lease);
                    if lane.held().is_none() {
                        lane.hold(reason);
                    }
                }
            }
            self.current = None;
        }
    }

    /// The next message; where there is none the session is parked and the place given back, in one
    /// step, so that whoever pushes next finds both.
    fn next(&mut self, session: &mut Option<Session>) -> Option<Leased> {
        let now = self.lane.context.clock.now();
        let mut state = self.lane.state();
        if state.epoch != self.epoch
            && let Some(session) = session.take()
        {
            tokio::spawn(session.quit());
        }
        self.epoch = state.epoch;
        let message = state.queue.pop_front();
        if message.is_none() {
            state.workers -= 1;
            self.is_counted = false;
            if let Some(session) = session.take() {
                state.park(session, self.epoch, now);
            }
        }
        let is_low = state.queue.len() == QUEUE / 4 || message.is_none();
        drop(state);
        if is_low {
            self.lane.context.wake.notify_one();
        }
        message
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
