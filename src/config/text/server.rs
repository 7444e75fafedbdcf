//! The tables about upstream accounts: the servers, and the app registrations with which they sign in.

use serde::Deserialize;
use toml::Spanned;
use toml::value::Datetime;
use url::Url;

use super::Protocol;
use crate::base::written::{Wait, some_count, some_positive};
use crate::config::preset::{Cloud, Provider};
use crate::config::secret::SecretText;
use crate::message::Priority;
use crate::token::Grant;
use crate::transport::Tls;

/// An app registration, shared by servers. The app proves its identity by a certificate, a client secret, or an
/// assertion; a public client by none of these.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OAuthTable {
    /// The issuer of the tokens.
    #[serde(default)]
    pub provider: Provider,
    /// The tenant's domain or "Directory (tenant) ID"; Microsoft needs it, unless `token_url` is written. `consumers` is for personal accounts.
    pub tenant: Option<Spanned<String>>,
    /// The "Application (client) ID".
    pub client_id: Spanned<String>,
    /// Microsoft's cloud in which the tenant is.
    #[serde(default)]
    pub cloud: Cloud,
    /// The client secret's value.
    pub client_secret: Option<Spanned<SecretText>>,
    /// The day on which the secret expires, from the Entra admin center; mailferry warns of it.
    pub client_secret_expires: Option<Spanned<Datetime>>,
    /// A secret that is tried if the first one is refused, so that you can replace one without a gap.
    pub second_client_secret: Option<Spanned<SecretText>>,
    /// The day on which the second secret expires.
    pub second_client_secret_expires: Option<Spanned<Datetime>>,
    /// The app's certificate (a PEM file), instead of a client secret.
    pub certificate: Option<Spanned<String>>,
    /// The RSA key of the certificate.
    pub key: Option<Spanned<SecretText>>,
    /// A file in which another program keeps a current assertion (workload identity), instead of a client secret.
    pub assertion_file: Option<String>,
    /// The token endpoint. Default: the provider's.
    pub token_url: Option<Spanned<Url>>,
    /// The authorization endpoint, which the browser opens. Default: the provider's, unless `token_url` is written.
    pub authorize_url: Option<Spanned<Url>>,
    /// The device authorization endpoint. Default: the provider's, unless `token_url` is written.
    pub device_url: Option<Spanned<Url>>,
    /// The URL to which the browser returns after a sign-in, as registered for the app; port 0 is any free port. With
    /// `[web] external_url` it may be on the page's own host. Default: `http://localhost:0/callback`.
    pub redirect: Option<Spanned<Url>>,
    /// The scopes of the tokens. Default: what the servers' `use` needs at the provider.
    pub scopes: Option<Vec<String>>,
    /// Further root certificates (a PEM file) for these endpoints.
    pub ca: Option<Spanned<String>>,
}

/// An account that mail is sent through. The order matters: of the servers that list a sender's address, the first
/// is used; else the first of those that list its domain.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServerTable {
    /// The name, for commands, logs and other keys.
    pub name: Spanned<String>,
    /// The protocols that the server is used for. Default: `["smtp"]`.
    #[serde(rename = "use")]
    pub uses: Option<Spanned<Vec<Protocol>>>,
    /// The host for IMAP. Default: the provider's, with implicit TLS.
    pub imap: Option<RemoteTable>,
    /// The host for POP3. Default: the provider's, with implicit TLS.
    pub pop3: Option<RemoteTable>,
    /// `true`: mailferry reads delivery reports in the mailbox's INBOX; it needs `"imap"` in `use`. Default: `false`.
    #[serde(default)]
    pub bounces: Option<Spanned<bool>>,
    /// The folder to which reports about mailferry's messages are moved.
    pub bounce_folder: Option<Spanned<String>>,
    /// `true`: reports about mailferry's messages are deleted. Default: `false`.
    pub delete_bounces: Option<Spanned<bool>>,
    /// The mailbox that the server signs in as. `{from}` signs in as each sender that `from_filter` admits, each with
    /// its own limits and hold; it needs `grant = "client_credentials"`.
    #[serde(default)]
    pub username: Option<Spanned<String>>,
    /// The person who signs in, for a shared mailbox. Default: `username`.
    pub account: Option<Spanned<String>>,
    /// The address that the server sends as. Default: `username`, if that is an address.
    pub address: Option<Spanned<String>>,
    /// The senders that the server takes: addresses and domains, separated by commas. Default: all that no other server
    /// lists.
    pub from_filter: Option<Spanned<String>>,
    /// The recipients that the server takes: addresses and domains. Default: all.
    pub to_filter: Option<Spanned<String>>,
    /// A kind of account, which sets the host, the limits and `from_filter`.
    pub preset: Option<Spanned<ServerPreset>>,
    /// The name of the `[oauth.NAME]` with which the server signs in.
    pub oauth: Option<Spanned<String>>,
    /// The way to get tokens. Needed with `oauth`.
    pub grant: Option<Spanned<Grant>>,
    /// The refresh token of another tool for the same app: the token alone, JSON that has a `refresh_token`, or an MSAL
    /// cache. For `grant = "refresh_token"`.
    pub refresh_token: Option<Spanned<SecretText>>,
    /// The sign-in method. Default: `"xoauth2"` with `oauth`.
    pub auth: Option<Spanned<AuthMethod>>,
    /// The password, for `"plain"` and `"login"`.
    pub password: Option<Spanned<SecretText>>,
    /// The host. Default: the provider's.
    pub host: Option<Spanned<String>>,
    /// The port. Default: 587, or 465 for implicit TLS.
    pub port: Option<u16>,
    /// The protection of the connection. Default: `"starttls"`.
    pub tls: Option<Spanned<Tls>>,
    /// Further root certificates (a PEM file) for this server.
    pub ca: Option<Spanned<String>>,
    /// The meaning of the reply 250 to the app.
    #[serde(default)]
    pub mode: Mode,
    /// The server that sends this server's mail while this one cannot be reached or refuses the sign-in; never because
    /// of a limit. It ends by itself.
    pub fallback: Option<Spanned<String>>,
    /// The time after which `fallback` begins. Default: `"1h"`.
    pub fallback_after: Option<Wait>,
    /// The mail that `fallback` sends; other mail waits. Default: `["high", "normal"]`.
    pub fallback_priorities: Option<Spanned<Vec<Priority>>>,
    /// Sessions at once with the mailbox. Default: the provider's limit.
    pub sessions: Option<Spanned<usize>>,
    /// Messages a minute; 0: no limit. Default: the provider's limit.
    #[serde(default, deserialize_with = "some_count")]
    pub messages_per_minute: Option<usize>,
    /// Recipients in 24 hours; 0: no limit. Default: the provider's limit.
    pub recipients_per_day: Option<u64>,
    /// Recipients of one transaction; a message with more is sent in several. Default: the provider's limit.
    pub recipients_per_message: Option<Spanned<usize>>,
    /// The largest message that the server takes, in octets. Larger ones are refused, and SIZE in EHLO says so. Default:
    /// `[limits] message_size`.
    #[serde(default, deserialize_with = "some_positive")]
    pub message_size: Option<u64>,
}

/// A kind of account with values of its own (`transport/smtp/exchange_online.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ServerPreset {
    /// An account of Microsoft's High Volume Email: 50 recipients and 10 MB a message, within the tenant only, and no
    /// sender but the account itself.
    HighVolumeEmail,
}

/// The host of a server for a protocol by which mail is read.
#[derive(Debug, Default, Deserialize)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a table, such as { host = \"mail.example.com\", port = 993 }"
)]
pub(crate) struct RemoteTable {
    /// The host. Default: the provider's.
    pub host: Option<Spanned<String>>,
    /// The port. Default: the protocol's.
    pub port: Option<u16>,
    /// The protection of the connection. Default: `"implicit"`.
    pub tls: Option<Spanned<Tls>>,
}

impl ServerTable {
    /// True if the server is an account of High Volume Email.
    pub(crate) fn is_hve(&self) -> bool {
        let preset = self.preset.as_ref().map(|preset| *preset.get_ref());
        preset == Some(ServerPreset::HighVolumeEmail)
    }

    /// True if the server is used for this protocol.
    pub(crate) fn is_for(&self, protocol: Protocol) -> bool {
        match &self.uses {
            Some(uses) => uses.get_ref().contains(&protocol),
            None => protocol == Protocol::Smtp,
        }
    }
}

/// The sign-in method of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AuthMethod {
    /// With a token.
    XOAuth2,
    /// With a password, by AUTH PLAIN.
    Plain,
    /// With a password, by AUTH LOGIN.
    Login,
    /// Not at all.
    None,
}

/// The meaning of the reply 250 to the app.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// mailferry has the message on disk and will deliver it.
    #[default]
    Queued,
    /// The upstream has the message: the app receives the upstream's own reply.
    Direct,
}
