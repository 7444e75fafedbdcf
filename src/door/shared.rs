//! What all listeners share.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::counts::{Counted, Counts, Memory};
use super::endpoint::Endpoint;
use super::guard::Guard;
use super::limits::DoorLimits;
use super::turned_away::TurnedAway;
use super::usage::DoorUsage;
use super::users::{User, Users};

/// How long sessions have to hear that the program ends, whatever is under way.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What holds at every listener. Sessions under way see a change at their next command, and keep the user
/// that a network has made them.
pub struct DoorSettings {
    /// Who may come in.
    pub users: Users,
    /// How much there may be at once, and how slow it may be.
    pub limits: DoorLimits,
}

/// See the module.
pub struct Door {
    /// What holds at every listener.
    pub settings: ArcSwap<DoorSettings>,
    sessions: Arc<Counts<()>>,
    of_listener: Arc<Counts<String>>,
    pub(super) of_address: Arc<Counts<IpAddr>>,
    of_user: Arc<Counts<String>>,
    /// Clients that hear why their session is over.
    pub(super) leaving: Arc<Counts<()>>,
    /// Octets of messages that come in.
    pub memory: Arc<Memory>,
    /// What users and listeners have sent lately.
    pub usage: DoorUsage,
    pub(super) guard: Guard,
    stopping: watch::Sender<Stopping>,
}

/// Whether sessions are to end because the program does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub enum Stopping {
    /// No.
    No,
    /// Between messages.
    BetweenMessages,
    /// Wherever they are.
    AtOnce,
}

/// Among all sessions, and those of a listener.
pub type Places = (Counted<()>, Counted<String>);

impl Door {
    /// No session yet.
    pub fn new(settings: DoorSettings) -> Arc<Self> {
        Arc::new(Self {
            settings: ArcSwap::from_pointee(settings),
            sessions: Counts::new(),
            of_listener: Counts::new(),
            of_address: Counts::new(),
            of_user: Counts::new(),
            leaving: Counts::new(),
            memory: Arc::default(),
            usage: DoorUsage::default(),
            guard: Guard::default(),
            stopping: watch::Sender::new(Stopping::No),
        })
    }

    /// Sessions at this moment.
    pub fn sessions(&self) -> usize {
        self.sessions.of(&())
    }

    /// What tells that the program is to end.
    pub fn stopping(&self) -> watch::Receiver<Stopping> {
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

    /// A place for one more session of this user, if there may be another.
    pub fn place_of_user(&self, user: &User) -> Result<Counted<String>, TurnedAway> {
        let (most, setting) = match user.sessions {
            Some(most) => (most, "sessions"),
            None => {
                let most = self.settings.load().limits.sessions_per_user;
                (most, "sessions_per_user")
            }
        };
        let place = self.of_user.take(user.name.clone(), most);
        place.ok_or_else(|| TurnedAway::TooManyOf {
            whose: format!("User {}", user.name),
            most,
            setting,
        })
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
