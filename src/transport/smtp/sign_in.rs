//! Opens a session with a token, and chooses the name in `user=` when a person signs in for a shared mailbox.
//! Microsoft documents the mailbox's name; in measurements the person's name worked
//! (`transport/smtp/exchange_online.md`, "The SMTP session").

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::failure::Failure;
use super::judge::{interruption, reaction};
use super::reaction::Reaction;
use super::server::{Auth, SmtpServer};
use super::session::Session;
use crate::base::Secret;
use crate::token::TokenError;
use crate::transport::finding::{Finding, Patience, Until};
use crate::transport::outcome::{Interruption, Progress};
use crate::transport::upstream::Upstream;

/// The name used for the sign-in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum SignInName {
    /// The person's name.
    #[default]
    Person,
    /// The mailbox's name.
    Mailbox,
}

impl SignInName {
    /// Returns the name to try if this one was refused.
    fn other(self) -> Self {
        match self {
            Self::Person => Self::Mailbox,
            Self::Mailbox => Self::Person,
        }
    }

    /// Returns the server's settings, with this name for the sign-in.
    pub(super) fn server(self, upstream: &Upstream) -> SmtpServer {
        let mut server = upstream.smtp.clone();
        if let (Self::Person, Some(person)) = (self, upstream.person()) {
            server.auth = Auth::XOAuth2 {
                username: person.to_owned(),
            };
        }
        server
    }
}

/// For each server with a shared mailbox, the name that worked last.
#[derive(Default)]
pub(super) struct Names(Mutex<HashMap<String, SignInName>>);

impl Names {
    fn all(&self) -> MutexGuard<'_, HashMap<String, SignInName>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last(&self, upstream: &Upstream) -> SignInName {
        let name = self.all().get(&upstream.name).copied();
        name.unwrap_or_default()
    }

    fn note(&self, upstream: &Upstream, name: SignInName) {
        self.all().insert(upstream.name.clone(), name);
    }
}

/// Opens a session and signs in. With `fresh_token`, requests a new token first; otherwise, requests one only
/// if the server refuses the current token, and then tries once more.
pub(super) async fn open(
    names: &Names,
    upstream: &Arc<Upstream>,
    fresh_token: bool,
) -> Result<Session, Interruption> {
    let interrupted = |failure: Failure| interruption(upstream, &failure);
    let Some(source) = &upstream.token else {
        let opened = Session::open(&upstream.smtp, None).await;
        return opened.map_err(interrupted);
    };
    let no_token = |error| no_token(&upstream.name, &error);
    let mut access = source.get().await.map_err(no_token)?;
    if fresh_token {
        access = source.after_rejection(&access).await.map_err(no_token)?;
    }
    let mut opened = sign_in(names, upstream, &access.token).await;
    if !fresh_token && is_refused(upstream, &opened) {
        access = source.after_rejection(&access).await.map_err(no_token)?;
        opened = sign_in(names, upstream, &access.token).await;
    }
    opened.map_err(interrupted)
}

/// Signs in with a token. For a shared mailbox, tries the name that worked last, then the other name.
async fn sign_in(names: &Names, upstream: &Upstream, token: &Secret) -> Result<Session, Failure> {
    if upstream.person().is_none() {
        return Session::open(&upstream.smtp, Some(token)).await;
    }
    let name = names.last(upstream);
    let opened = Session::open(&name.server(upstream), Some(token)).await;
    if !is_refused(upstream, &opened) {
        return opened;
    }
    let again = Session::open(&name.other().server(upstream), Some(token)).await;
    if again.is_err() {
        return opened;
    }
    names.note(upstream, name.other());
    again
}

/// True if the server refused the token, or refused it for this name.
fn is_refused<T>(upstream: &Upstream, opened: &Result<T, Failure>) -> bool {
    let failure = opened.as_ref().err();
    failure.is_some_and(|failure| reaction(upstream, failure) == Reaction::FreshToken)
}

fn no_token(server: &str, error: &TokenError) -> Interruption {
    let reason = format!("no token for {server}: {error}");
    let finding = if error.is_transient() {
        Finding::Slowed(Patience::Minutes, reason.clone())
    } else {
        Finding::Held(Until::Probe, reason.clone())
    };
    Interruption {
        reason,
        answer: None,
        finding: Some(finding),
        progress: Progress::UnderWay,
    }
}
