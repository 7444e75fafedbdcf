//! The state that all reading sessions share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::Instant;

use super::error::NotReached;
use super::mailbox::{IncomingSettings, Mailbox};
use super::protocol::ReadingProtocol;
use super::remedy;
use super::upstream::{self, SignedIn, UpstreamError};
use crate::observe::maillog;
use crate::token::{Access, TokenError};

/// The state that all reading sessions share.
pub struct Shared {
    /// The current settings.
    pub(super) settings: ArcSwap<IncomingSettings>,
    /// Notifies open sessions that the settings changed.
    changed: watch::Sender<()>,
    /// The last sign-in failure by server and protocol; removed when a sign-in succeeds.
    trouble: Mutex<HashMap<(String, ReadingProtocol), Trouble>>,
}

/// The last failure to reach a mailbox.
struct Trouble {
    reason: String,
    /// The end of the pause that the mail server asked for.
    pause: Option<Instant>,
}

impl Shared {
    /// Creates the state before the first session.
    pub fn new(settings: IncomingSettings) -> Arc<Self> {
        Arc::new(Self {
            settings: ArcSwap::from_pointee(settings),
            changed: watch::Sender::new(()),
            trouble: Mutex::default(),
        })
    }

    /// Returns the current settings.
    pub fn settings(&self) -> Arc<IncomingSettings> {
        self.settings.load_full()
    }

    /// Uses these settings from now on, for open sessions too.
    pub fn reconfigure(&self, settings: IncomingSettings) {
        self.settings.store(Arc::new(settings));
        self.changed.send_replace(());
    }

    /// Waits until the user may no longer read this server's mailbox. `name` is the sign-in name.
    pub(super) async fn revoked(&self, name: &str, protocol: ReadingProtocol, server: &str) {
        let mut changed = self.changed.subscribe();
        loop {
            let settings = self.settings.load_full();
            let mailbox = settings.mailbox(settings.split(name), protocol);
            if mailbox.is_ok_and(|mailbox| mailbox.server == server)
                && changed.changed().await.is_ok()
            {
                continue;
            }
            return;
        }
    }

    /// Signs in to a mailbox. Returns an error at once during a pause that the mail server asked for. A failure is
    /// logged again only if its reason changes, or if a sign-in has succeeded since.
    pub(crate) async fn reach(
        &self,
        mailbox: &Mailbox,
        protocol: ReadingProtocol,
    ) -> Result<SignedIn, NotReached> {
        let key = (mailbox.server.clone(), protocol);
        let pause = self.trouble().get(&key).and_then(|trouble| trouble.pause);
        let left = pause.map(|until| until.saturating_duration_since(Instant::now()));
        if let Some(left) = left.filter(|left| !left.is_zero()) {
            return Err(NotReached::Paused(left));
        }
        let reached = reach(mailbox, protocol).await;
        match &reached {
            Ok(_) => self.works(&mailbox.server, protocol),
            Err(error) => self.failed(key, mailbox, error),
        }
        reached
    }

    /// Ends the trouble with a mailbox, if there was any.
    pub(super) fn works(&self, server: &str, protocol: ReadingProtocol) {
        let key = (server.to_owned(), protocol);
        if self.trouble().remove(&key).is_some() {
            maillog::reading_works(server, protocol.name());
        }
    }

    fn failed(&self, key: (String, ReadingProtocol), mailbox: &Mailbox, error: &NotReached) {
        let reason = error.to_string();
        let pause = remedy::pause(&reason).map(|pause| Instant::now() + pause);
        let protocol = key.1;
        let trouble = Trouble {
            reason: reason.clone(),
            pause,
        };
        let known = self.trouble().insert(key, trouble);
        if known.is_none_or(|known| known.reason != reason) {
            let remedy = remedy::of(mailbox, protocol, error);
            maillog::reading_failed(&mailbox.server, protocol.name(), &reason, remedy.as_deref());
        }
    }

    fn trouble(&self) -> MutexGuard<'_, HashMap<(String, ReadingProtocol), Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Signs in to a mailbox. If the mail server refuses the token, tries once more with a new one.
pub(super) async fn reach(
    mailbox: &Mailbox,
    protocol: ReadingProtocol,
) -> Result<SignedIn, NotReached> {
    let Some(host) = mailbox.host(protocol) else {
        return Err(TokenError::NotForReading {
            account: mailbox.server.clone(),
        }
        .into());
    };
    let sign_in = async |access: Option<&Access>| {
        upstream::sign_in(protocol, host, &mailbox.auth, access).await
    };
    let Some(source) = &mailbox.token else {
        return Ok(sign_in(None).await?);
    };
    let access = source.get_for_reading().await?;
    match sign_in(Some(&access)).await {
        Err(UpstreamError::Refused { answer, .. }) if remedy::is_about_token(&answer) => {
            let fresh = source.after_rejection(&access).await?;
            Ok(sign_in(Some(&fresh)).await?)
        }
        reached => Ok(reached?),
    }
}
