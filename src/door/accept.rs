//! The sockets that accept connections.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::arrival::{self, Arrival};
use super::endpoint::{Endpoint, Socket};
use super::service::Protocol;
use super::shared::Door;
use super::turned_away::TurnedAway;
use crate::observe::maillog;
use crate::platform::connection::{Acceptor, Connection};
use crate::platform::sockets;

/// The pause after `accept` fails; it doubles with each further failure in a row.
const ACCEPT_PAUSE: Duration = Duration::from_millis(5);

/// The longest pause after a failure of `accept`.
const LONGEST_ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The protocol that new sessions speak.
type CurrentService = ArcSwap<Arc<dyn Protocol>>;

/// A socket that accepts connections. If this is dropped, the socket closes.
pub struct Listener {
    endpoint: Arc<ArcSwap<Endpoint>>,
    service: Arc<CurrentService>,
    /// `None` for a local socket.
    address: Option<SocketAddr>,
    /// Tells the task that accepts connections to end.
    closing: watch::Sender<bool>,
}

impl Listener {
    /// Binds an address. If `only_v6` is true, an IPv6 socket does not accept IPv4 clients. Then
    /// [`Bound::serve`] accepts connections.
    pub fn bind(address: SocketAddr, only_v6: bool) -> io::Result<Bound> {
        Bound::of(sockets::bind(address, only_v6)?)
    }

    /// Binds a local socket at a path, for users with these permission bits.
    pub async fn bind_path(path: &Path, mode: u32) -> io::Result<Bound> {
        Acceptor::at_path(path, mode).await.map(Bound)
    }

    /// Returns the bound address, with the actual port; `None` for a local socket.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Returns the bound address or path as text.
    pub fn shown(&self) -> String {
        let socket = || self.asked().to_string();
        self.address
            .map_or_else(socket, |address| address.to_string())
    }

    /// Returns the listener's name.
    pub fn name(&self) -> String {
        self.endpoint.load().name.clone()
    }

    /// Returns the socket as configured.
    pub fn asked(&self) -> Socket {
        self.endpoint.load().socket.clone()
    }

    /// True if clients can come through a proxy.
    pub fn has_proxies(&self) -> bool {
        !self.endpoint.load().proxies.is_empty()
    }

    /// Replaces the listener's settings; the socket must not change. New sessions apply the new settings at
    /// once, running sessions from their next message on.
    pub fn reconfigure(&self, endpoint: Endpoint) {
        self.endpoint.store(Arc::new(endpoint));
    }

    /// Changes the protocol of new sessions.
    pub fn replace(&self, service: Arc<dyn Protocol>) {
        self.service.store(Arc::new(service));
    }

    /// Stops accepting connections; running sessions continue. Clients that are already connected are still served.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Waits until a listener that has been closed has released its socket.
    pub async fn closed(&self) {
        self.closing.closed().await;
    }
}

/// A socket that is bound but does not accept connections yet.
pub struct Bound(Acceptor);

impl Bound {
    /// Wraps a socket that another process, such as systemd, has bound.
    pub fn of(socket: std::net::TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        TcpListener::from_std(socket).map(|socket| Self(Acceptor::Tcp(socket)))
    }

    /// Starts to accept connections.
    pub fn serve(
        self,
        endpoint: Endpoint,
        door: Arc<Door>,
        service: Arc<dyn Protocol>,
    ) -> io::Result<Listener> {
        let address = self.0.address()?;
        let tls = match &endpoint.tls {
            None => "none",
            Some(tls) if tls.implicit => "implicit",
            Some(_) if endpoint.plaintext => "starttls",
            Some(_) => "required",
        };
        let shown = address.map_or_else(|| endpoint.socket.to_string(), |it| it.to_string());
        maillog::listening(&endpoint.name, &shown, tls);
        let endpoint = Arc::new(ArcSwap::from_pointee(endpoint));
        let service = Arc::new(ArcSwap::from_pointee(service));
        let (closing, is_closing) = watch::channel(false);
        let current = (endpoint.clone(), service.clone());
        tokio::spawn(accept(self.0, current, door, is_closing));
        Ok(Listener {
            endpoint,
            service,
            address,
            closing,
        })
    }
}

async fn accept(
    socket: Acceptor,
    (endpoint, service): (Arc<ArcSwap<Endpoint>>, Arc<CurrentService>),
    door: Arc<Door>,
    mut closing: watch::Receiver<bool>,
) {
    let (mut pause, mut spare) = (ACCEPT_PAUSE, sockets::spare());
    let mut rest = sockets::BACKLOG;
    while rest > 0 {
        let accepted = tokio::select! {
            // A client that is connected but not accepted yet would see its connection reset.
            biased;
            accepted = socket.accept() => accepted,
            _ = closing.wait_for(|closing| *closing) => return,
        };
        if *closing.borrow() {
            rest -= 1;
        }
        match accepted {
            Ok((stream, peer)) => {
                pause = ACCEPT_PAUSE;
                admit(stream, peer, &endpoint, &door, &service.load());
            }
            Err(error) => {
                maillog::accept_failed(&endpoint.load().name, &error);
                let has_spare = sockets::is_out_of_files(&error) && spare.take().is_some();
                if !has_spare || !turn_one_away(&socket, &service.load_full()).await {
                    tokio::time::sleep(pause).await;
                    pause = (2 * pause).min(LONGEST_ACCEPT_PAUSE);
                }
            }
        }
        if spare.is_none() {
            spare = sockets::spare();
        }
    }
}

fn admit(
    stream: Connection,
    peer: SocketAddr,
    current: &Arc<ArcSwap<Endpoint>>,
    door: &Arc<Door>,
    service: &Arc<dyn Protocol>,
) {
    let endpoint = current.load_full();
    // Replies are small, and the client waits for them.
    stream.send_at_once();
    let (door, service) = (door.clone(), service.clone());
    let Some(places) = door.place(&endpoint) else {
        let said = service.farewell(&TurnedAway::TooMany);
        maillog::turned_away(&endpoint.name, &peer.ip().to_canonical(), &said);
        tokio::spawn(arrival::turn_away(stream, said, endpoint, door));
        return;
    };
    tokio::spawn(Arrival::new(stream, peer, current.clone(), places, door, service).run());
}

/// Uses a spare file descriptor to send one client the reason why it is not served, instead of letting it
/// wait for a greeting. Returns true if there was a client.
async fn turn_one_away(socket: &Acceptor, service: &Arc<dyn Protocol>) -> bool {
    let accepted = tokio::time::timeout(ACCEPT_PAUSE, socket.accept()).await;
    let Ok(Ok((stream, _))) = accepted else {
        return false;
    };
    // The reply should fit into the empty send buffer of a new connection; if it does not, it is lost.
    let _ = stream.try_write(&service.farewell(&TurnedAway::TooMany));
    true
}
