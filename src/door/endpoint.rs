//! A listener as it is configured: where it is, and who is let in there.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::usage;
use super::users::User;
use crate::base::limits::SESSIONS;

/// Where apps connect, and what holds there.
#[derive(Clone)]
pub struct Endpoint {
    /// Its name, in logs, and by which routing knows it.
    pub name: String,
    /// Where it is.
    pub socket: Socket,
    /// The certificate, and when it is shown; none without TLS.
    pub tls: Option<ListenerTls>,
    /// Whether a session may go on without TLS.
    pub plaintext: bool,
    /// Whether a password may come in clear.
    pub plaintext_auth: bool,
    /// Whether passwords admit users here.
    pub by_password: bool,
    /// Whether networks admit users here without AUTH.
    pub by_network: bool,
    /// The users that may send here; none for all.
    pub users: Option<HashSet<String>>,
    /// Where clients may connect from; none for everywhere.
    pub networks: Option<Vec<IpNet>>,
    /// Sessions at once.
    pub sessions: usize,
    /// What may come in here in some time.
    pub limits: Vec<usage::Limit>,
    /// How long the greeting waits for clients that do not, who are then refused; none lets them talk.
    pub early_talkers: Option<Duration>,
    /// The proxies that say who their client is.
    pub proxies: Vec<IpNet>,
}

/// Where a listener's connections come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Socket {
    /// An address of ours.
    Address {
        /// Address and port.
        address: SocketAddr,
        /// Whether an IPv6 address takes no IPv4.
        only_v6: bool,
    },
    /// What systemd has bound, by the name that it has there (sd_listen_fds_with_names).
    Systemd(String),
}

/// How a listener protects its sessions.
#[derive(Clone)]
pub struct ListenerTls {
    /// The certificate.
    pub certificate: ListenerCertificate,
    /// Whether TLS comes first of all (RFC 8314 §3.3), instead of by STARTTLS.
    pub implicit: bool,
}

/// A listener's certificate.
#[derive(Clone)]
pub enum ListenerCertificate {
    /// As configured.
    Ready(Arc<rustls::ServerConfig>),
    /// One that we make ourselves when it is needed first.
    SelfSigned,
}

impl Endpoint {
    /// One on this address that lets everybody do everything, in clear: what is to be different is
    /// said with it.
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

    /// Whether somebody of this name may send here.
    pub fn admits(&self, user: &str) -> bool {
        self.users.as_ref().is_none_or(|users| users.contains(user))
    }

    /// Whether there is a way in for this user, by password or from somewhere.
    pub fn lets_in(&self, user: &User) -> bool {
        let by_password = self.by_password && user.hash.is_some();
        let by_network = self.by_network && !user.networks.is_empty();
        self.admits(&user.name) && (by_password || by_network)
    }

    /// Whether somebody may connect from there.
    pub fn serves(&self, peer: IpAddr) -> bool {
        let networks = self.networks.as_ref();
        networks.is_none_or(|networks| networks.iter().any(|network| network.contains(&peer)))
    }

    /// The certificate to show, if there is one.
    pub fn tls(&self) -> Option<&Arc<rustls::ServerConfig>> {
        match &self.tls.as_ref()?.certificate {
            ListenerCertificate::Ready(config) => Some(config),
            ListenerCertificate::SelfSigned => None,
        }
    }
}

impl Socket {
    /// Whether the two cannot be had together; port 0 is any free one.
    pub fn overlaps(&self, other: &Self) -> bool {
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
            Self::Systemd(_) => None,
        }
    }
}

impl std::fmt::Display for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address { address, .. } => address.fmt(f),
            Self::Systemd(name) => write!(f, "systemd:{name}"),
        }
    }
}
