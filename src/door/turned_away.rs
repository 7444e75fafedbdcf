//! The reasons why a client is turned away. Pure.

use std::net::IpAddr;

/// The reason why a client is turned away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TurnedAway {
    /// The maximum number of sessions is reached.
    TooMany,
    /// This client or user has reached its maximum number of sessions.
    TooManyOf {
        /// The client or user.
        whose: String,
        /// The maximum.
        most: usize,
        /// The configuration key that sets the maximum.
        setting: &'static str,
    },
    /// The listener does not serve the network of this address.
    NoAccess(IpAddr),
    /// Too many sign-ins from this address have failed.
    ShutOut {
        /// The address.
        peer: IpAddr,
        /// The number of seconds for which the address is still shut out.
        seconds: u64,
    },
    /// This node is being taken out of service. Only a proxy's own checks are told, so that it stops sending clients.
    Draining,
    /// The client sent data before the greeting.
    TalksEarly,
}
