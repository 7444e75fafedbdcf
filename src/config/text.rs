//! The configuration file as written: every table and key, with its type and default. A table that one part
//! of the program uses unchanged is defined in that part. `config/mailferry.toml` shows the same keys with
//! comments.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Deserialize;
use toml::Spanned;
use toml::value::Datetime;
use url::Url;

use super::preset::{Cloud, Provider};
use super::secret::SecretText;
use crate::alerts::{AlertThresholds, WebhookForm};
use crate::base::written::{Network, Wait, some_count, some_positive};
use crate::delivery;
use crate::door;
use crate::message::{Priority, Shown};
use crate::observe::logging::Format;
use crate::operator::Role;
use crate::routing::{Key, NullSender, OnMismatch};
use crate::spool::sqlite;
use crate::token::Grant;
use crate::transport::Tls;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub(super) host: Option<Spanned<String>>,
    pub(super) data_dir: Option<String>,
    pub(super) vault_key: Option<Spanned<SecretText>>,
    #[serde(default)]
    pub(super) log: LogTable,
    #[serde(default)]
    pub(super) privacy: PrivacyTable,
    pub(super) run_as: Option<Spanned<String>>,
    pub(super) web: Option<WebTable>,
    #[serde(default)]
    pub(super) alerts: AlertThresholds,
    #[serde(default)]
    pub(super) alert: Vec<AlertTable>,
    #[serde(default)]
    pub(super) listener: Vec<ListenerTable>,
    #[serde(default)]
    pub(super) limits: door::DoorLimits,
    #[serde(default)]
    pub(super) sender: SenderTable,
    #[serde(default)]
    pub(super) user: Vec<UserTable>,
    #[serde(default)]
    pub(super) oauth: BTreeMap<Spanned<String>, OAuthTable>,
    #[serde(default)]
    pub(super) server: Vec<ServerTable>,
    #[serde(default)]
    pub(super) delivery: delivery::DeliveryOptions,
    #[serde(default)]
    pub(super) spool: sqlite::SpoolSettings,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LogTable {
    pub format: Format,
    pub level: Spanned<String>,
    pub debug_peers: Vec<Network>,
    pub debug_users: Vec<String>,
}

impl Default for LogTable {
    fn default() -> Self {
        Self {
            format: Format::Human,
            level: Spanned::new(0..0, "info".into()),
            debug_peers: Vec::new(),
            debug_users: Vec::new(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PrivacyTable {
    pub mask_addresses: bool,
    pub received: Shown,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WebTable {
    pub address: Spanned<SocketAddr>,
    pub external_url: Option<Spanned<Url>>,
    #[serde(default)]
    pub proxy: bool,
    pub certificate: Option<Spanned<String>>,
    pub key: Option<Spanned<String>>,
    #[serde(default)]
    pub user: Vec<PersonTable>,
    pub oidc: Option<Spanned<OidcTable>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OidcTable {
    pub issuer: Spanned<String>,
    pub client_id: Spanned<String>,
    pub client_secret: Option<Spanned<SecretText>>,
    pub claim: Option<Spanned<String>>,
    #[serde(default)]
    pub administrators: Vec<String>,
    #[serde(default)]
    pub readers: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AlertTable {
    pub name: Spanned<String>,
    pub url: Option<Spanned<String>>,
    pub secret_url: Option<Spanned<SecretText>>,
    pub form: Option<Spanned<WebhookForm>>,
    pub command: Option<Spanned<Vec<String>>>,
    pub mail: Option<Spanned<String>>,
    pub servers: Option<Vec<Spanned<String>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PersonTable {
    pub name: Spanned<String>,
    pub password: Spanned<SecretText>,
    #[serde(default = "read_only")]
    pub role: Role,
}

fn read_only() -> Role {
    Role::ReadOnly
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListenerTable {
    pub name: Option<Spanned<String>>,
    pub protocol: Option<Spanned<Protocol>>,
    pub address: Option<Spanned<SocketAddr>>,
    pub systemd: Option<Spanned<String>>,
    pub socket: Option<Spanned<String>>,
    pub socket_mode: Option<Spanned<String>>,
    #[serde(default)]
    pub only_ipv6: bool,
    pub tls: Option<Spanned<TlsMode>>,
    pub certificate: Option<Spanned<String>>,
    pub key: Option<Spanned<String>>,
    #[serde(default)]
    pub allow_plaintext: bool,
    #[serde(default)]
    pub auth: ListenerAuth,
    pub users: Option<Vec<Spanned<String>>>,
    pub networks: Option<Vec<Network>>,
    pub servers: Option<Vec<Spanned<String>>>,
    #[serde(default, deserialize_with = "some_positive")]
    pub sessions: Option<usize>,
    #[serde(default, deserialize_with = "some_positive")]
    pub message_size: Option<u64>,
    pub messages_per_minute: Option<u64>,
    pub priority: Option<Priority>,
    #[serde(default)]
    pub bare_lf_commands: bool,
    pub refuse_early_talkers: Option<Wait>,
    pub assume_from: Option<Spanned<String>>,
    pub default_from: Option<Spanned<String>>,
    pub catchall_domain: Option<Spanned<String>>,
    #[serde(default)]
    pub proxies: Vec<Network>,
}

/// A protocol of a listener, or a use of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Protocol {
    Smtp,
    Imap,
    Pop3,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum TlsMode {
    None,
    Starttls,
    Required,
    Implicit,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ListenerAuth {
    #[default]
    Either,
    Password,
    Network,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SenderTable {
    pub default_from: Option<Spanned<String>>,
    pub catchall_domain: Option<Spanned<String>>,
    #[serde(rename = "match")]
    pub keys: Spanned<Vec<Key>>,
    pub last_resort: bool,
    pub on_mismatch: OnMismatch,
    pub null_sender: NullSender,
    pub reply_to: bool,
}

impl Default for SenderTable {
    fn default() -> Self {
        Self {
            default_from: None,
            catchall_domain: None,
            keys: Spanned::new(0..0, vec![Key::Envelope, Key::Header]),
            last_resort: false,
            on_mismatch: OnMismatch::Rewrite,
            null_sender: NullSender::Keep,
            reply_to: true,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UserTable {
    pub name: Spanned<String>,
    pub password: Option<Spanned<SecretText>>,
    #[serde(default)]
    pub networks: Vec<Network>,
    pub server: Option<Spanned<String>>,
    pub servers: Option<Vec<Spanned<String>>>,
    pub mailboxes: Option<Vec<Spanned<String>>>,
    pub senders: Option<Spanned<String>>,
    pub recipients: Option<Spanned<String>>,
    pub messages_per_minute: Option<u64>,
    pub messages_per_day: Option<u64>,
    pub recipients_per_minute: Option<u64>,
    pub recipients_per_day: Option<u64>,
    pub sessions: Option<usize>,
    pub assume_from: Option<Spanned<String>>,
    pub default_from: Option<Spanned<String>>,
    pub catchall_domain: Option<Spanned<String>>,
    pub priority: Option<Priority>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OAuthTable {
    #[serde(default)]
    pub provider: Provider,
    pub tenant: Option<Spanned<String>>,
    pub client_id: Spanned<String>,
    #[serde(default)]
    pub cloud: Cloud,
    pub client_secret: Option<Spanned<SecretText>>,
    pub client_secret_expires: Option<Spanned<Datetime>>,
    pub second_client_secret: Option<Spanned<SecretText>>,
    pub second_client_secret_expires: Option<Spanned<Datetime>>,
    pub certificate: Option<Spanned<String>>,
    pub key: Option<Spanned<SecretText>>,
    pub assertion_file: Option<String>,
    pub token_url: Option<Spanned<Url>>,
    pub authorize_url: Option<Spanned<Url>>,
    pub device_url: Option<Spanned<Url>>,
    pub redirect: Option<Spanned<Url>>,
    pub scopes: Option<Vec<String>>,
    pub ca: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServerTable {
    pub name: Spanned<String>,
    #[serde(rename = "use")]
    pub uses: Option<Spanned<Vec<Protocol>>>,
    pub imap: Option<RemoteTable>,
    pub pop3: Option<RemoteTable>,
    #[serde(default)]
    pub bounces: Option<Spanned<bool>>,
    pub bounce_folder: Option<Spanned<String>>,
    pub delete_bounces: Option<Spanned<bool>>,
    #[serde(default)]
    pub username: Option<Spanned<String>>,
    pub account: Option<Spanned<String>>,
    pub address: Option<Spanned<String>>,
    pub from_filter: Option<Spanned<String>>,
    pub to_filter: Option<Spanned<String>>,
    pub preset: Option<Spanned<ServerPreset>>,
    pub oauth: Option<Spanned<String>>,
    pub grant: Option<Spanned<Grant>>,
    pub refresh_token: Option<Spanned<SecretText>>,
    pub auth: Option<Spanned<AuthMethod>>,
    pub password: Option<Spanned<SecretText>>,
    pub host: Option<Spanned<String>>,
    pub port: Option<u16>,
    pub tls: Option<Spanned<Tls>>,
    pub ca: Option<Spanned<String>>,
    #[serde(default)]
    pub mode: Mode,
    pub fallback: Option<Spanned<String>>,
    pub fallback_after: Option<Wait>,
    pub fallback_priorities: Option<Spanned<Vec<Priority>>>,
    pub sessions: Option<Spanned<usize>>,
    #[serde(default, deserialize_with = "some_count")]
    pub messages_per_minute: Option<usize>,
    pub recipients_per_day: Option<u64>,
    pub recipients_per_message: Option<Spanned<usize>>,
    #[serde(default, deserialize_with = "some_positive")]
    pub message_size: Option<u64>,
}

/// A kind of account with values of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ServerPreset {
    /// An account of Microsoft's High Volume Email (`transport/smtp/exchange_online.md`).
    HighVolumeEmail,
}

/// The host of a server for a protocol by which mail is read.
#[derive(Debug, Default, Deserialize)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a table, such as { host = \"mail.example.com\", port = 993 }"
)]
pub(super) struct RemoteTable {
    pub host: Option<Spanned<String>>,
    pub port: Option<u16>,
    pub tls: Option<Spanned<Tls>>,
}

impl ServerTable {
    /// True if the server is an account of High Volume Email.
    pub(super) fn is_hve(&self) -> bool {
        let preset = self.preset.as_ref().map(|preset| *preset.get_ref());
        preset == Some(ServerPreset::HighVolumeEmail)
    }

    /// True if the server is used for this protocol.
    pub(super) fn is_for(&self, protocol: Protocol) -> bool {
        match &self.uses {
            Some(uses) => uses.get_ref().contains(&protocol),
            None => protocol == Protocol::Smtp,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum AuthMethod {
    XOAuth2,
    Plain,
    Login,
    None,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    #[default]
    Queued,
    Direct,
}
