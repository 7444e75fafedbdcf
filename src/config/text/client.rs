//! The tables about apps: where they connect, and who may send.

use std::net::SocketAddr;

use serde::Deserialize;
use toml::Spanned;

use super::Protocol;
use crate::base::written::{Network, Wait, some_positive};
use crate::config::secret::SecretText;
use crate::message::Priority;

/// An address or a socket to which apps connect. There may be several, each with its own rules. It has either an `address`, a `socket`, or
/// `systemd`. A change of the rules applies to open sessions too, from their next message on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListenerTable {
    /// The name in logs. Default: the address.
    pub name: Option<Spanned<String>>,
    /// The protocol of the apps. With `"imap"` and `"pop3"` they read the mailboxes of their user. Default: `"smtp"`.
    pub protocol: Option<Spanned<Protocol>>,
    /// The address and the port. `[::]:25` accepts IPv4 as well.
    pub address: Option<Spanned<SocketAddr>>,
    /// The FileDescriptorName= of a socket that systemd passes.
    pub systemd: Option<Spanned<String>>,
    /// The path of a local socket, for programs on this machine such as `mailferry sendmail`. Its clients count as
    /// 127.0.0.1.
    pub socket: Option<Spanned<String>>,
    /// The permission bits of `socket`, as for chmod. Default: `"0666"`.
    pub socket_mode: Option<Spanned<String>>,
    /// `true`: an IPv6 address accepts no IPv4.
    #[serde(default)]
    pub only_ipv6: bool,
    /// The protection of the connection. Default with a certificate: `"required"`, or `"starttls"` if plaintext is
    /// allowed; without one: `"none"`. If the address is not on loopback, `"none"` has to be written, and passwords need
    /// `allow_plaintext = true` besides.
    pub tls: Option<Spanned<TlsMode>>,
    /// The certificate (a PEM file); it is read again when it changes. Default: if `tls` needs one, mailferry
    /// makes and signs it itself.
    pub certificate: Option<Spanned<String>>,
    /// The key of the certificate (a PEM file).
    pub key: Option<Spanned<String>>,
    /// `true`: passwords are accepted without TLS. On loopback they always are.
    #[serde(default)]
    pub allow_plaintext: bool,
    /// The way in which a client shows which user it is.
    #[serde(default)]
    pub auth: ListenerAuth,
    /// The users who may send here. Default: all.
    pub users: Option<Vec<Spanned<String>>>,
    /// The networks from which clients may connect. Default: all.
    pub networks: Option<Vec<Network>>,
    /// The servers that may send mail from here. Default: all.
    pub servers: Option<Vec<Spanned<String>>>,
    /// Sessions at once. Default: `[limits] sessions`.
    #[serde(default, deserialize_with = "some_positive")]
    pub sessions: Option<usize>,
    /// The largest message, in octets. Default: `[limits] message_size`.
    #[serde(default, deserialize_with = "some_positive")]
    pub message_size: Option<u64>,
    /// Messages a minute, from all clients together. Default: no limit.
    pub messages_per_minute: Option<u64>,
    /// The urgency of this mail while mail waits for a mailbox's limits. Users with the same priority take turns.
    /// Default: `X-Priority` and `Importance` decide.
    pub priority: Option<Priority>,
    /// `true`: commands may end in LF alone, but clients must wait for each reply.
    #[serde(default)]
    pub bare_lf_commands: bool,
    /// Delays the greeting by this time, and refuses clients that send something before it. Default: no delay, and such
    /// clients are admitted.
    pub refuse_early_talkers: Option<Wait>,
    /// The sender of mail that has none, for devices without a mailbox.
    pub assume_from: Option<Spanned<String>>,
    /// As in `[sender]`, for mail from here.
    pub default_from: Option<Spanned<String>>,
    /// As in `[sender]`, for mail from here. Alone, it moves the general `default_from` to this domain.
    pub catchall_domain: Option<Spanned<String>>,
    /// Proxies in front of mailferry: connections from these addresses begin with a PROXY header (version 2).
    #[serde(default)]
    pub proxies: Vec<Network>,
}

/// The protection of a listener's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TlsMode {
    /// No TLS.
    None,
    /// Clients may use STARTTLS.
    Starttls,
    /// Clients must use STARTTLS.
    Required,
    /// TLS from the first octet, as on port 465.
    Implicit,
}

/// The way in which clients show which user they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ListenerAuth {
    /// By password or by network.
    #[default]
    Either,
    /// By password only.
    Password,
    /// By network only.
    Network,
}

/// An app, or a device, that may send: identified by password, by network, or by both. If networks overlap, the
/// client is the first matching user in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserTable {
    /// The name, with which the app signs in.
    pub name: Spanned<String>,
    /// The hash of the password, made by `mailferry hash-password`.
    pub password: Option<Spanned<SecretText>>,
    /// The networks and addresses whose clients are this user.
    #[serde(default)]
    pub networks: Vec<Network>,
    /// The server through which all mail of this user goes.
    pub server: Option<Spanned<String>>,
    /// The servers that may send this user's mail. Default: all.
    pub servers: Option<Vec<Spanned<String>>>,
    /// The servers whose mailboxes this user may read, at listeners for IMAP or POP3. Default: none.
    pub mailboxes: Option<Vec<Spanned<String>>>,
    /// The addresses and domains that the user may send as, in the envelope and in From. Default: all.
    pub senders: Option<Spanned<String>>,
    /// The addresses and domains that the user may send to. Default: all.
    pub recipients: Option<Spanned<String>>,
    /// Messages a minute; 0: no limit. Default: no limit.
    pub messages_per_minute: Option<u64>,
    /// Messages a day; 0: no limit. Default: no limit.
    pub messages_per_day: Option<u64>,
    /// Recipients a minute; 0: no limit. Default: no limit.
    pub recipients_per_minute: Option<u64>,
    /// Recipients a day; 0: no limit. Default: no limit.
    pub recipients_per_day: Option<u64>,
    /// Sessions at once; 0: no limit. Default: `[limits] sessions_per_user`.
    pub sessions: Option<usize>,
    /// As for a listener.
    pub assume_from: Option<Spanned<String>>,
    /// As in `[sender]`, for this user's mail; it counts before the listener's.
    pub default_from: Option<Spanned<String>>,
    /// As in `[sender]`, for this user's mail; it counts before the listener's.
    pub catchall_domain: Option<Spanned<String>>,
    /// As for a listener; it counts before the listener's.
    pub priority: Option<Priority>,
}
