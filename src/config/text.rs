//! The configuration file as written: every table and key, with its type, meaning and default. `config/README.md` is
//! made from these types ([`super::reference`]). A table that one part of the program uses unchanged is defined in
//! that part.

mod client;
mod server;
mod web;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::secret::SecretText;
use crate::alerts::AlertThresholds;
use crate::base::written;
use crate::base::written::Network;
use crate::delivery;
use crate::door;
use crate::message::Shown;
use crate::observe::logging::Format;
use crate::operator::Role;
use crate::routing::{Key, NullSender, OnMismatch};
use crate::spool::SpoolSettings;
pub(crate) use client::{ListenerAuth, ListenerTable, TlsMode, UserTable};
pub(crate) use server::{AuthMethod, Mode, OAuthTable, RemoteTable, ServerTable};
pub(crate) use web::{AlertTable, OidcTable, WebTable};

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// The name of this host in greetings and Received fields. Default: the system's host name.
    pub host: Option<Spanned<String>>,
    /// The folder for messages and tokens. Default: systemd's StateDirectory, or else a folder `mailferry-data` beside
    /// this file.
    pub data_dir: Option<String>,
    /// The key that encrypts tokens, as `mailferry vault new-key` prints it. Default: a key file beside the tokens, made
    /// at the first start.
    pub vault_key: Option<Spanned<SecretText>>,
    /// The user that mailferry switches to after it has bound its ports, if root starts it. Without this key mailferry
    /// refuses to run as root (except with `--allow-root`, for containers).
    pub run_as: Option<Spanned<String>>,
    #[serde(default)]
    pub listener: Vec<ListenerTable>,
    #[serde(default)]
    pub user: Vec<UserTable>,
    #[serde(default)]
    pub sender: SenderTable,
    #[serde(default)]
    pub oauth: BTreeMap<Spanned<String>, OAuthTable>,
    #[serde(default)]
    pub server: Vec<ServerTable>,
    /// Retries, reports to senders, and the end of the program.
    #[serde(default)]
    pub delivery: delivery::DeliveryOptions,
    /// The limits on clients, sessions and messages.
    #[serde(default)]
    pub limits: door::DoorLimits,
    /// The storage of messages on disk. Changes need a restart.
    #[serde(default)]
    pub spool: SpoolTable,
    #[serde(default)]
    pub log: LogTable,
    #[serde(default)]
    pub privacy: PrivacyTable,
    #[serde(default)]
    pub control: ControlTable,
    pub web: Option<WebTable>,
    /// The thresholds of alerts. Other alerts have no threshold: somebody has to sign in; a client secret or
    /// certificate expires (30, 14, 7 days and 1 day before); the disk is full; the clock is wrong. Each cause is told
    /// once, and again when it is over. Alerts are also in the log, on the page, in `mailferry status` and in metrics.
    #[serde(default)]
    pub alerts: AlertThresholds,
    #[serde(default)]
    pub alert: Vec<AlertTable>,
}

/// The storage of messages: on this machine's disk, or in a database that several nodes share.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SpoolTable {
    /// The disk space, in octets, that new messages must leave free, so that queued messages can still be
    /// finished. Default: `4194304`.
    pub reserve: u64,
    /// The time for which a message's story is kept after the message has ended (`mailferry trace`); zero keeps no
    /// stories. Default: `"30 days"`.
    #[serde(deserialize_with = "written::wait")]
    pub history: Duration,
    /// The PostgreSQL database that several nodes share. Without it, messages are stored on this machine's disk.
    pub postgresql: Option<Spanned<PostgresTable>>,
}

/// A PostgreSQL database (14 or later) that several nodes share, so that each of them takes and sends mail.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PostgresTable {
    /// The database's address, as libpq reads it, such as
    /// `postgresql://mailferry@db1,db2/mailferry?target_session_attrs=read-write`: with several hosts, mailferry follows a
    /// failover. The connection is encrypted, unless all hosts are this machine, or the address says `sslmode=disable`.
    pub url: String,
    /// The password of the database's user.
    pub password: Option<Spanned<SecretText>>,
    /// Further root certificates (a PEM file) for the database's certificate.
    pub ca: Option<Spanned<String>>,
}

impl Default for SpoolTable {
    fn default() -> Self {
        let SpoolSettings {
            reserve, history, ..
        } = SpoolSettings::default();
        Self {
            reserve,
            history,
            postgresql: None,
        }
    }
}

/// The contents and the format of the log. `format` and `level` need a restart. The dialogue of a session is logged without passwords and contents.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogTable {
    /// The format of a log line.
    pub format: Format,
    /// The least urgent lines: `error`, `warn`, `info`, `debug` (with the dialogue of each session) or `trace`; also for
    /// one part: `info,mailferry::transport=debug`. The environment variable MAILFERRY_LOG overrides it. Default:
    /// `"info"`.
    pub level: Spanned<String>,
    /// Networks and addresses of clients whose dialogues are logged at any level. `mailferry reload` takes changes.
    pub debug_peers: Vec<Network>,
    /// Users whose dialogues are logged at any level. `mailferry reload` takes changes.
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

/// The data that mailferry hides. `mask_addresses` needs a restart.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PrivacyTable {
    /// `true`: logs show addresses as `j***@example.com`.
    pub mask_addresses: bool,
    /// The details of the app that the Received field of a message shows.
    pub received: Shown,
}

/// The local socket by which commands reach the running program. The user that mailferry runs as, and root, may always
/// do everything. Changes need a restart.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ControlTable {
    /// The path of the socket. Commands of users who may not read `/etc/mailferry` look for it at
    /// `/run/mailferry/control.sock`. Default: `spool/control.sock` in `data_dir`.
    pub socket: Option<Spanned<String>>,
    /// The group whose members may connect too. mailferry's user must be a member; with systemd, the group must be the
    /// service's own (`config/guides/operating.md`). Default: none.
    pub group: Option<Spanned<String>>,
    /// The rights of the group's members.
    pub access: Role,
}

/// A protocol of a listener, or a use of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    Smtp,
    Imap,
    Pop3,
}

/// The choice of the server, and the sender that mail gets if no server admits its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SenderTable {
    /// The sender of mail that no `from_filter` admits: an address, or the local part at `catchall_domain`. Without it such
    /// mail is refused (or see `last_resort`).
    pub default_from: Option<Spanned<String>>,
    /// The domain of `default_from`, if that has none.
    pub catchall_domain: Option<Spanned<String>>,
    /// The senders that choose the server, in order. Odoo uses the header alone. Default: `["envelope", "header"]`.
    #[serde(rename = "match")]
    pub keys: Spanned<Vec<Key>>,
    /// `true`: the first server takes mail that no server admits.
    pub last_resort: bool,
    /// The treatment of a From that the chosen server does not admit.
    pub on_mismatch: OnMismatch,
    /// The treatment of the null sender, `<>`.
    pub null_sender: NullSender,
    /// `true`: if From is rewritten, Reply-To names the author. Default: `true`.
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
