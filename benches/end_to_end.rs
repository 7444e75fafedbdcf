//! From an app to the stand-in for Exchange Online: accepted durably, sent over TLS with XOAUTH2,
//! deleted; load, relay and stand-in are processes of their own.
//!
//! `cargo bench --bench end_to_end`

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Load, machine_time, median, memory, processor_time, send, verdict};
use mailferry::sandbox::{Addresses, App, Limits, Mailbox, Sandbox, Settings};

const PROGRAM: &str = env!("CARGO_BIN_EXE_mailferry");

/// A process that ends with its owner.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|word| word == "load") {
        return load(&arguments[2..]);
    }
    throughput();
    latency();
}

/// The load's own process: `load ADDRESS SESSIONS MESSAGES`.
fn load(arguments: &[String]) {
    let number = |place: usize| arguments[place].parse().expect("a number");
    let load = Load {
        server: arguments[0].parse().expect("an address"),
        sessions: number(1),
        messages: number(2),
        size: 4_096,
        kept: true,
        pipelining: true,
        auth: true,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let took = runtime.expect("a runtime").block_on(send(load));
    println!("{}", took.as_secs_f64());
}

fn configuration(folder: &Path, smtp: u16, token_url: &str, port: u16) {
    let text = format!(
        "host = \"relay.example.com\"\ndata_dir = \"data\"\n[log]\nlevel = \"info\"\n\
         [[listener]]\naddress = \"127.0.0.1:{port}\"\n\
         [[user]]\nname = \"erp\"\npassword = {{ file = \"erp.argon2\" }}\n\
         [oauth.o]\ntenant = \"contoso\"\nclient_id = \"sandbox-app\"\nclient_secret = {{ env = \"BENCH_SECRET\" }}\n\
         token_url = \"{token_url}\"\nca = \"ca.pem\"\n\
         [[server]]\nname = \"n\"\nusername = \"notifications@example.com\"\nfrom_filter = \"example.com\"\noauth = \"o\"\n\
         grant = \"client_credentials\"\nhost = \"localhost\"\nport = {smtp}\nca = \"ca.pem\"\nsessions = 8\nmessages_per_minute = 0\nrecipients_per_day = 0\n"
    );
    std::fs::write(folder.join("mailferry.toml"), text).expect("writes");
    let hash = Command::new("sh")
        .arg("-c")
        .arg(format!(
            "echo load | {PROGRAM} hash-password -o {}",
            folder.join("erp.argon2").display()
        ))
        .status();
    assert!(hash.expect("runs").success());
}

fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    socket.local_addr().expect("bound").port()
}

fn serve(folder: &Path, port: u16) -> Process {
    let log = std::fs::File::create(folder.join("log")).expect("a log");
    let child = Command::new(PROGRAM)
        .args(["serve", "--config"])
        .arg(folder.join("mailferry.toml"))
        .env("BENCH_SECRET", "sandbox-secret")
        .stderr(log)
        .spawn();
    let process = Process(child.expect("starts"));
    let server = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let begin = Instant::now();
    while common::greeted(server, Duration::from_secs(1)).is_none() {
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "it does not start"
        );
    }
    process
}

fn throughput() {
    let messages: u32 = 20_000;
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
    );
    let relay = serve(folder.path(), port);
    let http = at["http"].as_str().expect("an address").to_owned();
    let mut rates = Vec::new();
    let mut taken = 0;
    for round in 0..4 {
        let count = if round == 0 { 2_000 } else { messages };
        let (begin, machine) = (Instant::now(), machine_time());
        let processor = processor_time(relay.0.id());
        let load = Command::new(std::env::current_exe().expect("this program"))
            .args([
                "load",
                &format!("127.0.0.1:{port}"),
                "16",
                &count.to_string(),
            ])
            .stdout(Stdio::null())
            .status();
        assert!(load.expect("runs").success());
        let accepted = begin.elapsed().as_secs_f64();
        taken += u64::from(count);
        while delivered(&http) < taken {
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
             relay {:.0} us of processor each; machine {:.0} % idle, {:.0} % stolen by its host",
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

/// The stand-in is in this process here, so that its clock is ours.
fn latency() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        mailferry::base::tls::install_provider();
        let folder = tempfile::tempdir().expect("a folder");
        let mailbox = Mailbox {
            address: "notifications@example.com".parse().expect("an address"),
            shared_with: Vec::new(),
            send_as: Vec::new(),
            refresh_token: None,
        };
        let settings = Settings {
            tenant: "contoso".into(),
            apps: vec![App::with_secret("sandbox-app", "sandbox-secret")],
            mailboxes: vec![mailbox],
            clock_skew: 0,
            token_life: Duration::from_secs(3_600),
            rotates: false,
            limits: Limits::none(),
            keep: 0,
        };
        let sandbox = Sandbox::start(settings, Addresses::default())
            .await
            .expect("starts");
        std::fs::write(folder.path().join("ca.pem"), &sandbox.ca).expect("writes");
        let port = free_port();
        configuration(
            folder.path(),
            sandbox.addresses.smtp.port(),
            &sandbox.token_url(),
            port,
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
