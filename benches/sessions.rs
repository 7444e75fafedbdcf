//! The cost of a message on the way to the server (handshakes, token requests, round trips), and the gain
//! from parallel sessions when the server is far away.
//!
//! `cargo bench --bench sessions`

mod common;
#[path = "common/program.rs"]
mod program;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Load, median, send, verdict};
use mailferry::sandbox::Sandbox;
use program::{configuration, free_port, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant as At;

/// A proxy in front of the server that adds a delay and counts connections and round trips.
#[derive(Default)]
struct Wire {
    connections: AtomicU64,
    /// The number of round trips: how often the client has sent something after the server had sent
    /// something.
    turns: AtomicU64,
}

impl Wire {
    /// Forwards to `server` with `delay` in each direction. Returns the port.
    async fn start(self: &Arc<Self>, server: SocketAddr, delay: Duration) -> u16 {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let port = socket.local_addr().expect("bound").port();
        let wire = self.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = socket.accept().await {
                let upstream = TcpStream::connect(server).await.expect("connects");
                for stream in [&client, &upstream] {
                    stream.set_nodelay(true).expect("no delay");
                }
                wire.connections.fetch_add(1, Ordering::Relaxed);
                let client_spoke = Arc::new(AtomicBool::new(false));
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = upstream.into_split();
                let (spoke, counts) = (client_spoke.clone(), wire.clone());
                forward(from_client, to_server, delay, move || {
                    if !spoke.swap(true, Ordering::Relaxed) {
                        counts.turns.fetch_add(1, Ordering::Relaxed);
                    }
                });
                forward(from_server, to_client, delay, move || {
                    client_spoke.store(false, Ordering::Relaxed);
                });
            }
        });
        port
    }
}

fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    delay: Duration,
    seen: impl Fn() + Send + 'static,
) {
    let (pieces, mut taken) = mpsc::unbounded_channel::<(At, Vec<u8>)>();
    tokio::spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            seen();
            let piece = (At::now() + delay, buffer[..count].to_vec());
            if pieces.send(piece).is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        while let Some((at, piece)) = taken.recv().await {
            if delay > Duration::ZERO {
                tokio::time::sleep_until(at).await;
            }
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    });
}

/// Delivers this many messages over this many sessions with this delay. Returns the time that the messages
/// took, and the proxy and the stand-in with their counts.
async fn deliver(
    messages: usize,
    sessions: usize,
    delay: Duration,
) -> (Duration, Arc<Wire>, Sandbox) {
    let folder = tempfile::tempdir().expect("a folder");
    let sandbox = program::sandbox().await;
    std::fs::write(folder.path().join("ca.pem"), &sandbox.ca).expect("writes");
    let wire = Arc::new(Wire::default());
    let way = wire.start(sandbox.addresses.smtp, delay).await;
    let (port, url) = (free_port(), sandbox.token_url());
    let keys = format!("sessions = {sessions}");
    configuration(folder.path(), way, &url, port, &keys);
    let relay = serve(folder.path(), port);
    let load = Load {
        servers: vec![SocketAddr::from(([127, 0, 0, 1], port))],
        sessions: 8,
        messages,
        size: 4_096,
        kept: true,
        pipelining: true,
        users: 1,
    };
    let begin = Instant::now();
    send(load).await;
    while sandbox.state.stats().messages < messages as u64 {
        assert!(begin.elapsed() < Duration::from_secs(120), "not all arrive");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = begin.elapsed();
    drop(relay);
    (took, wire, sandbox)
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (_, wire, sandbox) = runtime.block_on(deliver(1_000, 3, Duration::ZERO));
    let handshakes = wire.connections.load(Ordering::Relaxed);
    verdict(
        "1,000 messages to one mailbox: TLS handshakes",
        handshakes.to_string(),
        "<= 3",
        handshakes <= 3,
    );
    let tokens = sandbox.state.stats().token_requests;
    verdict("  token requests", tokens.to_string(), "1", tokens == 1);
    // The round trips that each session needs for itself are not counted: greeting, EHLO twice, STARTTLS,
    // TLS, AUTH, QUIT.
    let turns = wire
        .turns
        .load(Ordering::Relaxed)
        .saturating_sub(8 * handshakes) as f64
        / 1_000.0;
    verdict(
        "  round trips per message, including its data",
        format!("{turns:.2}"),
        "<= 2",
        turns <= 2.0,
    );
    let mut ratios = Vec::new();
    for _ in 0..3 {
        let far = Duration::from_millis(15);
        let (three, ..) = runtime.block_on(deliver(300, 3, far));
        let (one, ..) = runtime.block_on(deliver(300, 1, far));
        println!("  300 messages at 30 ms: {one:.2?} over one session, {three:.2?} over three");
        ratios.push(one.as_secs_f64() / three.as_secs_f64());
    }
    let ratio = median(ratios);
    verdict(
        "speed-up by three sessions to a server 30 ms away",
        format!("{ratio:.2}"),
        ">= 2.5",
        ratio >= 2.5,
    );
}
