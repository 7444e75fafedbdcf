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
    pub scopes: Vec<String>,
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
    /// Returns a digest of the endpoint, client id and scopes. An access token that was requested with other
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
            scopes.join(" ")
        ))
    }

    /// True if all settings are equal.
    pub fn is_same(&self, other: &Self) -> bool {
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
            && self.scopes == other.scopes
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
