//! The sign-in of a client by name and password.

use std::net::IpAddr;

use tokio::time::Instant;

use super::endpoint::Endpoint;
use super::shared::Door;
use super::turned_away::TurnedAway;
use crate::base::Secret;
use crate::observe::maillog;

/// The reason why a sign-in failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotSignedIn {
    /// There is no such user here, or the password is wrong. The delay before the reply has already passed.
    Wrong,
    /// The client's address is shut out.
    ShutOut {
        /// The reason.
        why: TurnedAway,
        /// True if the password was checked and this failure has shut the address out.
        is_new: bool,
    },
    /// The password cannot be checked at the moment.
    Unavailable,
}

impl Door {
    /// Succeeds if the password is correct and this listener admits the user. A failed check is logged, and
    /// its result is delayed.
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
        self.refused(&endpoint.name, peer, name, reason);
        tokio::time::sleep(then.pause).await;
        if !then.is_shut_out {
            return Err(NotSignedIn::Wrong);
        }
        maillog::shut_out(&endpoint.name, &peer, then.failures, limits.shut_out);
        Err(shut_out(limits.shut_out.as_secs(), true))
    }

    /// Returns the reason for a failed sign-in, for the log; the client does not receive it.
    fn why_not(&self, endpoint: &Endpoint, name: &str) -> &'static str {
        match self.settings.load().users.get(name) {
            None => "there is no such user",
            Some(user) if user.hash.is_none() => "the user has no password",
            Some(_) if !endpoint.admits(name) => "not among the `users` of this listener",
            Some(_) => "wrong password",
        }
    }
}
