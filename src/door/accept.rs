//! The sockets.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::arrival::{self, Arrival};
use super::endpoint::{Endpoint, Socket};
use super::service::Protocol;
use super::shared::Door;
use super::turned_away::TurnedAway;
use crate::observe::maillog;
use crate::platform::sockets;

/// The pause after `accept` failed; each further one in a row is twice as long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(5);

/// How long `accept` pauses at most.
const LONGEST_ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// A socket that accepts.
pub struct Listener {
    endpoint: Arc<ArcSwap<Endpoint>>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Listener {
    /// Binds an address, not for IPv4 where `only_v6` says so; [`Bound::serve`] then accepts.
    pub fn bind(address: SocketAddr, only_v6: bool) -> io::Result<Bound> {
        Bound::of(sockets::bind(address, only_v6)?)
    }

    /// The address with the port that it got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.endpoint.load().name.clone()
    }

    /// Where it was asked to listen.
    pub fn asked(&self) -> Socket {
        self.endpoint.load().socket.clone()
    }

    /// New sessions go by `endpoint`, whose socket is the same; those under way from their next message on.
    pub fn reconfigure(&self, endpoint: Endpoint) {
        self.endpoint.store(Arc::new(endpoint));
    }

    /// Accepts no more; sessions go on.
    pub fn close(&self) {
        self.task.abort();
    }
}

/// A socket that is bound, and accepts nothing yet.
pub struct Bound(TcpListener);

impl Bound {
    /// One that somebody else has bound, as systemd does.
    pub fn of(socket: std::net::TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        TcpListener::from_std(socket).map(Self)
    }

    /// Begins to accept.
    pub fn serve(
        self,
        endpoint: Endpoint,
        door: Arc<Door>,
        service: Arc<dyn Protocol>,
    ) -> io::Result<Listener> {
        let address = self.0.local_addr()?;
        let tls = match &endpoint.tls {
            None => "none",
            Some(tls) if tls.implicit => "implicit",
            Some(_) if endpoint.plaintext => "starttls",
            Some(_) => "required",
        };
        maillog::listening(&endpoint.name, address, tls);
        let endpoint = Arc::new(ArcSwap::from_pointee(endpoint));
        let task = tokio::spawn(accept(self.0, endpoint.clone(), door, service));
        Ok(Listener {
            endpoint,
            address,
            task,
        })
    }
}

async fn accept(
    socket: TcpListener,
    endpoint: Arc<ArcSwap<Endpoint>>,
    door: Arc<Door>,
    service: Arc<dyn Protocol>,
) {
    let (mut pause, mut spare) = (ACCEPT_PAUSE, sockets::spare());
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                pause = ACCEPT_PAUSE;
                admit(stream, peer, &endpoint, &door, &service);
            }
            Err(error) => {
                maillog::accept_failed(&endpoint.load().name, &error);
                let has_spare = sockets::is_out_of_files(&error) && spare.take().is_some();
                if !has_spare || !turn_one_away(&socket, service.as_ref()).await {
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
    stream: TcpStream,
    peer: SocketAddr,
    current: &Arc<ArcSwap<Endpoint>>,
    door: &Arc<Door>,
    service: &Arc<dyn Protocol>,
) {
    let endpoint = current.load_full();
    // Replies are small and awaited.
    let _ = stream.set_nodelay(true);
    let (door, service) = (door.clone(), service.clone());
    let Some(places) = door.place(&endpoint) else {
        let said = service.farewell(&TurnedAway::TooMany);
        maillog::turned_away(&endpoint.name, &peer.ip().to_canonical(), &said);
        tokio::spawn(arrival::turn_away(stream, said, endpoint, door));
        return;
    };
    tokio::spawn(Arrival::new(stream, peer, current.clone(), places, door, service).run());
}

/// With a spare file descriptor one client can be told why it is not served, instead of waiting for a
/// greeting. Whether there was one.
async fn turn_one_away(socket: &TcpListener, service: &dyn Protocol) -> bool {
    let accepted = tokio::time::timeout(ACCEPT_PAUSE, socket.accept()).await;
    let Ok(Ok((stream, _))) = accepted else {
        return false;
    };
    // It fits into the empty buffer of a new connection, or nobody hears it.
    let _ = stream.try_write(&service.farewell(&TurnedAway::TooMany));
    true
}
