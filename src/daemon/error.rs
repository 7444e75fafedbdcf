//! The reasons why the program does not start, or does not accept a configuration.

use std::io;

use super::privilege::PrivilegeError;
use crate::base::tls::TlsError;
use crate::spool::SpoolError;
use crate::token::VaultError;

/// The reason why the program does not start, or does not accept a configuration.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A listener's socket is not available.
    #[error("cannot listen on {socket}: {source}; {}", remedy(source))]
    Bind {
        /// The socket's address, or its name in systemd.
        socket: String,
        /// The reason.
        source: std::io::Error,
    },
    /// A new socket overlaps one that this program already uses.
    #[error(
        "cannot listen on {socket} while mailferry listens on {own}; restart mailferry to switch"
    )]
    Beside {
        /// The new socket.
        socket: String,
        /// The present socket.
        own: String,
    },
    /// The node is out of service.
    #[error(
        "this node is being taken out of service: `mailferry drain --undo` puts it back with the new configuration"
    )]
    Drained,
    /// The program may not run as the user that started it.
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
    /// The program's own certificate cannot be made.
    #[error(
        "cannot make a certificate in {folder}: {source}; correct that, or set your own certificate with the keys certificate and key"
    )]
    Certificate {
        /// The folder.
        folder: String,
        /// The reason.
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
    /// The control socket is not available.
    #[error(
        "cannot make the control socket {path}: {source}; {}", control_remedy(.source)
    )]
    Control {
        /// The socket's path.
        path: String,
        /// The reason.
        source: std::io::Error,
    },
}

/// Returns the remedy for a control socket that is not available.
fn control_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "stop the mailferry that uses it, or set another `[control] socket` if another file is there"
        }
        io::ErrorKind::NotFound => "make its folder, or set another `[control] socket`",
        io::ErrorKind::InvalidInput => {
            "a path may have 107 octets at most; set a shorter `[control] socket`"
        }
        _ => "let mailferry's user write to its folder",
    }
}

/// Returns the remedy for a socket that is not available.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "stop the program that uses the port, or set another `address`",
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have the address: correct `address`"
        }
        io::ErrorKind::PermissionDenied => {
            "a port below 1024 needs root with `run_as`, a systemd socket unit, or AmbientCapabilities=CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::NotFound => {
            "set FileDescriptorName= to this name in the .socket unit, and start mailferry through that unit"
        }
        _ => "correct `address`",
    }
}
