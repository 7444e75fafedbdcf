//! Compares, in one run, our listener without a spool to mailin-embedded's server with 64 threads: the
//! messages per second at 50 sessions, the memory for 2,000 idle sessions, and the time until a new client
//! beside them is greeted.
//!
//! `cargo bench --bench listener`

mod common;
#[path = "common/relay.rs"]
mod relay;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Load, greeted, median, memory, send, verdict};

const SESSIONS: usize = 50;
const IDLE: usize = 2_000;
const ROUNDS: usize = 5;

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts a separate process: `serve ours` or `serve mailin`.
    fn start(which: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["serve", which])
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped"))
            .read_line(&mut line)
            .expect("an address");
        Self {
            child,
            address: line.trim().parse().expect("an address"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match (
        arguments.get(1).map(String::as_str),
        arguments.get(2).map(String::as_str),
    ) {
        (Some("serve"), Some("ours")) => serve_ours(),
        (Some("serve"), Some("mailin")) => serve_mailin(),
        _ => compare(),
    }
}

fn serve_ours() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let scratch = tempfile::tempdir().expect("a folder");
        let listener = relay::listen(relay::Bare::nowhere(scratch.path()));
        println!("{}", listener.shown());
        std::future::pending::<()>().await;
    });
}

#[derive(Clone)]
struct Swallow;

impl mailin_embedded::Handler for Swallow {}

fn serve_mailin() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    println!("{}", socket.local_addr().expect("bound"));
    let mut server = mailin_embedded::Server::new(Swallow);
    server
        .with_name("baseline")
        .with_ssl(mailin_embedded::SslConfig::None)
        .expect("no TLS")
        .with_num_threads(64)
        .with_tcp_listener(socket);
    server.serve().expect("serves");
}

fn compare() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (ours, theirs) = (Server::start("ours"), Server::start("mailin"));
    for (kept, messages, what) in [
        (true, 20_000, "kept sessions"),
        (false, 5_000, "a connection each"),
    ] {
        let rate = |server: &Server| {
            let load = Load {
                servers: vec![server.address],
                sessions: SESSIONS,
                messages,
                size: 4_096,
                kept,
                // mailin-embedded does not offer PIPELINING.
                pipelining: false,
                users: 0,
            };
            messages as f64 / runtime.block_on(send(load)).as_secs_f64()
        };
        let mut ratios = Vec::new();
        let (mut our_rates, mut their_rates) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (our, their) = (rate(&ours), rate(&theirs));
            ratios.push(our / their);
            our_rates.push(our);
            their_rates.push(their);
        }
        println!(
            "  {what}: ours {:.0}/s, mailin-embedded {:.0}/s (medians of {ROUNDS})",
            median(our_rates),
            median(their_rates)
        );
        let ratio = median(ratios);
        verdict(
            &format!("messages/s at 50 sessions, 4 KiB, {what}, ratio"),
            format!("{ratio:.2}"),
            ">= 1",
            ratio >= 1.0,
        );
    }
    drop((ours, theirs));
    idle("ours");
    idle("mailin");
}

fn idle(which: &str) {
    let server = Server::start(which);
    let before = memory(server.child.id(), "VmRSS");
    let mut kept = Vec::new();
    for _ in 0..IDLE {
        // Once the server does not greet a client in time, it will not greet further clients either.
        match greeted(server.address, Duration::from_millis(500)) {
            Some((stream, _)) => kept.push(stream),
            None => break,
        }
    }
    let each =
        memory(server.child.id(), "VmRSS").saturating_sub(before) as f64 / kept.len().max(1) as f64;
    let new = greeted(server.address, Duration::from_secs(2)).map(|(_, took)| took);
    match which {
        "ours" => {
            verdict(
                "idle sessions greeted",
                kept.len().to_string(),
                "2000",
                kept.len() == IDLE,
            );
            verdict(
                "  memory for each, KiB",
                format!("{each:.1}"),
                "< 20",
                each < 20.0,
            );
            let took = new.map_or("never".to_owned(), |took| {
                format!("{:.2} ms", took.as_secs_f64() * 1_000.0)
            });
            verdict(
                "  a new client beside them is greeted in",
                took,
                "at once",
                new.is_some(),
            );
        }
        _ => println!(
            "  mailin-embedded greets {} of {IDLE}; a new client then {}",
            kept.len(),
            if new.is_some() {
                "is greeted"
            } else {
                "is not greeted in 2 s"
            }
        ),
    }
}
