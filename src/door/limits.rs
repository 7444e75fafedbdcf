//! The table `[limits]` of the configuration: how much is allowed at once, and how slow clients may be.
//! Every key is here with its default.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use crate::base::limits as usual;
use crate::base::written;

/// The limits of the door. The fields have the names of the keys.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DoorLimits {
    /// The maximum size of a message in octets. Default: `36700160`.
    #[serde(deserialize_with = "written::positive")]
    pub message_size: u64,
    /// The maximum number of recipients of a message. Default: `1000`.
    #[serde(deserialize_with = "written::count")]
    pub recipients: usize,
    /// The maximum number of commands between two accepted messages. Default: `2000`.
    #[serde(deserialize_with = "written::positive")]
    pub commands: u32,
    /// The maximum number of failed commands in one session. Default: `20`.
    #[serde(deserialize_with = "written::positive")]
    pub errors: u32,
    /// The maximum number of sessions at once, for all listeners together. Default: `10000`.
    #[serde(deserialize_with = "written::count")]
    pub sessions: usize,
    /// The maximum number of sessions at once from one address (for IPv6, from one /64); 0: no limit. Default:
    /// `1000`.
    #[serde(deserialize_with = "written::unlimited")]
    pub sessions_per_address: usize,
    /// The maximum number of sessions that one user may have at once; 0: no limit. Default: `1000`.
    #[serde(deserialize_with = "written::unlimited")]
    pub sessions_per_user: usize,
    /// The memory in octets that incoming messages may take together. Default: `268435456`.
    #[serde(deserialize_with = "written::positive")]
    pub memory: u64,
    /// The lowest average rate, in octets per second, at which a message may arrive. Every message may take
    /// one minute longer. 0: no minimum. Default: `100`.
    pub minimum_rate: u64,
    /// The number of failed sign-ins within `auth_time` that shuts an address out; 0: never. Default: `10`.
    pub auth_failures: u64,
    /// The time in which `auth_failures` are counted. Default: `"10m"`.
    #[serde(deserialize_with = "written::wait")]
    pub auth_time: Duration,
    /// How long an address is shut out. Default: `"10m"`.
    #[serde(deserialize_with = "written::wait")]
    pub shut_out: Duration,
    /// Networks whose addresses are never shut out; meant for addresses that many apps share. Default:
    /// `["127.0.0.0/8", "::1"]`.
    #[serde(deserialize_with = "written::networks")]
    pub never_shut_out: Vec<IpNet>,
    /// How long a client may be silent. Default: `"5m"`.
    #[serde(deserialize_with = "written::wait")]
    pub idle_time: Duration,
    /// How long a session may last. Default: `"1h"`.
    #[serde(deserialize_with = "written::wait")]
    pub session_time: Duration,
    /// The treatment of line endings that are not CRLF. Default: `"normalize"`.
    pub bare_newlines: BareNewlines,
    /// The maximum number of ended sessions that stay connected until the client has read the reason. They no
    /// longer count as sessions.
    #[serde(skip, default = "lingering")]
    pub lingering: usize,
}

/// The treatment of a message with line endings that are not CRLF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BareNewlines {
    /// The line endings become CRLF.
    Normalize,
    /// The message is refused.
    Reject,
}

fn lingering() -> usize {
    usual::LINGERING
}

impl DoorLimits {
    /// True if this address is never shut out.
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
                IpNet::new_assert(Ipv4Addr::LOCALHOST.into(), 8).trunc(),
                IpNet::new_assert(Ipv6Addr::LOCALHOST.into(), 128),
            ],
            idle_time: usual::IDLE_TIME,
            session_time: usual::SESSION_TIME,
            bare_newlines: BareNewlines::Normalize,
            lingering: usual::LINGERING,
        }
    }
}
