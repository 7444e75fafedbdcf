//! A mailbox's sessions: the limit on how many are open at once, and the signed-in sessions that wait for
//! the next message. A session belongs to the server to which it was opened.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::base::{Timestamp, limits};
use crate::transport::{Link, Upstream};

/// The sessions of one mailbox.
pub(super) struct Sessions {
    permits: Arc<Semaphore>,
    /// Locked while sessions are leased or given back. True if the spool may not know how many this node has.
    pub(super) leasing: tokio::sync::Mutex<bool>,
    state: Mutex<ParkedSessions>,
}

struct ParkedSessions {
    most: usize,
    /// Idle sessions, each with the time at which it became idle.
    parked: Vec<(Open, Timestamp)>,
    /// Incremented to invalidate all existing sessions.
    epoch: u64,
}

/// An open session, with its server.
pub(super) struct Open {
    pub(super) link: Box<dyn Link>,
    upstream: Arc<Upstream>,
}

/// The right to one session, and the session if it is open.
pub(super) struct SessionSlot {
    session: Option<Open>,
    epoch: u64,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Open {
    pub(super) fn new(link: Box<dyn Link>, upstream: &Arc<Upstream>) -> Self {
        Self {
            link,
            upstream: upstream.clone(),
        }
    }

    fn is_to(&self, upstream: &Arc<Upstream>) -> bool {
        Arc::ptr_eq(&self.upstream, upstream) || self.upstream.is_same(upstream)
    }
}

impl SessionSlot {
    /// Takes the session, to use it or to end it.
    pub(super) fn take(&mut self) -> Option<Box<dyn Link>> {
        self.session.take().map(|open| open.link)
    }

    /// Puts back a session that can be used for the next message to this server.
    pub(super) fn keep(&mut self, link: Box<dyn Link>, upstream: &Arc<Upstream>) {
        self.session = Some(Open::new(link, upstream));
    }
}

impl Sessions {
    pub(super) fn new(most: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(most)),
            leasing: tokio::sync::Mutex::default(),
            state: Mutex::new(ParkedSessions {
                most,
                parked: Vec::new(),
                epoch: 0,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, ParkedSessions> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the limit on simultaneous sessions. A lower limit does not interrupt sessions that are in use; it
    /// takes effect as they become free.
    pub(super) fn limit(&self, most: usize) {
        let before = std::mem::replace(&mut self.state().most, most);
        let Some(fewer) = before.checked_sub(most) else {
            return self.permits.add_permits(most - before);
        };
        let free = self.permits.forget_permits(fewer);
        let (permits, owed) = (self.permits.clone(), (fewer - free) as u32);
        if owed > 0 {
            tokio::spawn(async move {
                if let Ok(permits) = permits.acquire_many_owned(owed).await {
                    permits.forget();
                }
            });
        }
    }

    /// The limit on simultaneous sessions.
    pub(super) fn most(&self) -> usize {
        self.state().most
    }

    /// Admits one more session.
    pub(super) fn add(&self) {
        let mut state = self.state();
        state.most += 1;
        self.permits.add_permits(1);
    }

    /// Admits no more sessions than are in use, idle, or wanted by this many workers. Returns true if that is fewer than
    /// before.
    pub(super) fn shrink(&self, workers: usize) -> bool {
        let mut state = self.state();
        let in_use = state.most.saturating_sub(self.permits.available_permits());
        let needed = in_use.max(workers) + state.parked.len();
        let spare = state.most.saturating_sub(needed);
        // A session that begins at this moment keeps its permit.
        let removed = self.permits.forget_permits(spare);
        state.most -= removed;
        removed > 0
    }

    /// Waits for the right to one session.
    pub(super) async fn seat(&self) -> SessionSlot {
        let permit = self.permits.clone().acquire_owned().await.ok();
        SessionSlot {
            session: None,
            epoch: self.state().epoch,
            _permit: permit,
        }
    }

    /// Returns a slot for a session that an operator opened for a test. The session does not count towards
    /// the mailbox's limit.
    pub(super) fn beside(&self, link: Box<dyn Link>, upstream: &Arc<Upstream>) -> SessionSlot {
        SessionSlot {
            session: Some(Open::new(link, upstream)),
            epoch: self.state().epoch,
            _permit: None,
        }
    }

    /// Prepares a slot for a message to this server. The slot keeps its session if that session is to this
    /// server and [`Sessions::close`] has not been called since the slot was last prepared. Otherwise its
    /// session ends, and the slot gets an idle session to this server, if there is one.
    pub(super) async fn prepare(&self, seat: &mut SessionSlot, upstream: &Arc<Upstream>) {
        let epoch = self.state().epoch;
        let is_old = std::mem::replace(&mut seat.epoch, epoch) != epoch;
        if let Some(open) = &seat.session {
            if !is_old && open.is_to(upstream) {
                return;
            }
            if let Some(link) = seat.take() {
                link.quit().await;
            }
        }
        while let Some(mut open) = self.parked(upstream) {
            if open.is_to(upstream) && open.link.is_alive().await {
                seat.session = Some(open);
                return;
            }
            let is_dead = open.is_to(upstream);
            open.link.quit().await;
            if !is_dead {
                return;
            }
        }
    }

    /// Takes an idle session: one to this server or, if there is none, the oldest. The caller ends the oldest
    /// to make room for a new session.
    fn parked(&self, upstream: &Arc<Upstream>) -> Option<Open> {
        let parked = &mut self.state().parked;
        let place = parked.iter().rposition(|(open, _)| open.is_to(upstream));
        let place = place.or(if parked.is_empty() { None } else { Some(0) })?;
        Some(parked.remove(place).0)
    }

    /// Keeps the slot's session for the next message.
    pub(super) fn park(&self, mut seat: SessionSlot, now: Timestamp) {
        let Some(session) = seat.session.take() else {
            return;
        };
        let mut state = self.state();
        if seat.epoch == state.epoch {
            state.parked.push((session, now))
        } else {
            drop(tokio::spawn(session.link.quit()))
        }
    }

    /// Closes all sessions. Those in use close after their current message.
    pub(super) fn close(&self) {
        let parked = {
            let mut state = self.state();
            state.epoch += 1;
            std::mem::take(&mut state.parked)
        };
        quit(parked);
    }

    /// Closes the sessions that have been idle for a while.
    pub(super) fn close_idle(&self, now: Timestamp) {
        let idle = {
            let mut state = self.state();
            let is_old = |since: &Timestamp| now.since(*since) >= limits::upstream::KEEP;
            let parked = std::mem::take(&mut state.parked);
            let (idle, kept): (Vec<_>, Vec<_>) = parked.into_iter().partition(|(_, at)| is_old(at));
            state.parked = kept;
            idle
        };
        quit(idle);
    }
}

fn quit(sessions: Vec<(Open, Timestamp)>) {
    for (session, _) in sessions {
        tokio::spawn(session.link.quit());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::BoxFuture;
    use crate::transport::{Interruption, Outcome, Outgoing};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A session that counts itself while it is open.
    struct Counted(Arc<AtomicUsize>);

    impl Counted {
        fn open(open: &Arc<AtomicUsize>) -> Box<dyn Link> {
            open.fetch_add(1, Ordering::Relaxed);
            Box::new(Self(open.clone()))
        }
    }

    impl Link for Counted {
        fn send<'a>(&'a mut self, _: Outgoing<'a>) -> BoxFuture<'a, Result<Outcome, Interruption>> {
            Box::pin(async { Ok(Outcome::default()) })
        }

        fn is_spent(&self) -> bool {
            false
        }

        fn is_alive(&mut self) -> BoxFuture<'_, bool> {
            Box::pin(async { true })
        }

        fn quit(self: Box<Self>) -> BoxFuture<'static, ()> {
            self.0.fetch_sub(1, Ordering::Relaxed);
            Box::pin(async {})
        }
    }

    fn server(host: &str) -> Arc<Upstream> {
        let mut upstream = Upstream::of_exchange();
        upstream.smtp.remote.host = host.to_owned();
        Arc::new(upstream)
    }

    #[tokio::test]
    async fn a_session_is_used_for_its_own_server_only_and_makes_room_for_another() {
        let (one, other) = (server("one.example"), server("other.example"));
        let (sessions, open) = (Sessions::new(1), Arc::new(AtomicUsize::new(0)));
        let mut seat = sessions.seat().await;
        sessions.prepare(&mut seat, &one).await;
        assert!(seat.take().is_none());
        seat.keep(Counted::open(&open), &one);
        sessions.park(seat, Timestamp(0));
        let mut seat = sessions.seat().await;
        sessions.prepare(&mut seat, &other).await;
        assert!(seat.take().is_none(), "it is another server's");
        assert_eq!(open.load(Ordering::Relaxed), 0, "its place is needed");
        seat.keep(Counted::open(&open), &other);
        sessions.prepare(&mut seat, &server("other.example")).await;
        assert!(seat.take().is_some(), "the same server, configured anew");
    }

    #[tokio::test]
    async fn closed_sessions_are_used_no_more() {
        let (one, open) = (server("one.example"), Arc::new(AtomicUsize::new(0)));
        let sessions = Sessions::new(2);
        let mut used = sessions.seat().await;
        used.keep(Counted::open(&open), &one);
        let mut idle = sessions.seat().await;
        idle.keep(Counted::open(&open), &one);
        sessions.park(idle, Timestamp(0));
        sessions.close();
        sessions.prepare(&mut used, &one).await;
        assert!(used.take().is_none());
        tokio::task::yield_now().await;
        assert_eq!(open.load(Ordering::Relaxed), 0);
    }
}
