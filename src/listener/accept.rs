//! The sockets, and what all sessions share.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::arrival::{self, Arrival};
use super::counts::{Counted, Counts, Memory};
use super::guard::Guard;
use super::usage::Usage;
use super::{Direct, Endpoint, Settings, Socket};
use crate::base::Clock;
use crate::observe::maillog;
use crate::session::Reply;
use crate::spool::Intake;

/// Connections that wait to be accepted; the system caps it (net.core.somaxconn).
const BACKLOG: i32 = 4_096;

/// The pause after `accept` failed; each further one in a row is twice as long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(5);

/// How long `accept` pauses at most.
const LONGEST_ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// How long sessions have to hear that the program ends, whatever is under way.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What all listeners share.
pub struct Shared {
    /// What sessions go by.
    pub settings: ArcSwap<Settings>,
    /// Where messages go.
    pub spool: Arc<dyn Intake>,
    /// Where messages for direct servers go.
    pub direct: Arc<dyn Direct>,
    /// What tells when a message came.
    pub clock: Clock,
    pub(super) sessions: Arc<Counts<()>>,
    pub(super) of_listener: Arc<Counts<String>>,
    pub(super) of_address: Arc<Counts<IpAddr>>,
    pub(super) of_user: Arc<Counts<String>>,
    /// Those who hear their last word.
    pub(super) leaving: Arc<Counts<()>>,
    pub(super) memory: Arc<Memory>,
    pub(super) usage: Usage,
    pub(super) guard: Guard,
    stopping: watch::Sender<Stopping>,
}

/// A socket that accepts.
pub struct Listener {
    endpoint: Arc<ArcSwap<Endpoint>>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// Whether sessions are to end because the program does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(super) enum Stopping {
    No,
    BetweenMessages,
    AtOnce,
}

/// Among all sessions, and those of a listener.
pub(super) type Places = (Counted<()>, Counted<String>);

impl Shared {
    /// No session yet.
    pub fn new(
        settings: Settings,
        spool: Arc<dyn Intake>,
        direct: Arc<dyn Direct>,
        clock: Clock,
    ) -> Arc<Self> {
        Arc::new(Self {
            settings: ArcSwap::from_pointee(settings),
            spool,
            direct,
            clock,
            sessions: Counts::new(),
            of_listener: Counts::new(),
            of_address: Counts::new(),
            of_user: Counts::new(),
            leaving: Counts::new(),
            memory: Arc::default(),
            usage: Usage::default(),
            guard: Guard::default(),
            stopping: watch::Sender::new(Stopping::No),
        })
    }

    /// Sessions at this moment.
    pub fn sessions(&self) -> usize {
        self.sessions.of(&())
    }

    /// What tells that the program is to end.
    pub(super) fn stopping(&self) -> watch::Receiver<Stopping> {
        self.stopping.subscribe()
    }

    /// Asks all sessions to end between messages, and after `grace` to end wherever they are.
    pub async fn stop(&self, grace: Duration) {
        for (how, time) in [
            (Stopping::BetweenMessages, grace),
            (Stopping::AtOnce, LAST_WORDS),
        ] {
            self.stopping.send_replace(how);
            // What does not end by then is broken off; nothing was promised to it.
            let _ = tokio::time::timeout(time, self.ended()).await;
        }
    }

    async fn ended(&self) {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while self.sessions() + self.leaving.of(&()) > 0 {
            tick.tick().await;
        }
    }

    fn place(&self, endpoint: &Endpoint) -> Option<Places> {
        let most = self.settings.load().limits.sessions;
        let of_all = self.sessions.take((), most)?;
        let here = self
            .of_listener
            .take(endpoint.name.clone(), endpoint.sessions)?;
        Some((of_all, here))
    }
}

impl Listener {
    /// Binds an address, not for IPv4 where `only_v6` says so; [`Bound::serve`] then accepts.
    pub fn bind(address: SocketAddr, only_v6: bool) -> io::Result<Bound> {
        Bound::of(bind(address, only_v6)?)
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

fn bind(address: SocketAddr, only_v6: bool) -> io::Result<OwnedFd> {
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
    Ok(socket)
}

/// A socket that is bound, and accepts nothing yet.
pub struct Bound(TcpListener);

impl Bound {
    /// One that somebody else has bound, as systemd does.
    pub fn of(socket: OwnedFd) -> io::Result<Self> {
        let socket = std::net::TcpListener::from(socket);
        socket.set_nonblocking(true)?;
        TcpListener::from_std(socket).map(Self)
    }

    /// Begins to accept.
    pub fn serve(self, endpoint: Endpoint, shared: Arc<Shared>) -> io::Result<Listener> {
        let address = self.0.local_addr()?;
        let tls = match &endpoint.tls {
            None => "none",
            Some(tls) if tls.implicit => "implicit",
            Some(_) if endpoint.plaintext => "starttls",
            Some(_) => "required",
        };
        maillog::listening(&endpoint.name, address, tls);
        let endpoint = Arc::new(ArcSwap::from_pointee(endpoint));
        let task = tokio::spawn(accept(self.0, endpoint.clone(), shared));
        Ok(Listener {
            endpoint,
            address,
            task,
        })
    }
}

async fn accept(socket: TcpListener, endpoint: Arc<ArcSwap<Endpoint>>, shared: Arc<Shared>) {
    let (mut pause, mut spare) = (ACCEPT_PAUSE, spare());
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                pause = ACCEPT_PAUSE;
                admit(stream, peer, &endpoint, &shared);
            }
            Err(error) => {
                maillog::accept_failed(&endpoint.load().name, &error);
                let has_spare = is_out_of_files(&error) && spare.take().is_some();
                if !has_spare || !turn_one_away(&socket).await {
                    tokio::time::sleep(pause).await;
                    pause = (2 * pause).min(LONGEST_ACCEPT_PAUSE);
                }
            }
        }
        if spare.is_none() {
            spare = self::spare();
        }
    }
}

fn admit(
    stream: TcpStream,
    peer: SocketAddr,
    current: &Arc<ArcSwap<Endpoint>>,
    shared: &Arc<Shared>,
) {
    let endpoint = current.load_full();
    // Replies are small and awaited.
    let _ = stream.set_nodelay(true);
    let Some(places) = shared.place(&endpoint) else {
        let reply = Reply::too_many_sessions();
        maillog::turned_away(&endpoint.name, &peer.ip().to_canonical(), &reply);
        tokio::spawn(arrival::turn_away(stream, reply, endpoint, shared.clone()));
        return;
    };
    tokio::spawn(Arrival::new(stream, peer, current.clone(), places, shared.clone()).run());
}

/// A file descriptor that is given up where there is no other: with it, one client can be told why it
/// is not served, instead of waiting for a greeting.
fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

fn is_out_of_files(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE))
}

/// Whether there was one.
async fn turn_one_away(socket: &TcpListener) -> bool {
    let accepted = tokio::time::timeout(ACCEPT_PAUSE, socket.accept()).await;
    let Ok(Ok((stream, _))) = accepted else {
        return false;
    };
    let mut reply = Vec::new();
    Reply::too_many_sessions().write(&mut reply);
    // It fits into the empty buffer of a new connection, or nobody hears it.
    let _ = stream.try_write(&reply);
    true
}
