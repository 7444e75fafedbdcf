//! From an app to the stand-in for Exchange Online: messages are accepted durably, sent over TLS with
//! XOAUTH2, and deleted. Load, relay and stand-in are separate processes.
//!
//! `cargo bench --profile dist --bench end_to_end`, the profile of published binaries: with the release profile the
//! program's own code takes 4 MiB more.

mod common;
#[path = "common/program.rs"]
mod program;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Load, machine_time, median, memory, processor_time, send, verdict};
use program::{PROGRAM, Process, USERS, configuration, free_port, serve};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|word| word == "load") {
        return load(&arguments[2..]);
    }
    peak();
    throughput();
    latency();
}

/// The process that sends the load: `load ADDRESS SESSIONS MESSAGES USERS`.
fn load(arguments: &[String]) {
    let number = |place: usize| arguments[place].parse().expect("a number");
    let load = Load {
        servers: vec![arguments[0].parse().expect("an address")],
        sessions: number(1),
        messages: number(2),
        size: 4_096,
        kept: true,
        pipelining: true,
        users: number(3),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let took = runtime.expect("a runtime").block_on(send(load));
    println!("{}", took.as_secs_f64());
}

/// The program and the stand-in for Exchange Online, each in its own process.
struct Started {
    relay: Process,
    address: String,
    /// The HTTP address at which the stand-in reports how many messages it has received.
    http: String,
    _sandbox: Process,
    _folder: tempfile::TempDir,
}

fn start() -> Started {
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    let mut sandbox = Command::new(PROGRAM)
        .args(["sandbox", "--unlimited", "--keep", "0", "--ca"])
        .arg(&ca)
        .stdout(Stdio::piped())
        .spawn()
        .map(Process)
        .expect("starts");
    let mut line = String::new();
    let output = sandbox.0.stdout.take().expect("piped");
    BufReader::new(output)
        .read_line(&mut line)
        .expect("says where it is");
    let at: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    let smtp: std::net::SocketAddr = at["smtp"]
        .as_str()
        .expect("an address")
        .parse()
        .expect("an address");
    let port = free_port();
    configuration(
        folder.path(),
        smtp.port(),
        at["token_url"].as_str().expect("a URL"),
        port,
        "sessions = 8",
    );
    let relay = serve(folder.path(), port);
    Started {
        relay,
        address: format!("127.0.0.1:{port}"),
        http: at["http"].as_str().expect("an address").to_owned(),
        _sandbox: sandbox,
        _folder: folder,
    }
}

/// Sends this many messages over this many sessions of this many users, from a separate process.
fn send_from_outside(address: &str, sessions: u32, messages: u32, users: usize) {
    let numbers = [
        sessions.to_string(),
        messages.to_string(),
        users.to_string(),
    ];
    let load = Command::new(std::env::current_exe().expect("this program"))
        .args(["load", address])
        .args(numbers)
        .stdout(Stdio::null())
        .status();
    assert!(load.expect("runs").success());
}

/// Measures memory while many users sign in and send: a password check takes megabytes for a moment.
fn peak() {
    let started = start();
    send_from_outside(&started.address, 50, 10_000, USERS);
    let resident = memory(started.relay.0.id(), "VmHWM") as f64 / 1_024.0;
    verdict(
        "peak resident memory, 50 sessions of 20 users, MiB",
        format!("{resident:.1}"),
        "< 32",
        resident < 32.0,
    );
}

fn throughput() {
    let messages: u32 = 20_000;
    let started = start();
    let (relay, http) = (&started.relay, &started.http);
    let mut rates = Vec::new();
    let mut taken = 0;
    for round in 0..4 {
        let count = if round == 0 { 2_000 } else { messages };
        let (begin, machine) = (Instant::now(), machine_time());
        let processor = processor_time(relay.0.id());
        send_from_outside(&started.address, 16, count, 1);
        let accepted = begin.elapsed().as_secs_f64();
        taken += u64::from(count);
        while delivered(http) < taken {
            std::thread::sleep(Duration::from_millis(2));
            assert!(
                begin.elapsed() < Duration::from_secs(120),
                "not all were delivered"
            );
        }
        let took = begin.elapsed().as_secs_f64();
        let now = machine_time();
        let [idle, stolen, all] = [0, 1, 2].map(|at| now[at] - machine[at]);
        println!(
            "  round {round}: {count} messages accepted in {accepted:.2} s, delivered in {took:.2} s; \
             relay {:.0} us of processor time per message; machine {:.0} % idle, {:.0} % stolen by its host",
            (processor_time(relay.0.id()) - processor) * 1e6 / f64::from(count),
            100.0 * idle / all,
            100.0 * stolen / all,
        );
        if round > 0 {
            rates.push(f64::from(count) / took);
        }
    }
    let rate = median(rates);
    verdict(
        "end to end, 16 kept sessions, 4 KiB, messages/s",
        format!("{rate:.0}"),
        ">= 5000",
        rate >= 5_000.0,
    );
    let resident = memory(relay.0.id(), "VmHWM") as f64 / 1_024.0;
    verdict(
        "  the relay's peak resident memory, MB",
        format!("{resident:.1}"),
        "< 48",
        resident < 48.0,
    );
}

fn delivered(http: &str) -> u64 {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(http).expect("connects");
    stream
        .write_all(b"GET /sandbox/stats HTTP/1.0\r\n\r\n")
        .expect("writes");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("reads");
    let body = text.split("\r\n\r\n").nth(1).unwrap_or_default();
    let stats: serde_json::Value = serde_json::from_str(body).expect("JSON");
    stats["messages"].as_u64().expect("a number")
}

/// Measures latency. Here the stand-in runs in this process, so that one clock times both ends.
fn latency() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        mailferry::base::tls::install_provider();
        let folder = tempfile::tempdir().expect("a folder");
        let sandbox = program::sandbox().await;
        std::fs::write(folder.path().join("ca.pem"), &sandbox.ca).expect("writes");
        let port = free_port();
        configuration(
            folder.path(),
            sandbox.addresses.smtp.port(),
            &sandbox.token_url(),
            port,
            "sessions = 8",
        );
        let _relay = serve(folder.path(), port);
        let mut client =
            common::Client::open(std::net::SocketAddr::from(([127, 0, 0, 1], port))).await;
        let mut times = Vec::new();
        for sent in 1..=300 {
            let begin = Instant::now();
            client.send(4_096).await;
            sandbox.state.reached(sent).await;
            if sent > 50 {
                times.push(begin.elapsed().as_secs_f64() * 1_000.0);
            }
        }
        let time = median(times);
        verdict(
            "from an app's MAIL to the upstream's acceptance, median, ms",
            format!("{time:.2}"),
            "< 2",
            time < 2.0,
        );
    });
}
