//! Why the program does not start, or does not take a configuration.

use std::io;

use super::privilege::PrivilegeError;
use crate::base::tls::TlsError;
use crate::spool::SpoolError;
use crate::token::VaultError;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A listener's socket cannot be had.
    #[error("cannot listen on {socket}: {source}; {}", remedy(source))]
    Bind {
        /// Its address, or what systemd calls it.
        socket: String,
        /// Why.
        source: std::io::Error,
    },
    /// A socket that could be had, did this program not have one that covers it.
    #[error("cannot listen on {socket} beside {own}, which this program listens on; restart it")]
    Beside {
        /// The new one.
        socket: String,
        /// The present one.
        own: String,
    },
    /// It may not run as whom it was started.
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
    /// The certificate of our own cannot be made.
    #[error("cannot make a certificate in {folder}: {source}; name one with certificate and key")]
    Certificate {
        /// Where.
        folder: String,
        /// Why.
        source: std::io::Error,
    },
    /// The spool does not open.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The vault does not open.
    #[error("token vault: {0}")]
    Vault(#[from] VaultError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The control socket cannot be had.
    #[error(
        "cannot make the control socket {path}: {source}; a socket's path has 107 bytes at the most, so set a shorter `data_dir`"
    )]
    Control {
        /// Its path.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// How a socket can be had that cannot.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "stop what uses the port, or set another `address`",
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have the address: correct `address`"
        }
        io::ErrorKind::PermissionDenied => {
            "a port below 1024 needs root with `run_as`, a socket unit of systemd, or AmbientCapabilities=CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::NotFound => {
            "name it with FileDescriptorName= in the .socket unit, and start it by that"
        }
        _ => "correct `address`",
    }
}
