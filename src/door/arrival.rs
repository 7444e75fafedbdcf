//! From a connection to a session: finds the client's address, checks its access, and starts TLS if it is
//! implicit.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::counts::{Counted, site};
use super::endpoint::Endpoint;
use super::proxy;
use super::service::{Protocol, Visitor};
use super::shared::{Door, SessionSlots};
use super::stream::{self, ClientStream};
use super::turned_away::TurnedAway;
use crate::base::limits;
use crate::observe::maillog;
use crate::platform::connection::Connection;

/// How long a client that is turned away may take to read the reason.
const TURN_AWAY: Duration = Duration::from_secs(5);

/// How long a client may keep sending after the last reply.
const LAST_WORD: Duration = Duration::from_secs(1);

/// The maximum number of octets that are read and discarded after a session. Closing a socket with unread
/// input would reset the connection, and the last reply would be lost.
const LINGER: u64 = 64 * 1024;

/// A connection at the door.
pub(super) struct Arrival {
    stream: Connection,
    peer: SocketAddr,
    endpoint: Arc<Endpoint>,
    /// The listener's current settings.
    current: Arc<ArcSwap<Endpoint>>,
    places: SessionSlots,
    door: Arc<Door>,
    service: Arc<dyn Protocol>,
}

/// Writes to the log if the session panics.
struct Watched<'a> {
    listener: &'a str,
    peer: IpAddr,
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let reason = "a defect in mailferry; please report it with the lines before this one";
            maillog::session_failed(self.listener, &self.peer, &reason);
        }
    }
}

impl Arrival {
    pub(super) fn new(
        stream: Connection,
        peer: SocketAddr,
        current: Arc<ArcSwap<Endpoint>>,
        places: SessionSlots,
        door: Arc<Door>,
        service: Arc<dyn Protocol>,
    ) -> Self {
        Self {
            stream,
            peer,
            endpoint: current.load_full(),
            current,
            places,
            door,
            service,
        }
    }

    /// Admits the client, and serves it until the session ends.
    pub(super) async fn run(mut self) {
        let (peer, is_check) = match self.client().await {
            Ok(client) => client,
            Err(error) => {
                let peer = self.peer.ip().to_canonical();
                return maillog::session_failed(&self.endpoint.name, &peer, &error);
            }
        };
        let _watched = Watched {
            listener: &self.endpoint.name,
            peer,
        };
        let place = match self.place(peer, is_check) {
            Ok(place) => place,
            Err(why) => {
                let said = self.service.farewell(&why);
                maillog::turned_away(&self.endpoint.name, &peer, &said);
                let text = String::from_utf8_lossy(&said);
                self.door
                    .refused(&self.endpoint.name, peer, "", text.trim());
                drop(self.places);
                return turn_away(self.stream, said, self.endpoint.clone(), self.door).await;
            }
        };
        let mut stream = if !self.endpoint.tls.as_ref().is_some_and(|tls| tls.implicit) {
            ClientStream::Plain(self.stream)
        } else {
            match implicit_tls(self.stream, &self.endpoint).await {
                Ok(stream) => stream,
                Err(reason) => {
                    self.door.refused(&self.endpoint.name, peer, "", &reason);
                    return maillog::session_failed(&self.endpoint.name, &peer, &reason);
                }
            }
        };
        if let Some(pause) = self.endpoint.early_talkers
            && talks_early(&mut stream, pause).await
        {
            let said = self.service.farewell(&TurnedAway::TalksEarly);
            maillog::turned_away(&self.endpoint.name, &peer, &said);
            drop((place, self.places));
            return say_and_close(stream, said, &self.door).await;
        }
        let visitor = Visitor {
            stream,
            peer,
            endpoint: self.current,
            door: self.door.clone(),
        };
        let stream = self.service.serve(visitor).await;
        drop((place, self.places));
        if let Some(stream) = stream {
            close(stream, &self.door).await;
        }
    }

    /// Returns the client's address: the peer's, or the one that a proxy names; and true if the connection is the proxy's
    /// own, which checks whether this listener works.
    async fn client(&mut self) -> Result<(IpAddr, bool), proxy::ProxyError> {
        let peer = self.peer.ip().to_canonical();
        let mut proxies = self.endpoint.proxies.iter();
        if !proxies.any(|network| network.contains(&peer)) {
            return Ok((peer, false));
        }
        let client = proxy::read(&mut self.stream).await?;
        let named = client.map(|client| client.ip().to_canonical());
        Ok((named.unwrap_or(peer), named.is_none()))
    }

    /// Reserves a slot for one more session from this address, or returns the reason why the client is turned
    /// away.
    fn place(&self, peer: IpAddr, is_check: bool) -> Result<Counted<IpAddr>, TurnedAway> {
        if is_check && self.door.is_draining() {
            return Err(TurnedAway::Draining);
        }
        if !self.endpoint.serves(peer) {
            return Err(TurnedAway::NoAccess(peer));
        }
        let settings = self.door.settings.load();
        let limits = &settings.limits;
        if let Some(left) = self.door.guard.shut_out(peer, limits, Instant::now()) {
            let seconds = left.as_secs();
            return Err(TurnedAway::ShutOut { peer, seconds });
        }
        let most = settings.limits.sessions_per_address;
        let place = self.door.of_address.take(site(peer), most);
        place.ok_or_else(|| TurnedAway::TooManyOf {
            whose: peer.to_string(),
            most,
            setting: "sessions_per_address",
        })
    }
}

async fn implicit_tls(stream: Connection, endpoint: &Endpoint) -> Result<ClientStream, String> {
    let config = endpoint.tls().ok_or("TLS: there is no certificate")?;
    let shaking = stream::start_tls(ClientStream::Plain(stream), config.clone());
    match timeout(limits::TLS_HANDSHAKE, shaking).await {
        Ok(shaken) => shaken.map_err(|error| format!("TLS: {}", stream::tls_words(&error))),
        Err(_) => Err("TLS: the client did not complete the handshake in time".into()),
    }
}

/// True if the client sends something during `pause`, when it should only wait for the greeting.
async fn talks_early(stream: &mut ClientStream, pause: Duration) -> bool {
    let mut octet = [0];
    matches!(timeout(pause, stream.read(&mut octet)).await, Ok(Ok(1)))
}

/// Sends the reason, unless the client expects TLS first, and closes the connection.
pub(super) async fn turn_away(
    stream: Connection,
    said: Vec<u8>,
    endpoint: Arc<Endpoint>,
    door: Arc<Door>,
) {
    if !endpoint.tls.as_ref().is_some_and(|tls| tls.implicit) {
        say_and_close(ClientStream::Plain(stream), said, &door).await;
    }
}

async fn say_and_close(mut stream: ClientStream, said: Vec<u8>, door: &Door) {
    // It does not matter whether the client reads this. A new connection's send buffer has room for it.
    let _ = timeout(TURN_AWAY, stream.write_all(&said)).await;
    close(stream, door).await;
}

/// Closes the connection in a way that lets the client receive the last reply, even if the client is still
/// sending.
async fn close(mut stream: ClientStream, door: &Door) {
    let most = door.settings.load().limits.lingering;
    let Some(_place) = door.lingering.take((), most) else {
        return;
    };
    let closing = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut (&mut stream).take(LINGER), &mut tokio::io::sink()).await
    };
    // The client may have disconnected already.
    let _ = timeout(LAST_WORD, closing).await;
}
