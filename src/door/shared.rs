//! The state that all listeners share.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use tokio::sync::watch;

use super::counts::{Counted, Counts, Memory};
use super::endpoint::Endpoint;
use super::guard::Guard;
use super::knocks::{Knock, Knocks};
use super::limits::DoorLimits;
use super::turned_away::TurnedAway;
use super::usage::DoorUsage;
use super::users::{User, Users};
use crate::base::Timestamp;
use crate::base::shared_sessions::SharedSessions;
use crate::observe::maillog;
use crate::smtp::Transcript;

/// After [`Stopping::AtOnce`], the time that sessions have to notify their clients and end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Settings for every listener. Running sessions apply a change from their next command on, but keep the user
/// that their network implied.
pub struct DoorSettings {
    /// The users who may sign in or are admitted by network.
    pub users: Users,
    /// How much is allowed at once, and how slow clients may be.
    pub limits: DoorLimits,
    /// The sessions whose dialogue is logged.
    pub dialogues: Dialogues,
}

/// The sessions whose dialogue is logged, whatever the log's level.
#[derive(Debug, Clone, Default)]
pub struct Dialogues {
    /// Sessions of clients in these networks.
    pub peers: Vec<IpNet>,
    /// Sessions of these users.
    pub users: Vec<String>,
}

impl Dialogues {
    /// True if the dialogue of this session is logged; `None` if that depends on the user, who is not known yet.
    pub fn admit(&self, peer: IpAddr, user: Option<&str>) -> Option<bool> {
        if self.peers.iter().any(|network| network.contains(&peer)) {
            return Some(true);
        }
        match user {
            _ if self.users.is_empty() => Some(false),
            Some(user) => Some(self.users.iter().any(|known| known == user)),
            None => None,
        }
    }
}

/// The state that all listeners share.
pub struct Door {
    /// The settings for every listener.
    pub settings: ArcSwap<DoorSettings>,
    sessions: Arc<Counts<()>>,
    of_listener: Arc<Counts<String>>,
    pub(super) of_address: Arc<Counts<IpAddr>>,
    of_user: Arc<Counts<String>>,
    /// Counts the sessions of users over all nodes, if there are several.
    shared_sessions: Option<Arc<dyn SharedSessions>>,
    /// Clients that are reading why their session is over.
    pub(super) lingering: Arc<Counts<()>>,
    /// The memory that incoming messages take, in octets.
    pub memory: Arc<Memory>,
    /// The recent usage of users and listeners.
    pub usage: DoorUsage,
    pub(super) guard: Guard,
    knocks: Mutex<Knocks>,
    stopping: watch::Sender<Stopping>,
    draining: AtomicBool,
}

/// How urgently sessions must end because the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub enum Stopping {
    /// Sessions continue.
    No,
    /// Sessions end between messages.
    BetweenMessages,
    /// Sessions end at once, at any point.
    AtOnce,
}

/// A session's slot in the count of all sessions, and its slot in the count of its listener's sessions.
pub type SessionSlots = (Counted<()>, Counted<String>);

/// A session's slot in the counts of its user's sessions, here and on all nodes.
pub struct UserSlot {
    _here: Counted<String>,
    shared: Option<(Arc<dyn SharedSessions>, String)>,
}

impl Drop for UserSlot {
    fn drop(&mut self) {
        if let Some((shared, user)) = &self.shared {
            shared.end(user);
        }
    }
}

impl Door {
    /// Creates a door without sessions. If there are several nodes, `shared_sessions` counts the users' sessions on all of them.
    pub fn new(
        settings: DoorSettings,
        shared_sessions: Option<Arc<dyn SharedSessions>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            settings: ArcSwap::from_pointee(settings),
            sessions: Counts::new(),
            of_listener: Counts::new(),
            of_address: Counts::new(),
            of_user: Counts::new(),
            shared_sessions,
            lingering: Counts::new(),
            memory: Arc::default(),
            usage: DoorUsage::default(),
            guard: Guard::default(),
            knocks: Mutex::default(),
            stopping: watch::Sender::new(Stopping::No),
            draining: AtomicBool::default(),
        })
    }

    /// Returns the current number of sessions.
    pub fn sessions(&self) -> usize {
        self.sessions.of(&())
    }

    /// Returns the current number of sessions at a listener.
    pub fn sessions_at(&self, listener: &str) -> usize {
        self.of_listener.of(&listener.to_owned())
    }

    /// Returns a receiver for changes of [`Stopping`].
    pub fn stopping(&self) -> watch::Receiver<Stopping> {
        self.stopping.subscribe()
    }

    /// Tells all sessions to end between messages, and after `grace` to end at any point.
    pub async fn stop(&self, grace: Duration) {
        for (how, time) in [
            (Stopping::BetweenMessages, grace),
            (Stopping::AtOnce, LAST_WORDS),
        ] {
            self.stopping.send_replace(how);
            // A session that has not ended by then is cut off; its client has not received a reply that
            // accepts the message.
            let _ = tokio::time::timeout(time, self.ended()).await;
        }
    }

    /// Tells proxies, from now on or no longer, that this node is being taken out of service.
    pub fn drain(&self, draining: bool) {
        self.draining.store(draining, Ordering::Release);
    }

    /// True if proxies are told that this node is being taken out of service.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Tells all sessions to end, as [`Door::stop`] does, and then admits clients as before.
    pub async fn end_sessions(&self, grace: Duration) {
        self.stop(grace).await;
        self.stopping.send_replace(Stopping::No);
    }

    async fn ended(&self) {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while self.sessions() + self.lingering.of(&()) > 0 {
            tick.tick().await;
        }
    }

    /// Remembers that a client was refused; `said` is the reply that it got, or the reason that it was not told.
    pub fn refused(&self, listener: &str, peer: IpAddr, user: &str, said: &str) {
        let mut knocks = self.knocks.lock().unwrap_or_else(PoisonError::into_inner);
        knocks.add(listener, peer, user, said, Timestamp::now());
    }

    /// Returns the clients that were refused since the program started, the latest first.
    pub fn knocks(&self) -> Vec<Knock> {
        let knocks = self.knocks.lock().unwrap_or_else(PoisonError::into_inner);
        knocks.all()
    }

    /// True if the dialogue of this session is logged, or may be once its user is known.
    pub fn records(&self, peer: IpAddr, user: Option<&str>) -> bool {
        let asked = self.settings.load().dialogues.admit(peer, user);
        asked != Some(false) || maillog::logs_dialogues()
    }

    /// Logs the recorded lines of a session, once it is certain that they are to be logged.
    pub fn log_dialogue(
        &self,
        listener: &str,
        peer: IpAddr,
        user: Option<&str>,
        transcript: &mut Transcript,
    ) {
        let is_asked = self.settings.load().dialogues.admit(peer, user) == Some(true);
        if !is_asked && !maillog::logs_dialogues() {
            return;
        }
        for said in transcript.take() {
            maillog::dialogue(listener, &peer, user.unwrap_or_default(), &said, is_asked);
        }
    }

    /// Reserves a slot for one more session of this user, if the limit allows it. A limit of the user's own holds over all
    /// nodes.
    pub async fn user_slot(&self, user: &User) -> Result<UserSlot, TurnedAway> {
        let (most, setting) = match user.sessions {
            Some(most) => (most, "sessions"),
            None => {
                let most = self.settings.load().limits.sessions_per_user;
                (most, "sessions_per_user")
            }
        };
        let too_many = || TurnedAway::TooManyOf {
            whose: format!("User {}", user.name),
            most,
            setting,
        };
        let here = self.of_user.take(user.name.clone(), most);
        let here = here.ok_or_else(too_many)?;
        let shared = self.shared_sessions.clone();
        let shared = shared.filter(|_| user.sessions.is_some());
        if let Some(shared) = &shared
            && !shared.begin(&user.name, most).await
        {
            return Err(too_many());
        }
        Ok(UserSlot {
            _here: here,
            shared: shared.map(|shared| (shared, user.name.clone())),
        })
    }

    pub(super) fn place(&self, endpoint: &Endpoint) -> Option<SessionSlots> {
        let most = self.settings.load().limits.sessions;
        let of_all = self.sessions.take((), most)?;
        let here = self
            .of_listener
            .take(endpoint.name.clone(), endpoint.sessions)?;
        Some((of_all, here))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dialogue_is_logged_by_network_at_once_and_by_user_once_known() {
        let peer = |text: &str| text.parse::<IpAddr>().unwrap();
        let dialogues = Dialogues {
            peers: vec!["192.0.2.0/24".parse().unwrap()],
            users: vec!["erp".into()],
        };
        assert_eq!(dialogues.admit(peer("192.0.2.9"), None), Some(true));
        assert_eq!(dialogues.admit(peer("198.51.100.1"), None), None);
        assert_eq!(
            dialogues.admit(peer("198.51.100.1"), Some("erp")),
            Some(true)
        );
        assert_eq!(
            dialogues.admit(peer("198.51.100.1"), Some("web")),
            Some(false)
        );
        assert_eq!(
            Dialogues::default().admit(peer("192.0.2.9"), None),
            Some(false)
        );
    }
}
