//! A client signs in by name and password.

use std::net::IpAddr;

use tokio::time::Instant;

use super::endpoint::Endpoint;
use super::shared::Door;
use super::turned_away::TurnedAway;
use crate::base::Secret;
use crate::observe::maillog;

/// Why nobody has signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotSignedIn {
    /// No such user, or the wrong password. The client has waited for this answer.
    Wrong,
    /// Its address is shut out.
    ShutOut {
        /// Why.
        why: TurnedAway,
        /// Whether the password was looked at, and this failure has shut it out.
        is_new: bool,
    },
    /// It cannot be said just now.
    Unavailable,
}

impl Door {
    /// Whether the password is the user's, and the user is let in at this listener. A wrong one is logged
    /// and costs time.
    pub async fn sign_in(
        &self,
        endpoint: &Endpoint,
        peer: IpAddr,
        name: &str,
        password: Secret,
    ) -> Result<(), NotSignedIn> {
        let settings = self.settings.load_full();
        let limits = &settings.limits;
        let Ok(turn) = self.guard.turn(peer, limits).await else {
            return Err(NotSignedIn::Unavailable);
        };
        let shut_out = |seconds, is_new| NotSignedIn::ShutOut {
            why: TurnedAway::ShutOut { peer, seconds },
            is_new,
        };
        let now = || Instant::now().into_std();
        if let Some(left) = self.guard.shut_out(peer, limits, now()) {
            return Err(shut_out(left.as_secs(), false));
        }
        let verified = settings.users.verify(name, password).await;
        let is_right = verified.map_err(|_| NotSignedIn::Unavailable)?;
        if is_right && endpoint.admits(name) && settings.users.get(name).is_some() {
            return Ok(());
        }
        let then = self.guard.failed(peer, limits, now());
        drop(turn);
        let reason = self.why_not(endpoint, name);
        maillog::auth_failed(&endpoint.name, name, &peer, then.failures, reason);
        tokio::time::sleep(then.pause).await;
        if !then.is_shut_out {
            return Err(NotSignedIn::Wrong);
        }
        maillog::shut_out(&endpoint.name, &peer, then.failures, limits.shut_out);
        Err(shut_out(limits.shut_out.as_secs(), true))
    }

    /// What the log says of a failed sign-in; the client is not told.
    fn why_not(&self, endpoint: &Endpoint, name: &str) -> &'static str {
        match self.settings.load().users.get(name) {
            None => "there is no such user",
            Some(user) if user.hash.is_none() => "the user has no password",
            Some(_) if !endpoint.admits(name) => "not among the `users` of this listener",
            Some(_) => "wrong password",
        }
    }
}
