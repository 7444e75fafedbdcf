//! A browser sign-in in progress (RFC 6749 §4.1, RFC 7636), and its result.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use url::Url;
use zeroize::Zeroizing;

use super::error::TokenError;
use super::flow;
use super::settings::AccountSettings;
use crate::base::Timestamp;

/// The time that a person has to sign in; Entra's own pages expire after about the same time.
pub(crate) const TIME: Duration = Duration::from_secs(600);

/// The person who signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedIn {
    /// The account, if the provider named it.
    pub user: Option<String>,
}

/// A sign-in in progress: single-use, bound to its request, short-lived.
pub struct Begun {
    /// The URL to open in the browser.
    pub url: Url,
    /// The value that comes back with the code, so that no other request can complete this sign-in
    /// (RFC 6749 §10.12).
    pub state: String,
    pub(super) verifier: Zeroizing<String>,
    pub(super) redirect: Url,
    until: Timestamp,
}

/// The reason why a sign-in failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SignInError {
    /// The provider issued no tokens.
    #[error(transparent)]
    Token(TokenError),
    /// The person or the provider declined.
    #[error("the sign-in was refused: {0}")]
    Refused(String),
    /// Somebody else signed in.
    #[error(
        "{user} signed in, but server {server} signs in as {expected}: sign in as {expected}; or, if {user} may send as {expected}, set the server's `account` to {user}, or run `mailferry connect {server} --any-account`"
    )]
    OtherAccount {
        /// The account that signed in.
        user: String,
        /// The account that should sign in.
        expected: String,
        /// The server.
        server: String,
    },
    /// The provider issued no refresh token, so the sign-in would last only as long as its access token.
    #[error(
        "the provider gave no refresh token: add `offline_access` to the scopes of [oauth.{oauth}]"
    )]
    NoRefreshToken {
        /// The app registration's name in the configuration.
        oauth: String,
    },
    /// The sign-in was not completed in time.
    #[error("nobody signed in within {} minutes; start again", TIME.as_secs() / 60)]
    TooLate,
}

/// The provider's error codes for a person who declined (RFC 6749 §4.1.2.1, RFC 8628 §3.5, Entra's own), and
/// the one for a person who took too long.
const DECLINED: [&str; 2] = ["access_denied", "authorization_declined"];
const EXPIRED: &str = "expired_token";

impl From<TokenError> for SignInError {
    fn from(error: TokenError) -> Self {
        let said = match &error {
            TokenError::Refused { refusal, .. } | TokenError::SignIn { refusal, .. } => refusal,
            _ => return Self::Token(error),
        };
        match said.error.as_str() {
            EXPIRED => Self::TooLate,
            code if DECLINED.contains(&code) => Self::Refused(said.to_string()),
            _ => Self::Token(error),
        }
    }
}

impl Begun {
    /// Begins a sign-in; `state` and `verifier` are random. Returns `None` if the provider has no
    /// endpoint for it.
    pub(super) fn new(
        settings: &AccountSettings,
        redirect: Url,
        now: Timestamp,
        state: [u8; 24],
        verifier: [u8; 32],
    ) -> Option<Self> {
        let state = BASE64_URL_SAFE_NO_PAD.encode(state);
        // RFC 7636 §4.1: at least 43 characters.
        let verifier = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(verifier));
        Some(Self {
            url: flow::authorize_url(settings, &redirect, &state, &verifier)?,
            state,
            verifier,
            redirect,
            until: now.after(TIME),
        })
    }

    /// True if it is too late to finish the sign-in.
    pub fn is_over(&self, now: Timestamp) -> bool {
        now >= self.until
    }
}
