//! One account at one provider, as it is configured.

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
    /// The app's own (RFC 6749 §4.4): one token for all mailboxes that the app may send as.
    ClientCredentials,
    /// A user's, who signs in with a browser (RFC 6749 §4.1, with PKCE, RFC 7636).
    AuthorizationCode,
    /// A user's, who signs in on another device (RFC 8628).
    DeviceCode,
    /// A user's, by a refresh token that another tool got (RFC 6749 §6).
    RefreshToken,
}

impl Grant {
    /// Whether a user signs in, so that there is a refresh token.
    pub fn is_by_user(self) -> bool {
        self != Self::ClientCredentials
    }
}

/// Where the provider is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// For tokens.
    pub token: Url,
    /// For the browser; where there is none, nobody can sign in with one.
    pub authorize: Option<Url>,
    /// For device codes; where there is none, nobody can sign in by one.
    pub device: Option<Url>,
}

/// Where tokens come from.
#[derive(Debug, Clone)]
pub struct AccountSettings {
    /// The account's name in the vault: the app registration for client credentials, which all its
    /// servers share, else the app registration and the user who signs in.
    pub account: String,
    /// The server to name in remedies; of several that share the account, the first.
    pub server: String,
    /// The app registration's name in the configuration, for error texts.
    pub oauth: String,
    /// The provider's endpoints.
    pub endpoints: Endpoints,
    /// The app's id.
    pub client_id: String,
    /// What the app proves itself with.
    pub credential: Credential,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// How.
    pub grant: Grant,
    /// Who is to sign in; none for client credentials.
    pub user: Option<String>,
    /// Where the browser is sent after the sign-in; the port 0 stands for any free one.
    pub redirect: Url,
    /// The refresh token to begin with.
    pub refresh_token: Option<Secret>,
    /// Root certificates besides the system's.
    pub roots: Vec<CertificateDer<'static>>,
    /// The client's side of TLS that trusts them.
    pub tls: Arc<ClientConfig>,
}

impl AccountSettings {
    /// What is asked for, and of whom: another request makes an access token worthless.
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

    /// Whether nothing differs.
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

/// Tells one text from another without keeping it in clear.
pub(crate) fn digest_of(text: &str) -> String {
    BASE64_STANDARD.encode(digest(&SHA256, text.as_bytes()))
}
