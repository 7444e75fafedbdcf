//! Sign-ins that have begun and not ended. Pure: the owner locks them.

use std::collections::HashMap;
use std::time::Duration;

use openidconnect::{Nonce, PkceCodeVerifier};

use crate::base::Timestamp;
use crate::web::sessions::make_room;

/// The time that a person may take at the provider's pages.
pub(super) const LIFE: Duration = Duration::from_secs(600);

/// The maximum number of sign-ins at the same time. The oldest one is removed to make room. Anybody who reaches
/// the page can begin one.
const MOST: usize = 1_024;

/// What a sign-in's end must fit.
pub(super) struct SignIn {
    /// The value that the ID token must repeat (OpenID Connect Core §3.1.2.1).
    pub(super) nonce: Nonce,
    /// The secret that the code is exchanged with (RFC 7636 §4.1).
    pub(super) verifier: PkceCodeVerifier,
}

/// The sign-ins, by `state` (RFC 6749 §10.12).
#[derive(Default)]
pub(super) struct Pending(HashMap<String, (SignIn, Timestamp)>);

impl Pending {
    /// Adds a sign-in that begins now.
    pub(super) fn add(&mut self, state: String, sign_in: SignIn, now: Timestamp) {
        make_room(&mut self.0, MOST, now, |(_, until)| *until);
        self.0.insert(state, (sign_in, now.after(LIFE)));
    }

    /// Removes and returns a sign-in. Each can end only once, and not too late.
    pub(super) fn take(&mut self, state: &str, now: Timestamp) -> Option<SignIn> {
        let (sign_in, until) = self.0.remove(state)?;
        (now < until).then_some(sign_in)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn sign_in() -> SignIn {
        SignIn {
            nonce: Nonce::new("n".into()),
            verifier: PkceCodeVerifier::new("v".into()),
        }
    }

    #[test]
    fn a_sign_in_ends_once_and_in_time() {
        let mut pending = Pending::default();
        pending.add("a".into(), sign_in(), NOW);
        pending.add("b".into(), sign_in(), NOW);
        assert!(pending.take("c", NOW).is_none());
        assert!(pending.take("a", NOW).is_some());
        assert!(pending.take("a", NOW).is_none());
        assert!(pending.take("b", NOW.after(LIFE)).is_none());
    }

    #[test]
    fn strangers_cannot_begin_without_end() {
        let mut pending = Pending::default();
        for number in 0..2_000 {
            let at = NOW.after(Duration::from_millis(number));
            pending.add(number.to_string(), sign_in(), at);
        }
        assert_eq!(pending.0.len(), MOST);
        assert!(pending.take("0", NOW).is_none() && pending.take("1999", NOW).is_some());
    }
}
