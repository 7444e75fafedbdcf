//! The state of an account's tokens, and its changes. Pure.
//!
//! ```text
//!            signed_in / configure                granted
//! Empty ───────────────────────────▶ Connected ────────────▶ Active ─┐ granted
//!   ▲                                    ▲                    │  ▲───┘
//!   └──────────── forget ────────────────┴──── access ends ───┘
//! ```
//! Invariants: every change of the tokens makes a new generation, and a response to a request from an older
//! generation changes nothing. No failure removes a refresh token. A replaced refresh token becomes the
//! fallback, with two exceptions: if another person signs in, it is dropped; and if a new token is
//! configured, a replaced token that never worked does not displace the fallback.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::base::{Secret, Timestamp};

/// An access token is handed out only if it has at least this much time left (`token/entra.md`: access tokens
/// live 60 to 90 minutes). A token that lives for less than twice this time is used for half its life.
pub(crate) const MARGIN: Duration = Duration::from_secs(600);

/// The maximum lead of a background renewal: a token in use is renewed up to this long before it reaches
/// [`MARGIN`]. Each account uses a random part of the lead, so that accounts do not all renew at once.
pub(crate) const AHEAD: Duration = Duration::from_secs(300);

/// An account that was used within this time always has a token ready, so that a daily job finds one.
pub(crate) const IN_USE: Duration = Duration::from_secs(26 * 3_600);

/// A refresh token that was not used for this long is used once to keep it alive; otherwise it would
/// expire after 90 days (`token/entra.md`).
pub(crate) const EXERCISE: Duration = Duration::from_secs(30 * 24 * 3_600);

/// The assumed life of an access token if the response does not state it (RFC 6749 §5.1 leaves it open).
pub(crate) const LIFE_UNSAID: Duration = Duration::from_secs(1_200);

/// An access token.
#[derive(Debug)]
pub struct Access {
    /// The token that is sent upstream.
    pub token: Secret,
    /// The time at which the token was issued.
    pub issued: Timestamp,
    /// The time at which the token expires.
    pub expires: Timestamp,
    /// The account's generation when the token arrived. It shows whether a rejection was of this token or of
    /// an older one.
    pub generation: u64,
    /// The scopes for reading that the token has, in one text; `None` if it is only for sending.
    pub reading: Option<String>,
}

impl Access {
    /// True if the token may be handed out: enough of its life remains for a delivery to finish.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        now < self.stale_at()
    }

    /// True if the upstream still accepts the token.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        now < self.expires
    }

    fn stale_at(&self) -> Timestamp {
        let margin = MARGIN.min(self.expires.since(self.issued) / 2);
        Timestamp(self.expires.0 - margin.as_millis() as i64)
    }
}

/// How a refresh token was obtained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenOrigin {
    /// Somebody signed in with a browser.
    Browser,
    /// Somebody signed in on another device.
    Device,
    /// The token is in the configuration.
    Configuration,
}

/// A refresh token.
#[derive(Clone, PartialEq)]
pub struct Refresh {
    /// The text that is sent to the token endpoint.
    pub token: Zeroizing<String>,
    /// The time at which the token arrived or was last used; its 90 days count from then.
    pub since: Timestamp,
    /// True if the provider issued the token, or accepted it at least once. A token that was only
    /// configured may be any text.
    pub is_proven: bool,
}

/// An account's tokens. Their texts are wiped from memory when dropped.
#[derive(Clone, Default, PartialEq)]
pub struct Account {
    /// A number that grows with every change of the tokens.
    pub generation: u64,
    /// The refresh token to use.
    pub refresh: Option<Refresh>,
    /// The previous refresh token, in case the newer one did not arrive intact.
    pub previous: Option<Refresh>,
    /// How the first refresh token was obtained.
    pub origin: Option<TokenOrigin>,
    /// The user who signed in, if the provider named one.
    pub user: Option<String>,
    /// A digest of the configured refresh token that `refresh` was derived from, so that a newly
    /// configured one takes precedence over the stored one.
    pub configured: Option<String>,
    /// A digest of the request (endpoint, client id, scopes) that obtained `access`. If the request
    /// changes, `access` is of no use.
    pub request: Option<String>,
    /// The last access token: its text, time of issue and expiry.
    pub access: Option<(Zeroizing<String>, Timestamp, Timestamp)>,
    /// The reason why there is no newer token, if the problem does not pass by itself.
    pub trouble: Option<String>,
    /// The scopes for reading that `access` has, in one text; `None` if it is only for sending.
    pub reading: Option<String>,
    /// The scopes for reading that the provider refused because nobody consented to them. They are not
    /// requested again before a sign-in.
    pub reading_refused: Option<String>,
}

/// The tokens that a token endpoint granted, as the state needs them.
#[derive(Clone)]
pub struct Grants {
    /// The access token.
    pub access: Zeroizing<String>,
    /// The refresh token, if one arrived.
    pub refresh: Option<Zeroizing<String>>,
    /// The life of the access token, if the response stated it.
    pub expires_in: Option<Duration>,
    /// The scopes for reading, if they were requested and granted or refused.
    pub reading: Reading,
}

/// The scopes for reading in a request for tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Reading {
    /// None were requested.
    #[default]
    NotRequested,
    /// These were granted.
    Granted(String),
    /// These were refused; the tokens are for sending.
    Refused(String),
}

impl Account {
    /// Returns the refresh tokens in the order to try them.
    pub fn refresh_tokens(&self) -> Vec<Zeroizing<String>> {
        let both = self.refresh.iter().chain(&self.previous);
        both.map(|refresh| refresh.token.clone()).collect()
    }

    /// Applies the response to a request that was made in generation `asked` with the refresh token `used`.
    /// Returns false if the response was too old and changed nothing.
    pub fn granted(
        &mut self,
        asked: u64,
        used: Option<&Zeroizing<String>>,
        grants: Grants,
        now: Timestamp,
    ) -> bool {
        if asked != self.generation {
            return false;
        }
        if let Some(used) = used {
            let new = grants.refresh.clone().unwrap_or_else(|| used.clone());
            self.rotate(used, new, now);
        }
        self.hold(grants, now);
        true
    }

    /// Records a sign-in: the new tokens replace all others. The old refresh token becomes the fallback
    /// only if it belongs to the same person.
    pub fn signed_in(
        &mut self,
        user: Option<String>,
        origin: TokenOrigin,
        grants: Grants,
        now: Timestamp,
    ) {
        let same = user.is_some() && user == self.user;
        let old = self.refresh.take();
        self.previous = old.filter(|_| same);
        let token = grants.refresh.clone();
        self.reading_refused = None;
        self.refresh = token.map(|token| Refresh {
            token,
            since: now,
            is_proven: true,
        });
        (self.user, self.origin) = (user, Some(origin));
        self.hold(grants, now);
    }

    /// Applies the configured refresh token; `digest` is its digest. If the token differs from the one
    /// configured before, it becomes the token to use, and the last token that worked becomes the fallback.
    pub fn configure(&mut self, token: Zeroizing<String>, digest: String, now: Timestamp) {
        if self.configured.as_ref() == Some(&digest) {
            return;
        }
        let old = self.refresh.take();
        if old.as_ref().is_some_and(|old| old.is_proven) || self.previous.is_none() {
            self.previous = old;
        }
        self.refresh = Some(Refresh {
            token,
            since: now,
            is_proven: false,
        });
        self.origin = Some(TokenOrigin::Configuration);
        self.configured = Some(digest);
        self.access = None;
        self.reading_refused = None;
        self.trouble = None;
        self.generation += 1;
    }

    /// Records the digest of the request for tokens. If it has changed, the access token is dropped, because
    /// it was obtained with a different request.
    pub fn ask_for(&mut self, request: String) {
        if self.request.as_ref() != Some(&request) {
            self.access = None;
            self.request = Some(request);
            self.generation += 1;
        }
    }

    /// Records that a request made in generation `asked` was refused with this message. No token changes.
    /// Returns true if the message is new.
    pub fn refused(&mut self, asked: u64, words: &str) -> bool {
        let is_new = asked == self.generation && self.trouble.as_deref() != Some(words);
        if is_new {
            self.trouble = Some(words.to_owned());
        }
        is_new
    }

    /// Removes all tokens: nobody is signed in any more. The digest of the configured token stays, so
    /// that the token in the configuration does not come back by itself.
    pub fn forget(&mut self) {
        *self = Self {
            generation: self.generation + 1,
            configured: self.configured.take(),
            request: self.request.take(),
            ..Self::default()
        };
    }

    /// Returns the last access token, even if it has expired.
    pub fn access(&self) -> Option<Access> {
        let (token, issued, expires) = self.access.as_ref()?;
        Some(Access {
            token: token.as_str().to_owned().into(),
            issued: *issued,
            expires: *expires,
            generation: self.generation,
            reading: self.reading.clone(),
        })
    }

    /// Returns the time of the next background renewal. While the account is in use, the renewal comes before
    /// a new access token is needed; otherwise it only keeps the refresh token from expiring. `share`, from 0
    /// to 1, is the part of `AHEAD` that this account uses.
    pub fn tend_at(
        &self,
        last_used: Option<Timestamp>,
        now: Timestamp,
        share: f64,
    ) -> Option<Timestamp> {
        let in_use = last_used.is_some_and(|at| now.since(at) < IN_USE);
        match (self.access(), &self.refresh) {
            (Some(access), _) if in_use => {
                let ahead = AHEAD
                    .min(access.expires.since(access.issued) / 8)
                    .mul_f64(share);
                Some(Timestamp(access.stale_at().0 - ahead.as_millis() as i64))
            }
            (_, Some(refresh)) => Some(refresh.since.after(EXERCISE + AHEAD.mul_f64(share))),
            _ => None,
        }
    }

    /// Makes `new` the current refresh token, and `used` the fallback.
    fn rotate(&mut self, used: &Zeroizing<String>, new: Zeroizing<String>, now: Timestamp) {
        let of_used = self
            .refresh
            .iter()
            .chain(&self.previous)
            .find(|refresh| refresh.token == *used);
        let since = of_used.map_or(now, |refresh| refresh.since);
        let is_proven = true;
        if new != *used {
            let token = used.clone();
            self.previous = Some(Refresh {
                token,
                since,
                is_proven,
            });
        }
        self.refresh = Some(Refresh {
            token: new,
            since: now,
            is_proven,
        });
    }

    fn hold(&mut self, grants: Grants, now: Timestamp) {
        let expires = now.after(grants.expires_in.unwrap_or(LIFE_UNSAID));
        self.access = Some((grants.access, now, expires));
        self.reading = None;
        match grants.reading {
            Reading::NotRequested => {}
            Reading::Granted(scopes) => self.reading = Some(scopes),
            Reading::Refused(scopes) => self.reading_refused = Some(scopes),
        }
        self.trouble = None;
        self.generation += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn text(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    fn grants(access: &str, refresh: Option<&str>, life: Duration) -> Grants {
        Grants {
            access: text(access),
            refresh: refresh.map(text),
            expires_in: Some(life),
            reading: Reading::NotRequested,
        }
    }

    fn connected() -> Account {
        let mut account = Account::default();
        account.signed_in(
            Some("a@b.c".into()),
            TokenOrigin::Browser,
            grants("a0", Some("r0"), HOUR),
            Timestamp(0),
        );
        account
    }

    #[test]
    fn ten_minutes_must_remain() {
        let hour = connected().access().unwrap();
        assert!(hour.is_fresh(Timestamp(2_999_000)) && !hour.is_fresh(Timestamp(3_000_000)));
        assert!(hour.is_valid(Timestamp(3_599_000)) && !hour.is_valid(Timestamp(3_600_000)));
        let mut account = Account::default();
        account.granted(
            0,
            None,
            grants("a", None, Duration::from_secs(60)),
            Timestamp(0),
        );
        let short = account.access().unwrap();
        assert!(short.is_fresh(Timestamp(29_000)) && !short.is_fresh(Timestamp(30_000)));
    }

    #[test]
    fn a_newly_configured_token_wins_once() {
        let mut account = Account::default();
        account.configure(text("c1"), "d1".into(), Timestamp(0));
        let asked = account.generation;
        account.granted(
            asked,
            Some(&text("c1")),
            grants("a", Some("r1"), HOUR),
            Timestamp(1),
        );
        account.configure(text("c1"), "d1".into(), Timestamp(2));
        assert_eq!(account.refresh_tokens(), [text("r1"), text("c1")]);
        account.configure(text("c2"), "d2".into(), Timestamp(3));
        assert_eq!(account.refresh_tokens(), [text("c2"), text("r1")]);
        assert!(account.access.is_none());
    }

    #[test]
    fn another_person_leaves_no_fallback_of_the_one_before() {
        let mut account = connected();
        account.signed_in(
            Some("x@y.z".into()),
            TokenOrigin::Device,
            grants("a", Some("r"), HOUR),
            Timestamp(1),
        );
        assert_eq!(account.refresh_tokens(), [text("r")]);
        account.forget();
        assert!(account.refresh_tokens().is_empty() && account.access().is_none());
    }

    #[test]
    fn is_renewed_ahead_while_in_use_and_exercised_when_not() {
        let account = connected();
        let now = Timestamp(60_000);
        assert_eq!(
            account.tend_at(Some(now), now, 0.0),
            Some(Timestamp(3_000_000))
        );
        assert_eq!(
            account.tend_at(Some(now), now, 1.0),
            Some(Timestamp(2_700_000))
        );
        assert_eq!(
            account.tend_at(None, now, 0.0),
            Some(Timestamp(0).after(EXERCISE))
        );
        let long_ago = now.after(IN_USE);
        assert_eq!(
            account.tend_at(Some(now), long_ago, 0.0),
            Some(Timestamp(0).after(EXERCISE))
        );
        let mut used = connected();
        let generation = used.generation;
        used.granted(
            generation,
            Some(&text("r0")),
            grants("a", None, HOUR),
            long_ago,
        );
        assert_eq!(
            used.tend_at(None, long_ago, 0.0),
            Some(long_ago.after(EXERCISE)),
            "a provider that does not rotate"
        );
        assert_eq!(Account::default().tend_at(Some(now), now, 0.5), None);
    }
}
