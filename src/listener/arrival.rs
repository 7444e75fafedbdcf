//! From a connection to a session: who it is, whether it may come in, and TLS where that comes first.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::connection::Connection;
use super::counts::{Counted, site};
use super::shared::{Places, Shared};
use super::stream::{self, Stream};
use super::{Endpoint, proxy};
use crate::base::limits;
use crate::observe::maillog;
use crate::session::Reply;

/// How long a client that is turned away may take to read why.
const TURN_AWAY: Duration = Duration::from_secs(5);

/// How long a client may go on talking after the last word.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Octets that are read and thrown away from a client whose session is over: a socket that is closed
/// with unread input is reset, and what was said last is lost.
const LINGER: u64 = 64 * 1024;

/// A connection at the door.
pub(super) struct Arrival {
    stream: TcpStream,
    peer: SocketAddr,
    endpoint: Arc<Endpoint>,
    /// As it is configured by now.
    current: Arc<ArcSwap<Endpoint>>,
    places: Places,
    shared: Arc<Shared>,
}

/// Says in the log that a session panicked, where it did.
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
        stream: TcpStream,
        peer: SocketAddr,
        current: Arc<ArcSwap<Endpoint>>,
        places: Places,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            stream,
            peer,
            endpoint: current.load_full(),
            current,
            places,
            shared,
        }
    }

    /// Lets the client in, and serves it to its end.
    pub(super) async fn run(mut self) {
        let peer = match self.client().await {
            Ok(peer) => peer,
            Err(error) => {
                let peer = self.peer.ip().to_canonical();
                return maillog::session_failed(&self.endpoint.name, &peer, &error);
            }
        };
        let _watched = Watched {
            listener: &self.endpoint.name,
            peer,
        };
        let place = match self.place(peer) {
            Ok(place) => place,
            Err(reply) => {
                maillog::turned_away(&self.endpoint.name, &peer, &reply);
                drop(self.places);
                return turn_away(self.stream, reply, self.endpoint.clone(), self.shared).await;
            }
        };
        let mut stream = match self.endpoint.tls.as_ref().is_some_and(|tls| tls.implicit) {
            false => Stream::Plain(self.stream),
            true => match implicit_tls(self.stream, &self.endpoint).await {
                Ok(stream) => stream,
                Err(reason) => {
                    return maillog::session_failed(&self.endpoint.name, &peer, &reason);
                }
            },
        };
        if let Some(pause) = self.endpoint.early_talkers
            && talks_early(&mut stream, pause).await
        {
            let reply = Reply::early_talker();
            maillog::turned_away(&self.endpoint.name, &peer, &reply);
            drop((place, self.places));
            return say_and_close(stream, reply, &self.shared).await;
        }
        let shared = self.shared.clone();
        let connection = Connection::new(stream, peer, self.current, shared);
        let stream = connection.run().await;
        drop((place, self.places));
        if let Some(stream) = stream {
            close(stream, &self.shared).await;
        }
    }

    /// Who it is: the peer, or whom a proxy names.
    async fn client(&mut self) -> Result<IpAddr, proxy::ProxyError> {
        let peer = self.peer.ip().to_canonical();
        let mut proxies = self.endpoint.proxies.iter();
        if !proxies.any(|network| network.contains(&peer)) {
            return Ok(peer);
        }
        let client = proxy::read(&mut self.stream).await?;
        Ok(client.map_or(peer, |client| client.ip().to_canonical()))
    }

    /// A place among its like, or why it has none.
    fn place(&self, peer: IpAddr) -> Result<Counted<IpAddr>, Reply> {
        if !self.endpoint.serves(peer) {
            return Err(Reply::no_access(&peer));
        }
        let settings = self.shared.settings.load();
        let limits = &settings.limits;
        if let Some(left) = self.shared.guard.shut_out(peer, limits, Instant::now()) {
            return Err(Reply::shut_out(&peer, left.as_secs()));
        }
        let most = settings.limits.sessions_per_address;
        let place = self.shared.of_address.take(site(peer), most);
        place.ok_or_else(|| Reply::too_many_sessions_of(&peer, most, "sessions_per_address"))
    }
}

async fn implicit_tls(stream: TcpStream, endpoint: &Endpoint) -> Result<Stream, String> {
    let config = endpoint.tls().ok_or("TLS: there is no certificate")?;
    let shaking = stream::start_tls(Stream::Plain(stream), config.clone());
    match timeout(limits::TLS_HANDSHAKE, shaking).await {
        Ok(shaken) => shaken.map_err(|error| format!("TLS: {}", stream::tls_words(&error))),
        Err(_) => Err("TLS: the client did not shake hands in time".into()),
    }
}

/// Whether the client says something within the time in which it should only listen.
async fn talks_early(stream: &mut Stream, pause: Duration) -> bool {
    let mut octet = [0];
    matches!(timeout(pause, stream.read(&mut octet)).await, Ok(Ok(1)))
}

/// Says why, where the client would understand it without TLS, and closes.
pub(super) async fn turn_away(
    stream: TcpStream,
    reply: Reply,
    endpoint: Arc<Endpoint>,
    shared: Arc<Shared>,
) {
    if !endpoint.tls.as_ref().is_some_and(|tls| tls.implicit) {
        say_and_close(Stream::Plain(stream), reply, &shared).await;
    }
}

async fn say_and_close(mut stream: Stream, reply: Reply, shared: &Shared) {
    let mut said = Vec::new();
    reply.write(&mut said);
    // Whether it was heard changes nothing. A new connection's buffer takes it at once.
    let _ = timeout(TURN_AWAY, stream.write_all(&said)).await;
    close(stream, shared).await;
}

/// Closes so that what was said last is heard, whatever the client is still saying.
async fn close(mut stream: Stream, shared: &Shared) {
    let most = shared.settings.load().limits.leaving;
    let Some(_place) = shared.leaving.take((), most) else {
        return;
    };
    let closing = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut (&mut stream).take(LINGER), &mut tokio::io::sink()).await
    };
    // The client may be gone already.
    let _ = timeout(LAST_WORD, closing).await;
}
