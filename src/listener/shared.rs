//! What all listeners share.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::counts::{Counted, Counts, Memory};
use super::direct::Direct;
use super::guard::Guard;
use super::usage::Usage;
use super::{Endpoint, Settings};
use crate::base::Clock;
use crate::spool::Intake;

/// How long sessions have to hear that the program ends, whatever is under way.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// See the module.
pub struct Shared {
    /// What sessions go by.
    pub settings: ArcSwap<Settings>,
    /// Where messages go.
    pub spool: Arc<dyn Intake>,
    /// Where messages for direct servers go.
    pub direct: Arc<dyn Direct>,
    /// What tells when a message came.
    pub clock: Clock,
    pub(super) sessions: Arc<Counts<()>>,
    pub(super) of_listener: Arc<Counts<String>>,
    pub(super) of_address: Arc<Counts<IpAddr>>,
    pub(super) of_user: Arc<Counts<String>>,
    /// Those who hear their last word.
    pub(super) leaving: Arc<Counts<()>>,
    pub(super) memory: Arc<Memory>,
    pub(super) usage: Usage,
    pub(super) guard: Guard,
    stopping: watch::Sender<Stopping>,
}

/// Whether sessions are to end because the program does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(super) enum Stopping {
    No,
    BetweenMessages,
    AtOnce,
}

/// Among all sessions, and those of a listener.
pub(super) type Places = (Counted<()>, Counted<String>);

impl Shared {
    /// No session yet.
    pub fn new(
        settings: Settings,
        spool: Arc<dyn Intake>,
        direct: Arc<dyn Direct>,
        clock: Clock,
    ) -> Arc<Self> {
        Arc::new(Self {
            settings: ArcSwap::from_pointee(settings),
            spool,
            direct,
            clock,
            sessions: Counts::new(),
            of_listener: Counts::new(),
            of_address: Counts::new(),
            of_user: Counts::new(),
            leaving: Counts::new(),
            memory: Arc::default(),
            usage: Usage::default(),
            guard: Guard::default(),
            stopping: watch::Sender::new(Stopping::No),
        })
    }

    /// Sessions at this moment.
    pub fn sessions(&self) -> usize {
        self.sessions.of(&())
    }

    /// What tells that the program is to end.
    pub(super) fn stopping(&self) -> watch::Receiver<Stopping> {
        self.stopping.subscribe()
    }

    /// Asks all sessions to end between messages, and after `grace` to end wherever they are.
    pub async fn stop(&self, grace: Duration) {
        for (how, time) in [
            (Stopping::BetweenMessages, grace),
            (Stopping::AtOnce, LAST_WORDS),
        ] {
            self.stopping.send_replace(how);
            // What does not end by then is broken off; nothing was promised to it.
            let _ = tokio::time::timeout(time, self.ended()).await;
        }
    }

    async fn ended(&self) {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while self.sessions() + self.leaving.of(&()) > 0 {
            tick.tick().await;
        }
    }

    pub(super) fn place(&self, endpoint: &Endpoint) -> Option<Places> {
        let most = self.settings.load().limits.sessions;
        let of_all = self.sessions.take((), most)?;
        let here = self
            .of_listener
            .take(endpoint.name.clone(), endpoint.sessions)?;
        Some((of_all, here))
    }
}
