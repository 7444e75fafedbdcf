//! The table `[limits]` of the configuration: how much there may be at once, and how slow it may be. Each key
//! with its default.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use crate::base::limits as usual;
use crate::base::written;

/// See the module. The fields have the names of the keys.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DoorLimits {
    /// Octets of a message.
    #[serde(deserialize_with = "written::positive")]
    pub message_size: u64,
    /// Recipients of a message.
    #[serde(deserialize_with = "written::count")]
    pub recipients: usize,
    /// Commands between two accepted messages.
    #[serde(deserialize_with = "written::positive")]
    pub commands: u32,
    /// Commands in error in one session.
    #[serde(deserialize_with = "written::positive")]
    pub errors: u32,
    /// Sessions at once, all listeners together.
    #[serde(deserialize_with = "written::count")]
    pub sessions: usize,
    /// Sessions at once of one address (of one /64 by IPv6).
    #[serde(deserialize_with = "written::unlimited")]
    pub sessions_per_address: usize,
    /// Sessions at once of one user.
    #[serde(deserialize_with = "written::unlimited")]
    pub sessions_per_user: usize,
    /// Octets of memory that messages may take while they come in.
    #[serde(deserialize_with = "written::positive")]
    pub memory: u64,
    /// Octets a second that a message comes with at least, on the average after its first minute.
    pub minimum_rate: u64,
    /// Failed sign-ins within `auth_time` that shut an address out; zero for never.
    pub auth_failures: u64,
    /// See `auth_failures`.
    #[serde(deserialize_with = "written::wait")]
    pub auth_time: Duration,
    /// How long an address is shut out.
    #[serde(deserialize_with = "written::wait")]
    pub shut_out: Duration,
    /// Addresses from which nobody is shut out: many apps may share one.
    #[serde(deserialize_with = "written::networks")]
    pub never_shut_out: Vec<IpNet>,
    /// How long a client may be silent.
    #[serde(deserialize_with = "written::wait")]
    pub idle_time: Duration,
    /// How long a session may last.
    #[serde(deserialize_with = "written::wait")]
    pub session_time: Duration,
    /// What becomes of line ends that are not CRLF.
    pub bare_newlines: BareNewlines,
    /// Clients at once that are given time to hear why their session is over; it takes no session's place.
    #[serde(skip, default = "leaving")]
    pub leaving: usize,
}

/// What becomes of a message with line ends that are not CRLF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BareNewlines {
    /// They become CRLF.
    Normalize,
    /// The message is refused.
    Reject,
}

fn leaving() -> usize {
    usual::LEAVING
}

impl DoorLimits {
    /// Whether nobody is shut out from there.
    pub(super) fn spares(&self, peer: IpAddr) -> bool {
        let mut spared = self.never_shut_out.iter();
        spared.any(|network| network.contains(&peer))
    }
}

impl Default for DoorLimits {
    fn default() -> Self {
        Self {
            message_size: usual::MESSAGE_SIZE,
            recipients: usual::RECIPIENTS,
            commands: usual::COMMANDS,
            errors: usual::ERRORS,
            sessions: usual::SESSIONS,
            sessions_per_address: usual::SESSIONS_PER_ADDRESS,
            sessions_per_user: usual::SESSIONS_PER_ADDRESS,
            memory: usual::MEMORY,
            minimum_rate: usual::MINIMUM_RATE,
            auth_failures: usual::AUTH_FAILURES,
            auth_time: usual::AUTH_TIME,
            shut_out: usual::AUTH_TIME,
            never_shut_out: vec![
                IpNet::new_assert(Ipv4Addr::LOCALHOST.into(), 8),
                IpNet::new_assert(Ipv6Addr::LOCALHOST.into(), 128),
            ],
            idle_time: usual::IDLE_TIME,
            session_time: usual::SESSION_TIME,
            bare_newlines: BareNewlines::Normalize,
            leaving: usual::LEAVING,
        }
    }
}
