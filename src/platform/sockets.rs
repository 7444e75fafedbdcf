//! Sockets that accept connections: bound by ourselves, or passed by systemd.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// The number of connections that may wait to be accepted; the system may lower it (net.core.somaxconn).
pub(crate) const BACKLOG: i32 = 4_096;

/// The silence after which the system asks the peer whether it is still there, the interval of further
/// questions, and their number. Some firewalls forget a connection after five minutes of silence.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(120);
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(30);
const KEEP_ALIVE_PROBES: u32 = 4;

/// Binds an address and listens. With `only_v6`, an IPv6 socket does not accept IPv4.
pub(crate) fn bind(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, only_v6)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// A socket that systemd has bound, with its name.
pub(crate) struct Passed {
    /// The name (sd_listen_fds_with_names(3)).
    pub name: String,
    socket: OwnedFd,
}

/// Returns the sockets that systemd has passed. Several may have the same name, for example for IPv4 and
/// IPv6.
pub(crate) fn passed() -> Vec<Passed> {
    let passed = sd_listen_fds::get().unwrap_or_default().into_iter();
    let named = passed.map(|(name, socket)| Passed {
        name: name.unwrap_or_default(),
        socket: socket.into_std(),
    });
    named.collect()
}

impl Passed {
    /// Returns a copy of the socket. The original stays open, so that it can be used again.
    pub(crate) fn socket(&self) -> io::Result<TcpListener> {
        Ok(TcpListener::from(self.socket.try_clone()?))
    }
}

/// Has the system notice a peer that is gone, on a connection that may be silent for days. Without this, such
/// a connection would stay forever. It is no harm if the system refuses.
pub(crate) fn keep_alive(socket: impl AsFd) {
    let _ = sockopt::set_socket_keepalive(&socket, true);
    let _ = sockopt::set_tcp_keepidle(&socket, KEEP_ALIVE_AFTER);
    let _ = sockopt::set_tcp_keepintvl(&socket, KEEP_ALIVE_EVERY);
    let _ = sockopt::set_tcp_keepcnt(&socket, KEEP_ALIVE_PROBES);
}

/// Opens a spare file descriptor, which the caller can close when no other descriptor is left.
pub(crate) fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

/// True if an error means that the process, or the system, has no file descriptor left.
pub(crate) fn is_out_of_files(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE))
}
