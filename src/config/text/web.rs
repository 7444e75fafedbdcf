//! The tables about people: the web page, who may log in to it, and who is told of alerts.

use std::net::SocketAddr;

use serde::Deserialize;
use toml::Spanned;
use url::Url;

use crate::alerts::WebhookForm;
use crate::config::secret::SecretText;
use crate::operator::Role;

/// A web page that shows how mail flows, the servers with their limits and tokens, and all messages with their
/// stories. Without this table there is no page. `mailferry web` prints a link to it. `/metrics`, `/healthz` and
/// `/readyz` need no login. Changes need a restart.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebTable {
    /// The page's own address: on loopback, unless `proxy` is set or there is a certificate.
    pub address: Spanned<SocketAddr>,
    /// The page's address for browsers, if a proxy with TLS is in front of the page.
    pub external_url: Option<Spanned<Url>>,
    /// `true`: the page may listen on other addresses than loopback, because a proxy with TLS is in front of it.
    #[serde(default)]
    pub proxy: bool,
    /// The certificate (a PEM file) with which the page itself uses TLS.
    pub certificate: Option<Spanned<String>>,
    /// The key of the certificate (a PEM file).
    pub key: Option<Spanned<String>>,
    #[serde(default)]
    pub user: Vec<PersonTable>,
    pub oidc: Option<Spanned<OidcTable>>,
}

/// People sign in to the page at Entra ID or another OpenID provider. It needs `external_url`, and in the app's
/// registration the platform "Web" with the redirect URI `https://HOST/log-in/return`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OidcTable {
    /// The provider's issuer, such as `https://login.microsoftonline.com/TENANT-ID/v2.0`.
    pub issuer: Spanned<String>,
    /// The "Application (client) ID".
    pub client_id: Spanned<String>,
    /// The client secret, if the registration has one.
    pub client_secret: Option<Spanned<SecretText>>,
    /// The claim of the ID token that the two lists are compared with: `oid` is the user's object id, `roles` are app
    /// roles. Other providers need this key: `sub`, `email` (counts only if it is verified), or one such as `groups`.
    /// Default: `preferred_username` at Entra ID.
    pub claim: Option<Spanned<String>>,
    /// The people who may do everything.
    #[serde(default)]
    pub administrators: Vec<String>,
    /// The people who may read everything except the content of messages.
    #[serde(default)]
    pub readers: Vec<String>,
}

/// A person who may log in to the page with a password. A reload takes changes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PersonTable {
    /// The name to log in with.
    pub name: Spanned<String>,
    /// The hash of the password, made by `mailferry hash-password`.
    pub password: Spanned<SecretText>,
    /// The person's rights.
    #[serde(default)]
    pub role: Role,
}

/// A way to tell people that something needs them: by `url` or `secret_url`, by `command`, or by `mail`.
/// `mailferry test --alert NAME` tries it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AlertTable {
    /// The name, for logs and `mailferry test --alert`.
    pub name: Spanned<String>,
    /// A webhook.
    pub url: Option<Spanned<String>>,
    /// A webhook whose address is a secret.
    pub secret_url: Option<Spanned<SecretText>>,
    /// The format that the webhook takes. Default: `"json"`.
    pub form: Option<Spanned<WebhookForm>>,
    /// A program with its arguments. It gets `MAILFERRY_ALERT_TITLE`, `MAILFERRY_ALERT_TEXT` and
    /// `MAILFERRY_ALERT_STATUS`, and JSON on standard input.
    pub command: Option<Spanned<Vec<String>>>,
    /// The recipient of a mail.
    pub mail: Option<Spanned<String>>,
    /// The servers that send the mail; the server that the alert is about is tried last. Default: all.
    pub servers: Option<Vec<Spanned<String>>>,
}
