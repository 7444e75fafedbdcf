//! Reading through the program, compared with a TLS proxy like stunnel, which decrypts, encrypts again and copies. Both use the same libraries, the same client and the same mail server. Measures
//! the rate of a large message, what the sign-in costs besides the mail server's own round trips, and the memory
//! of sessions that wait in IDLE.
//!
//! `cargo bench --bench incoming`; needs 12,000 file descriptors in each of two processes (ulimit -Hn 12000)

mod common;
#[path = "common/program.rs"]
mod program;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use common::{median, memory, verdict};
use mailferry::base::tls;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

const MAILBOX: &str = "notifications@example.com";
const SIZE: usize = 200 * 1024 * 1024;
const ROUNDS: usize = 7;
const SIGN_INS: usize = 300;
const IDLE: usize = 5_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    tls::install_provider();
    common::raise_file_limit();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match &arguments[1..] {
        [mode, upstream, folder] if mode == "pass" => {
            runtime.block_on(pass_through(
                upstream.parse().expect("an address"),
                Path::new(folder),
            ));
        }
        _ => runtime.block_on(compare()),
    }
}

/// Listens with TLS, and connects each client to the mail server with TLS.
async fn pass_through(upstream: SocketAddr, folder: &Path) {
    let chain = tls::read_certificates(&folder.join("cert.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).expect("a key");
    let acceptor = TlsAcceptor::from(Arc::new(tls::server_config_of(chain, key).expect("TLS")));
    let connector = connector(&folder.join("ca.pem"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    println!("{}", listener.local_addr().expect("bound"));
    loop {
        let (stream, _) = listener.accept().await.expect("accepts");
        let (acceptor, connector) = (acceptor.clone(), connector.clone());
        tokio::spawn(async move {
            stream.set_nodelay(true).expect("no delay");
            let mut client = acceptor.accept(stream).await.expect("TLS");
            let mut server = connect(upstream, &connector).await;
            // A TLS record has at most 16 KiB.
            let copied =
                copy_bidirectional_with_sizes(&mut client, &mut server, 16 * 1024, 16 * 1024);
            let _ = copied.await;
        });
    }
}

fn connector(roots: &Path) -> TlsConnector {
    let roots = tls::read_certificates(roots).expect("roots");
    TlsConnector::from(Arc::new(tls::client_config(&roots).expect("TLS")))
}

async fn connect(server: SocketAddr, connector: &TlsConnector) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(server).await.expect("connects");
    stream.set_nodelay(true).expect("no delay");
    let name = "localhost".try_into().expect("a name");
    connector.connect(name, stream).await.expect("TLS")
}

/// A client of IMAP.
struct Client {
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

impl Client {
    async fn connect(server: SocketAddr, connector: &TlsConnector) -> Self {
        let mut client = Self {
            stream: connect(server, connector).await,
            buffer: Vec::with_capacity(64 * 1024),
        };
        client.until(b"* OK").await;
        client
    }

    async fn send(&mut self, text: &str) {
        self.stream
            .write_all(text.as_bytes())
            .await
            .expect("writes");
        self.stream.flush().await.expect("writes");
    }

    /// Reads until a line begins with `start`. Only the end of the input is kept.
    async fn until(&mut self, start: &[u8]) -> usize {
        let mut count = 0;
        self.buffer.clear();
        loop {
            let is_there = memchr::memmem::find(&self.buffer, start).is_some_and(|at| {
                let is_line = at == 0 || self.buffer[at - 1] == b'\n';
                is_line && self.buffer.ends_with(b"\n")
            });
            if is_there {
                return count;
            }
            if self.buffer.len() > 32 * 1024 {
                self.buffer.drain(..self.buffer.len() - 256);
            }
            let read = self.stream.read_buf(&mut self.buffer).await.expect("reads");
            assert!(
                read > 0,
                "closed: {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
            count += read;
        }
    }

    /// Signs in with the program's user.
    async fn login(&mut self) {
        self.send("l LOGIN erp load\r\n").await;
        self.until(b"l OK").await;
    }

    /// Signs in as the program does: XOAUTH2 in two steps, then the capabilities.
    async fn authenticate(&mut self, token: &str) {
        self.send("x AUTHENTICATE XOAUTH2\r\n").await;
        self.until(b"+").await;
        let response = format!("user={MAILBOX}\x01auth=Bearer {token}\x01\x01");
        self.send(&format!("{}\r\n", BASE64_STANDARD.encode(response)))
            .await;
        self.until(b"x OK").await;
        self.send("c CAPABILITY\r\n").await;
        self.until(b"c OK").await;
    }

    /// Fetches the large message. Returns MB a second.
    async fn fetch(&mut self) -> f64 {
        self.send("s SELECT INBOX\r\n").await;
        self.until(b"s OK").await;
        let begin = Instant::now();
        self.send("f FETCH 1 BODY[]\r\n").await;
        let count = self.until(b"f OK").await;
        assert!(count > SIZE, "{count} octets");
        SIZE as f64 / 1e6 / begin.elapsed().as_secs_f64()
    }
}

/// A token of the app, from the stand-in for Entra ID.
async fn token(http: SocketAddr) -> String {
    let url = format!("http://{http}/contoso/oauth2/v2.0/token");
    let body = "grant_type=client_credentials&client_id=sandbox-app&client_secret=sandbox-secret&scope=https%3A%2F%2Foutlook.office365.com%2F.default";
    let request = reqwest::Client::new().post(url).body(body);
    let request = request.header("Content-Type", "application/x-www-form-urlencoded");
    let answer = request.send().await.expect("an answer").text().await;
    let answer: serde_json::Value = serde_json::from_str(&answer.expect("text")).expect("JSON");
    answer["access_token"].as_str().expect("a token").to_owned()
}

async fn compare() {
    let sandbox = program::sandbox_that_keeps(1).await;
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    std::fs::write(at.join("ca.pem"), &sandbox.ca).expect("writes");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
    std::fs::write(at.join("cert.pem"), made.cert.pem()).expect("writes");
    std::fs::write(at.join("key.pem"), made.signing_key.serialize_pem()).expect("writes");
    let (smtp, imap) = (program::free_port(), program::free_port());
    let upstream = sandbox.addresses.imap;
    let keys = format!(
        "use = [\"smtp\", \"imap\"]\nimap = {{ host = \"localhost\", port = {} }}\n",
        upstream.port()
    );
    program::configuration(
        at,
        sandbox.addresses.smtp.port(),
        &sandbox.token_url(),
        smtp,
        &keys,
    );
    let file = at.join("mailferry.toml");
    let text = std::fs::read_to_string(&file).expect("reads");
    let listener = format!(
        "[[listener]]\nprotocol = \"imap\"\naddress = \"127.0.0.1:{imap}\"\ntls = \"implicit\"\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n"
    );
    let limits = "[limits]\nsessions = 12000\nsessions_per_address = 0\nsessions_per_user = 0\n";
    let text = text.replacen("[[user]]", &format!("{listener}{limits}[[user]]"), 1);
    let text = text.replacen("name = \"erp\"", "name = \"erp\"\nmailboxes = [\"n\"]", 1);
    std::fs::write(&file, text).expect("writes");
    let process = program::serve(at, smtp);
    let pass = Command::new(std::env::current_exe().expect("this program"))
        .args(["pass", &upstream.to_string()])
        .arg(at)
        .stdout(Stdio::piped())
        .spawn();
    let mut pass = program::Process(pass.expect("starts"));
    let mut line = String::new();
    let stdout = pass.0.stdout.take().expect("piped");
    BufReader::new(stdout)
        .read_line(&mut line)
        .expect("an address");
    let through: SocketAddr = line.trim().parse().expect("an address");
    let ours = SocketAddr::from(([127, 0, 0, 1], imap));
    let connector_of_listeners = connector(&at.join("cert.pem"));
    let connector_of_upstream = connector(&at.join("ca.pem"));
    let token = token(sandbox.addresses.http).await;

    rate(&sandbox, ours, through, &connector_of_listeners, &token).await;
    sign_in(
        ours,
        upstream,
        &connector_of_listeners,
        &connector_of_upstream,
        &token,
    )
    .await;
    idle(&process, ours, &connector_of_listeners).await;
}

/// Compares the median throughput for a large message.
async fn rate(
    sandbox: &mailferry::sandbox::Sandbox,
    ours: SocketAddr,
    through: SocketAddr,
    connector: &TlsConnector,
    token: &str,
) {
    let line = "0123456789abcdef".repeat(4) + "\r\n";
    let text = format!(
        "Subject: large\r\n\r\n{}",
        line.repeat(SIZE.div_ceil(line.len()))
    );
    sandbox.state.deposit(MAILBOX, text.into_bytes());
    let (mut rates, mut others) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut client = Client::connect(ours, connector).await;
        client.login().await;
        rates.push(client.fetch().await);
        let mut client = Client::connect(through, connector).await;
        client.authenticate(token).await;
        others.push(client.fetch().await);
    }
    let (rate, other) = (median(rates), median(others));
    println!("200 MiB: {rate:.0} MB/s through the program, {other:.0} MB/s through the TLS proxy");
    let ratio = rate / other;
    verdict(
        "throughput relative to the TLS proxy",
        format!("{ratio:.2}"),
        ">= 0.9",
        ratio >= 0.9,
    );
    sandbox
        .state
        .deposit(MAILBOX, b"Subject: small\r\n\r\n".to_vec());
}

/// Compares the time from LOGIN to its answer with the time that the same steps take at the mail server itself.
async fn sign_in(
    ours: SocketAddr,
    upstream: SocketAddr,
    to_ours: &TlsConnector,
    to_upstream: &TlsConnector,
    token: &str,
) {
    let (mut times, mut others) = (Vec::new(), Vec::new());
    for _ in 0..SIGN_INS {
        let mut client = Client::connect(ours, to_ours).await;
        let begin = Instant::now();
        client.login().await;
        times.push(begin.elapsed().as_secs_f64());
        let begin = Instant::now();
        let mut client = Client::connect(upstream, to_upstream).await;
        client.authenticate(token).await;
        others.push(begin.elapsed().as_secs_f64());
    }
    let (time, other) = (median(times) * 1e3, median(others) * 1e3);
    println!("sign-in: {time:.2} ms through the program, {other:.2} ms at the mail server itself");
    let cost = time - other;
    verdict(
        "cost of the sign-in",
        format!("{cost:.2} ms"),
        "<= 1 ms",
        cost <= 1.0,
    );
}

/// Measures the memory of sessions that wait, and how soon a new client beside them is greeted.
async fn idle(process: &program::Process, ours: SocketAddr, connector: &TlsConnector) {
    let greeted = async || {
        let mut times = Vec::new();
        for _ in 0..50 {
            let begin = Instant::now();
            Client::connect(ours, connector).await;
            times.push(begin.elapsed().as_secs_f64() * 1e3);
        }
        median(times)
    };
    let alone = greeted().await;
    let before = memory(process.0.id(), "VmRSS");
    let mut clients = Vec::with_capacity(IDLE);
    for _ in 0..IDLE {
        let mut client = Client::connect(ours, connector).await;
        client.login().await;
        client.send("s SELECT INBOX\r\n").await;
        client.until(b"s OK").await;
        client.send("i IDLE\r\n").await;
        client.until(b"+").await;
        clients.push(client);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let each = (memory(process.0.id(), "VmRSS") - before) as f64 / IDLE as f64;
    let beside = greeted().await;
    println!(
        "greeting for a new client: {alone:.2} ms without other sessions, {beside:.2} ms with {IDLE} idle sessions"
    );
    verdict(
        "memory of a session that waits, both ends with TLS",
        format!("{each:.1} KiB"),
        "<= 64 KiB",
        each <= 64.0,
    );
    let ratio = beside / alone;
    verdict(
        "time to the greeting, as a multiple of the time alone",
        format!("{ratio:.2}"),
        "<= 2",
        ratio <= 2.0,
    );
    for client in &mut clients {
        client.send("DONE\r\n").await;
        client.until(b"i OK").await;
    }
    println!("every session still answers");
}
