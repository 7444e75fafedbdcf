//! Sign-ins that have begun and not ended. The browser keeps each one in a cookie that only this process can read,
//! so strangers who begin sign-ins take no memory here.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use chacha20poly1305::aead::{Aead, Generate, Key, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use openidconnect::{Nonce, PkceCodeVerifier};
use serde::{Deserialize, Serialize};

use crate::base::Timestamp;
use crate::web::sessions::make_room;

/// The time that a person may take at the provider's pages.
pub(super) const LIFE: Duration = Duration::from_secs(600);

/// The maximum number of ended sign-ins that are remembered. Each took a request to the provider.
const MOST: usize = 1_024;

/// The octets of a nonce of XChaCha20-Poly1305.
const NONCE: usize = 24;

/// What a sign-in's end must fit.
#[derive(Serialize, Deserialize)]
pub(super) struct SignIn {
    /// The value that comes back with the browser (RFC 6749 §10.12).
    pub(super) state: String,
    /// The value that the ID token must repeat (OpenID Connect Core §3.1.2.1).
    pub(super) nonce: Nonce,
    /// The secret that the code is exchanged with (RFC 7636 §4.1).
    pub(super) verifier: PkceCodeVerifier,
    /// The time at which the sign-in is no longer valid.
    pub(super) until: Timestamp,
}

/// The key of the cookies, and the sign-ins that have ended.
pub(super) struct Pending {
    cipher: XChaCha20Poly1305,
    ended: Mutex<HashMap<String, Timestamp>>,
}

impl Default for Pending {
    fn default() -> Self {
        Self {
            cipher: XChaCha20Poly1305::new(&Key::<XChaCha20Poly1305>::generate()),
            ended: Mutex::default(),
        }
    }
}

impl Pending {
    /// Returns the cookie's value for a sign-in.
    pub(super) fn seal(&self, sign_in: &SignIn) -> String {
        let nonce = XNonce::generate();
        let clear = serde_json::to_vec(sign_in).expect("texts and a number");
        let sealed = self.cipher.encrypt(&nonce, clear.as_slice());
        let sealed = sealed.expect("shorter than 256 GB");
        BASE64.encode([nonce.as_slice(), &sealed].concat())
    }

    /// Returns the sign-in of a cookie if the browser came back with its `state`. Each sign-in can end only once, and
    /// not too late.
    pub(super) fn take(&self, cookie: &str, state: &str, now: Timestamp) -> Option<SignIn> {
        let octets = BASE64.decode(cookie).ok()?;
        let (nonce, sealed) = octets.split_at_checked(NONCE)?;
        let nonce = XNonce::try_from(nonce).ok()?;
        let clear = self.cipher.decrypt(&nonce, sealed).ok()?;
        let sign_in: SignIn = serde_json::from_slice(&clear).ok()?;
        if sign_in.state != state || now >= sign_in.until {
            return None;
        }
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        make_room(&mut ended, MOST, now, |until| *until);
        let is_first = ended.insert(state.to_owned(), sign_in.until).is_none();
        is_first.then_some(sign_in)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn sign_in(state: &str) -> SignIn {
        SignIn {
            state: state.into(),
            nonce: Nonce::new("n".into()),
            verifier: PkceCodeVerifier::new("v".into()),
            until: NOW.after(LIFE),
        }
    }

    #[test]
    fn a_sign_in_ends_once_and_in_time() {
        let pending = Pending::default();
        let (a, b) = (pending.seal(&sign_in("a")), pending.seal(&sign_in("b")));
        assert!(pending.take(&a, "b", NOW).is_none());
        assert_eq!(pending.take(&a, "a", NOW).unwrap().verifier.secret(), "v");
        assert!(pending.take(&a, "a", NOW).is_none());
        assert!(pending.take(&b, "b", NOW.after(LIFE)).is_none());
    }

    #[test]
    fn only_our_own_cookie_is_read() {
        let pending = Pending::default();
        let cookie = pending.seal(&sign_in("a"));
        assert!(!cookie.contains("verifier"));
        assert!(Pending::default().take(&cookie, "a", NOW).is_none());
        for wrong in ["", "a", "!", &cookie[1..], &cookie[..cookie.len() - 2]] {
            assert!(pending.take(wrong, "a", NOW).is_none(), "{wrong}");
        }
    }

    #[test]
    fn the_memory_of_ended_ones_has_a_bound() {
        let pending = Pending::default();
        for number in 0..MOST + 100 {
            let state = number.to_string();
            let cookie = pending.seal(&sign_in(&state));
            assert!(pending.take(&cookie, &state, NOW).is_some());
        }
        assert_eq!(pending.ended.lock().unwrap().len(), MOST);
    }
}
