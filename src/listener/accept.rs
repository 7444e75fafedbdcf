//! The sockets, and how many sessions there may be.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::connection::Connection;
use super::{Direct, Endpoint, Settings};
use crate::base::Clock;
use crate::observe::maillog;
use crate::session::Reply;
use crate::spool::Spool;

/// Connections that wait to be accepted; the system caps it (net.core.somaxconn).
const BACKLOG: u32 = 4_096;

/// The pause after `accept` failed, as it does while file descriptors are used up.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a client that is turned away may take to read why.
const TURN_AWAY: Duration = Duration::from_secs(5);

/// What all listeners share.
pub struct Shared {
    /// What sessions go by.
    pub settings: ArcSwap<Settings>,
    /// Where messages go.
    pub spool: Arc<dyn Spool>,
    /// Where messages for direct servers go.
    pub direct: Arc<dyn Direct>,
    /// What tells when a message came.
    pub clock: Clock,
    sessions: AtomicUsize,
    stopping: watch::Sender<bool>,
}

/// A socket that accepts.
pub struct Listener {
    endpoint: Arc<ArcSwap<Endpoint>>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// A session's place, given back when it ends.
pub(super) struct Place(Arc<Shared>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Shared {
    /// No session yet.
    pub fn new(
        settings: Settings,
        spool: Arc<dyn Spool>,
        direct: Arc<dyn Direct>,
        clock: Clock,
    ) -> Arc<Self> {
        Arc::new(Self {
            settings: ArcSwap::from_pointee(settings),
            spool,
            direct,
            clock,
            sessions: AtomicUsize::new(0),
            stopping: watch::Sender::new(false),
        })
    }

    /// Sessions at this moment.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Acquire)
    }

    /// Turns true when the program is to end.
    pub(super) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Asks all sessions to end where they may, and waits up to `grace` for it.
    pub async fn stop(&self, grace: Duration) {
        self.stopping.send_replace(true);
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        let ended = async {
            while self.sessions() > 0 {
                tick.tick().await;
            }
        };
        // Sessions beyond that are broken off; nothing was promised to them.
        let _ = tokio::time::timeout(grace, ended).await;
    }

    fn place(self: &Arc<Self>) -> Option<Place> {
        let most = self.settings.load().sessions;
        let taken = self
            .sessions
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
                (count < most).then_some(count + 1)
            });
        taken.ok().map(|_| Place(self.clone()))
    }
}

impl Listener {
    /// Binds; [`Bound::serve`] then accepts.
    pub fn bind(endpoint: Endpoint) -> io::Result<Bound> {
        let socket = match endpoint.address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.bind(endpoint.address)?;
        Ok(Bound {
            socket: socket.listen(BACKLOG)?,
            endpoint,
        })
    }

    /// The address with the port that it got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it was asked to listen.
    pub fn asked(&self) -> SocketAddr {
        self.endpoint.load().address
    }

    /// New sessions go by `endpoint`, whose address is the same.
    pub fn reconfigure(&self, endpoint: Endpoint) {
        self.endpoint.store(Arc::new(endpoint));
    }

    /// Accepts no more; sessions go on.
    pub fn close(&self) {
        self.task.abort();
    }
}

/// A socket that is bound, and accepts nothing yet.
pub struct Bound {
    socket: TcpListener,
    endpoint: Endpoint,
}

impl Bound {
    /// The address that was asked for.
    pub fn asked(&self) -> SocketAddr {
        self.endpoint.address
    }

    /// The address with the port that it got.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Begins to accept.
    pub fn serve(self, shared: Arc<Shared>) -> io::Result<Listener> {
        let address = self.address()?;
        maillog::listening(address, self.endpoint.tls.is_some());
        let endpoint = Arc::new(ArcSwap::from_pointee(self.endpoint));
        let task = tokio::spawn(accept(self.socket, endpoint.clone(), shared));
        Ok(Listener {
            endpoint,
            address,
            task,
        })
    }
}

async fn accept(socket: TcpListener, endpoint: Arc<ArcSwap<Endpoint>>, shared: Arc<Shared>) {
    loop {
        let (stream, peer) = match socket.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                maillog::session_failed("", &error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Replies are small and awaited.
        let _ = stream.set_nodelay(true);
        match shared.place() {
            Some(place) => {
                let connection = Connection::new(
                    stream,
                    peer.ip().to_canonical(),
                    &endpoint.load(),
                    shared.clone(),
                );
                tokio::spawn(connection.run(place));
            }
            None => drop(tokio::spawn(turn_away(stream))),
        }
    }
}

async fn turn_away(mut stream: TcpStream) {
    let mut reply = Vec::new();
    Reply::too_many_sessions().write(&mut reply);
    let said = async {
        stream.write_all(&reply).await?;
        stream.shutdown().await
    };
    // Whether it was heard changes nothing.
    let _ = tokio::time::timeout(TURN_AWAY, said).await;
}
