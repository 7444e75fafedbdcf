//! The settings of a listener: its socket, and the clients and users that it admits.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::usage;
use super::users::User;
use crate::base::limits::SESSIONS;

/// A listener's socket, and the settings that apply there.
#[derive(Clone)]
pub struct Endpoint {
    /// The listener's name, in logs and in routing.
    pub name: String,
    /// The socket.
    pub socket: Socket,
    /// The certificate, and whether TLS is implicit or by STARTTLS; `None` without TLS.
    pub tls: Option<ListenerTls>,
    /// True if a session may continue without TLS.
    pub plaintext: bool,
    /// True if a password may be sent without TLS.
    pub plaintext_auth: bool,
    /// True if passwords admit users here.
    pub by_password: bool,
    /// True if networks admit users here without AUTH.
    pub by_network: bool,
    /// The users that may send here; `None` for all.
    pub users: Option<HashSet<String>>,
    /// The networks from which clients may connect; `None` for all.
    pub networks: Option<Vec<IpNet>>,
    /// The maximum number of sessions at once.
    pub sessions: usize,
    /// The amounts that this listener accepts in a period.
    pub limits: Vec<usage::Limit>,
    /// The delay before the greeting, during which a client that sends data is refused. `None` for no delay
    /// and no check.
    pub early_talkers: Option<Duration>,
    /// The networks of proxies that send the client's address in a PROXY header.
    pub proxies: Vec<IpNet>,
}

/// The source of a listener's connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Socket {
    /// An address of this host.
    Address {
        /// Address and port.
        address: SocketAddr,
        /// True if an IPv6 socket does not accept IPv4 clients.
        only_v6: bool,
    },
    /// A socket that systemd has bound, by its name in systemd (sd_listen_fds_with_names).
    Systemd(String),
    /// A local socket.
    Path {
        /// The socket's path.
        path: PathBuf,
        /// The permission bits: who may connect.
        mode: u32,
    },
}

/// How a listener protects its sessions with TLS.
#[derive(Clone)]
pub struct ListenerTls {
    /// The certificate.
    pub certificate: ListenerCertificate,
    /// True if TLS starts at once (RFC 8314 §3.3), instead of by STARTTLS.
    pub implicit: bool,
}

/// A listener's certificate.
#[derive(Clone)]
pub enum ListenerCertificate {
    /// The configured certificate.
    Ready(Arc<rustls::ServerConfig>),
    /// A certificate that we create when it is first needed.
    SelfSigned,
}

impl Endpoint {
    /// Creates an endpoint on this address without TLS and without restrictions. The caller changes the
    /// fields that must differ.
    pub fn open(address: SocketAddr) -> Self {
        Self {
            name: address.to_string(),
            socket: Socket::Address {
                address,
                only_v6: false,
            },
            tls: None,
            plaintext: true,
            plaintext_auth: true,
            by_password: true,
            by_network: true,
            users: None,
            networks: None,
            sessions: SESSIONS,
            limits: Vec::new(),
            early_talkers: None,
            proxies: Vec::new(),
        }
    }

    /// True if a user of this name may send here.
    pub fn admits(&self, user: &str) -> bool {
        self.users.as_ref().is_none_or(|users| users.contains(user))
    }

    /// True if this listener can admit this user, by password or by network.
    pub fn lets_in(&self, user: &User) -> bool {
        let by_password = self.by_password && user.hash.is_some();
        let by_network = self.by_network && !user.networks.is_empty();
        self.admits(&user.name) && (by_password || by_network)
    }

    /// True if clients may connect from this address.
    pub fn serves(&self, peer: IpAddr) -> bool {
        let networks = self.networks.as_ref();
        networks.is_none_or(|networks| networks.iter().any(|network| network.contains(&peer)))
    }

    /// Returns the TLS settings; `None` without TLS, or before the self-signed certificate exists.
    pub fn tls(&self) -> Option<&Arc<rustls::ServerConfig>> {
        match &self.tls.as_ref()?.certificate {
            ListenerCertificate::Ready(config) => Some(config),
            ListenerCertificate::SelfSigned => None,
        }
    }
}

impl Socket {
    /// True if the two sockets cannot be bound at the same time. Port 0 means any free port.
    pub fn overlaps(&self, other: &Self) -> bool {
        if let (Self::Path { path, .. }, Self::Path { path: other, .. }) = (self, other) {
            return path == other;
        }
        let (Some((a, a6)), Some((b, b6))) = (self.address(), other.address()) else {
            return self == other;
        };
        let covers = |all: SocketAddr, only_v6: bool, one: SocketAddr| {
            let is_dual = all.is_ipv6() && !only_v6;
            all.ip().is_unspecified() && (all.is_ipv4() == one.is_ipv4() || is_dual)
        };
        a.port() == b.port()
            && a.port() != 0
            && (a.ip() == b.ip() || covers(a, a6, b) || covers(b, b6, a))
    }

    fn address(&self) -> Option<(SocketAddr, bool)> {
        match self {
            Self::Address { address, only_v6 } => Some((*address, *only_v6)),
            Self::Systemd(_) | Self::Path { .. } => None,
        }
    }
}

impl std::fmt::Display for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address { address, .. } => address.fmt(f),
            Self::Systemd(name) => write!(f, "systemd:{name}"),
            Self::Path { path, .. } => path.display().fmt(f),
        }
    }
}
