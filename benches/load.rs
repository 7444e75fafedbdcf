//! An app sends at full speed beside 10,000 idle sessions and 2,000 sessions that send a message octet by
//! octet. Measures how much these sessions slow the app down, and how much memory the relay needs.
//!
//! `cargo bench --bench load`; needs 13,000 file descriptors in each of two processes (ulimit -Hn 13000)

mod common;
#[path = "common/program.rs"]
mod program;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{median, memory, verdict};

const IDLE: usize = 10_000;
const SLOW: usize = 2_000;
const MESSAGES: usize = 4_000;

/// The longest wait for a reply; a session that waits longer counts as hanging.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() {
    common::raise_file_limit();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let sandbox = runtime.block_on(program::sandbox());
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("ca.pem"), &sandbox.ca).expect("writes");
    let port = program::free_port();
    let smtp = sandbox.addresses.smtp.port();
    program::configuration(folder.path(), smtp, &sandbox.token_url(), port, "");
    let file = folder.path().join("mailferry.toml");
    let text = std::fs::read_to_string(&file).expect("reads");
    let limits = "[limits]\nsessions = 13000\nsessions_per_address = 0\nsessions_per_user = 0\ncommands = 100000\n";
    std::fs::write(&file, text + limits).expect("writes");
    let process = program::serve(folder.path(), port);
    let server = SocketAddr::from(([127, 0, 0, 1], port));

    app(server);
    let alone = app(server);
    let begin = Instant::now();
    let idle: Vec<Client> = (0..IDLE).map(|_| Client::connect(server)).collect();
    let mut slow: Vec<Client> = (0..SLOW).map(|_| Client::in_data(server)).collect();
    println!(
        "{IDLE} idle and {SLOW} slow sessions after {:.1} s",
        begin.elapsed().as_secs_f64()
    );
    let mut trickling: Vec<TcpStream> = slow.iter().map(Client::another).collect();
    let is_over = AtomicBool::new(false);
    let beside = std::thread::scope(|scope| {
        scope.spawn(|| trickle(&mut trickling, &is_over));
        let beside = app(server);
        is_over.store(true, Ordering::Relaxed);
        beside
    });
    let peak = memory(process.0.id(), "VmHWM") as f64 / 1_024.0;
    for client in &mut slow {
        let reply = client.say("\r\n.");
        assert!(
            reply.starts_with("250") || reply.starts_with("421"),
            "{reply}"
        );
    }
    for mut client in idle {
        assert!(client.say("NOOP").starts_with("250"));
    }
    println!("every session received a reply");
    let milliseconds = |times: &[f64]| format!("{:.2} ms", median(times.to_vec()) * 1_000.0);
    println!(
        "the app's message, median, alone: {}; beside them: {}",
        milliseconds(&alone),
        milliseconds(&beside)
    );
    let ratio = median(beside) / median(alone);
    verdict(
        "latency beside them, as a multiple of the latency alone",
        format!("{ratio:.2}"),
        "<= 2",
        ratio <= 2.0,
    );
    verdict(
        "peak resident memory",
        format!("{peak:.0} MB"),
        "< 400 MB",
        peak < 400.0,
    );
}

/// Sends an octet a second in each slow session.
fn trickle(slow: &mut [TcpStream], is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        let begin = Instant::now();
        for stream in slow.iter_mut() {
            stream.write_all(b"x").expect("it listens");
        }
        std::thread::sleep(Duration::from_secs(1).saturating_sub(begin.elapsed()));
    }
}

/// Sends messages one after the other. Returns the seconds that each took.
fn app(server: SocketAddr) -> Vec<f64> {
    let mut client = Client::signed_in(server);
    let message = String::from_utf8(common::message(4_096)).expect("text");
    let message = message.trim_end_matches("\r\n.\r\n").to_owned() + "\r\n.";
    let times = (0..MESSAGES).map(|_| {
        let begin = Instant::now();
        client.begin_message();
        let reply = client.say(&message);
        assert!(reply.starts_with("250"), "{reply}");
        begin.elapsed().as_secs_f64()
    });
    times.collect()
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        let mut client = Self(BufReader::with_capacity(512, stream));
        let greeting = client.reply();
        assert!(greeting.starts_with("220"), "{greeting}");
        client
    }

    fn signed_in(server: SocketAddr) -> Self {
        let mut client = Self::connect(server);
        client.say("EHLO app");
        assert!(client.say("AUTH PLAIN AGVycABsb2Fk").starts_with("235"));
        client
    }

    fn in_data(server: SocketAddr) -> Self {
        let mut client = Self::signed_in(server);
        client.begin_message();
        client.write("From: notifications@example.com\r\n\r\n");
        client
    }

    fn begin_message(&mut self) {
        for line in [
            "MAIL FROM:<notifications@example.com>",
            "RCPT TO:<someone@example.net>",
            "DATA",
        ] {
            let reply = self.say(line);
            assert!(reply.starts_with(['2', '3']), "{line}: {reply}");
        }
    }

    fn say(&mut self, line: &str) -> String {
        self.write(&format!("{line}\r\n"));
        self.reply()
    }

    fn write(&mut self, text: &str) {
        let written = self.0.get_mut().write_all(text.as_bytes());
        written.expect("it listens");
    }

    fn reply(&mut self) -> String {
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).expect("an answer in time");
            if line.as_bytes().get(3) != Some(&b'-') {
                return line;
            }
        }
    }

    fn another(&self) -> TcpStream {
        self.0.get_ref().try_clone().expect("a handle")
    }
}
