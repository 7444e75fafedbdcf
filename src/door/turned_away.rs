//! Why a client is turned away. Pure.

use std::net::IpAddr;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TurnedAway {
    /// There are as many sessions as there may be.
    TooMany,
    /// Of this client, or user, there are.
    TooManyOf {
        /// Whose sessions.
        whose: String,
        /// How many there may be.
        most: usize,
        /// The setting that says so.
        setting: &'static str,
    },
    /// The listener serves other networks.
    NoAccess(IpAddr),
    /// Too many sign-ins from there have failed.
    ShutOut {
        /// From where.
        peer: IpAddr,
        /// For how many seconds it is shut out still.
        seconds: u64,
    },
    /// It spoke before it was greeted.
    TalksEarly,
}
