//! The configuration of one account at one provider.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use url::Url;

use super::credential::Credential;
use crate::base::Secret;
use crate::base::secret::ExposeSecret;

/// How a server gets its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grant {
    /// A token of the app itself (RFC 6749 §4.4): one for all mailboxes that the app may send as.
    ClientCredentials,
    /// A token of a user who signs in with a browser (RFC 6749 §4.1, with PKCE, RFC 7636).
    AuthorizationCode,
    /// A token of a user who signs in on another device (RFC 8628).
    DeviceCode,
    /// A token of a user, by means of a refresh token that another tool obtained (RFC 6749 §6).
    RefreshToken,
}

impl Grant {
    /// True if a user signs in, so that there is a refresh token.
    pub fn is_by_user(self) -> bool {
        self != Self::ClientCredentials
    }
}

/// The endpoints of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// The endpoint for tokens.
    pub token: Url,
    /// The endpoint for the browser. If there is none, nobody can sign in with a browser.
    pub authorize: Option<Url>,
    /// The endpoint for device codes. If there is none, nobody can sign in with a device code.
    pub device: Option<Url>,
}

/// The scopes of an account (RFC 6749 §3.3).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scopes {
    /// The scopes for sending.
    pub sending: Vec<String>,
    /// The scopes for reading. A person may not have consented to them yet.
    pub reading: Vec<String>,
    /// The scopes that every request has.
    pub common: Vec<String>,
}

impl Scopes {
    /// Returns scopes that every request has.
    pub(crate) fn of(common: Vec<String>) -> Self {
        Self {
            common,
            ..Self::default()
        }
    }

    /// Returns all scopes; a sign-in asks for consent to them.
    pub fn all(&self) -> impl Iterator<Item = &String> {
        self.sending.iter().chain(&self.reading).chain(&self.common)
    }

    /// Returns all scopes, or those without reading.
    pub(super) fn requested(&self, with_reading: bool) -> impl Iterator<Item = &String> {
        let reading = self.reading.iter().filter(move |_| with_reading);
        self.sending.iter().chain(reading).chain(&self.common)
    }

    /// Returns the scopes for reading that may be refused while sending goes on, in one text. `None` if there
    /// are none.
    pub(super) fn added(&self) -> Option<String> {
        let is_added = !self.sending.is_empty() && !self.reading.is_empty();
        is_added.then(|| self.reading.join(" "))
    }

    /// Adds the scopes of another server that shares the account.
    pub(crate) fn join(&mut self, other: &Self) {
        for (own, other) in [
            (&mut self.sending, &other.sending),
            (&mut self.reading, &other.reading),
        ] {
            let new = other.iter().filter(|scope| !own.contains(scope));
            let new: Vec<String> = new.cloned().collect();
            own.extend(new);
        }
    }
}

/// The settings of an account: where its tokens come from.
#[derive(Debug, Clone)]
pub struct AccountSettings {
    /// The account's name in the vault. For client credentials it is the app registration, which all its
    /// servers share; otherwise it is the app registration and the user who signs in.
    pub account: String,
    /// The server to name in remedies; if several share the account, the first.
    pub server: String,
    /// The app registration's name in the configuration, for error texts.
    pub oauth: String,
    /// The provider's endpoints.
    pub endpoints: Endpoints,
    /// The app's id.
    pub client_id: String,
    /// The credential that authenticates the app.
    pub credential: Credential,
    /// The scopes to request.
    pub scopes: Scopes,
    /// The grant to use.
    pub grant: Grant,
    /// The user who must sign in; `None` for client credentials.
    pub user: Option<String>,
    /// The URL that the browser is sent to after the sign-in; port 0 means any free port.
    pub redirect: Url,
    /// The refresh token from the configuration, if it has one.
    pub refresh_token: Option<Secret>,
    /// Root certificates in addition to the system's.
    pub roots: Vec<CertificateDer<'static>>,
    /// The TLS client configuration that trusts these roots.
    pub tls: Arc<ClientConfig>,
}

impl AccountSettings {
    /// Returns a digest of the endpoint, client id and scopes (without the scopes that were only added for
    /// reading, so that adding them disturbs no sending). An access token that was requested with other
    /// values is of no use.
    pub(super) fn request_digest(&self) -> String {
        let Self {
            endpoints,
            client_id,
            scopes,
            ..
        } = self;
        digest_of(&format!(
            "{} {client_id} {}",
            endpoints.token,
            scopes
                .requested(scopes.added().is_none())
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(" ")
        ))
    }

    /// True if all settings are equal.
    pub fn is_same(&self, other: &Self) -> bool {
        self.scopes == other.scopes && self.is_same_account(other)
    }

    /// True if all settings are equal except the scopes, which servers that share an account add up.
    pub(crate) fn is_same_account(&self, other: &Self) -> bool {
        let exposed = |settings: &Self| {
            let token = settings.refresh_token.as_ref();
            token.map(|token| digest_of(token.expose_secret()))
        };
        self.account == other.account
            && self.server == other.server
            && self.oauth == other.oauth
            && self.endpoints == other.endpoints
            && self.client_id == other.client_id
            && self.credential == other.credential
            && self.scopes.common == other.scopes.common
            && self.grant == other.grant
            && self.user == other.user
            && self.redirect == other.redirect
            && self.roots == other.roots
            && exposed(self) == exposed(other)
    }
}

/// Returns a digest that identifies a text without revealing it.
pub(crate) fn digest_of(text: &str) -> String {
    BASE64_STANDARD.encode(digest(&SHA256, text.as_bytes()))
}
