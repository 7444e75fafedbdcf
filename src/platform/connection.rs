//! Connections of clients: over TCP, or over a local socket, which has a path instead of an address.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::files;

/// The mode of a local socket that every user of this machine may use, as every user may connect to a port.
pub(crate) const EVERYBODY: u32 = 0o666;

/// A client's connection.
#[derive(Debug)]
pub enum Connection {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a local socket.
    Local(UnixStream),
}

impl Connection {
    /// Returns the two ends of a new connection within this process.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = UnixStream::pair()?;
        Ok((Self::Local(one), Self::Local(other)))
    }

    /// Connects to the local socket at `path`.
    pub(crate) async fn to_path(path: &Path) -> io::Result<Self> {
        UnixStream::connect(path).await.map(Self::Local)
    }

    /// Connects to an address.
    pub(crate) async fn to_address(address: SocketAddr) -> io::Result<Self> {
        TcpStream::connect(address).await.map(Self::Tcp)
    }

    /// Sends small writes at once.
    pub(crate) fn send_at_once(&self) {
        if let Self::Tcp(stream) = self {
            let _ = stream.set_nodelay(true);
        }
    }

    /// Waits until there is something to read.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.readable().await,
            Self::Local(stream) => stream.readable().await,
        }
    }

    /// Writes as much as the system takes without waiting.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Local(stream) => stream.try_write(bytes),
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Local(stream) => stream.as_fd(),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Local(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Local(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Local(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Local(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A socket that accepts connections.
pub(crate) enum Acceptor {
    /// At an address.
    Tcp(TcpListener),
    /// At a path.
    Local(UnixListener, PathBuf),
}

impl Acceptor {
    /// Listens at `path`, for users with these permission bits. A socket that a crash has left there is replaced,
    /// but not one that another process uses.
    pub(crate) async fn at_path(path: &Path, mode: u32) -> io::Result<Self> {
        if UnixStream::connect(path).await.is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = UnixListener::bind(path)?;
        files::set_mode(path, mode)?;
        Ok(Self::Local(socket, path.to_owned()))
    }

    /// Accepts a connection. The peer of a local socket is this machine: 127.0.0.1 without a port.
    pub(crate) async fn accept(&self) -> io::Result<(Connection, SocketAddr)> {
        match self {
            Self::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                Ok((Connection::Tcp(stream), peer))
            }
            Self::Local(socket, _) => {
                let (stream, _) = socket.accept().await?;
                Ok((Connection::Local(stream), (Ipv4Addr::LOCALHOST, 0).into()))
            }
        }
    }

    /// Returns the address, with the actual port; `None` for a local socket.
    pub(crate) fn address(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Tcp(socket) => socket.local_addr().map(Some),
            Self::Local(..) => Ok(None),
        }
    }
}

/// Removes the socket, so that clients see at once that nobody listens.
impl Drop for Acceptor {
    fn drop(&mut self) {
        if let Self::Local(_, path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}
