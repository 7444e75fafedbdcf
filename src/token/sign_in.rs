//! A sign-in under way with a browser (RFC 6749 §4.1, RFC 7636), and how it ends.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use url::Url;
use zeroize::Zeroizing;

use super::error::TokenError;
use super::flow;
use super::settings::AccountSettings;
use crate::base::Timestamp;

/// How long a person may take; Entra's own pages give up after about as long.
pub(crate) const TIME: Duration = Duration::from_secs(600);

/// Who signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedIn {
    /// The account, where the provider said.
    pub user: Option<String>,
}

/// A sign-in under way: single-use, bound to its request, short-lived.
pub struct Begun {
    /// Where the browser goes.
    pub url: Url,
    /// What comes back with the code, so that no other request can end this one (RFC 6749 §10.12).
    pub state: String,
    pub(super) verifier: Zeroizing<String>,
    pub(super) redirect: Url,
    until: Timestamp,
}

/// Why nobody is signed in.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SignInError {
    /// The provider gave no tokens.
    #[error(transparent)]
    Token(TokenError),
    /// The person, or the provider, said no.
    #[error("the sign-in was refused: {0}")]
    Refused(String),
    /// Somebody else signed in.
    #[error(
        "{user} signed in, but server {server} signs in as {expected}: sign in as {expected}; or, where {user} may send as {expected}, set the server's `account` to {user}, or run `mailferry connect {server} --any-account`"
    )]
    OtherAccount {
        /// Who did.
        user: String,
        /// Who should.
        expected: String,
        /// The server.
        server: String,
    },
    /// The sign-in would end with the first access token.
    #[error(
        "the provider gave no refresh token: add `offline_access` to the scopes of [oauth.{oauth}]"
    )]
    NoRefreshToken {
        /// The app registration's name in the configuration.
        oauth: String,
    },
    /// Nothing came back in time.
    #[error("nobody signed in within {} minutes; begin anew", TIME.as_secs() / 60)]
    TooLate,
}

/// What the provider says where the person said no (RFC 6749 §4.1.2.1, RFC 8628 §3.5, Entra's own),
/// and where the person took too long.
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
    /// Begins one; `state` and `verifier` are random. None where the provider has no endpoint for it.
    pub(super) fn new(
        settings: &AccountSettings,
        redirect: Url,
        now: Timestamp,
        state: [u8; 24],
        verifier: [u8; 32],
    ) -> Option<Self> {
        let state = BASE64_URL_SAFE_NO_PAD.encode(state);
        // RFC 7636 §4.1: 43 characters at least.
        let verifier = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(verifier));
        Some(Self {
            url: flow::authorize_url(settings, &redirect, &state, &verifier)?,
            state,
            verifier,
            redirect,
            until: now.after(TIME),
        })
    }

    /// Whether it is too late to end it.
    pub fn is_over(&self, now: Timestamp) -> bool {
        now >= self.until
    }
}
