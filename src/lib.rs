//! mailferry
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod base;
pub mod message;
pub mod routing;
pub mod session;
pub mod spool;
