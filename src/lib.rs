//! mailferry
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod base;
pub mod config;
pub mod delivery;
pub mod listener;
pub mod message;
pub mod observe;
pub mod routing;
pub mod session;
pub mod spool;
pub mod token;
pub mod upstream;
