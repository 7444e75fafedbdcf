//! Shared by the benchmarks: a client that sends as fast as the server allows, and functions that measure.

#![allow(dead_code)]

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Returns a message of about `size` octets. Routing admits this message.
pub fn message(size: usize) -> Vec<u8> {
    let head = "From: App <notifications@example.com>\r\nTo: someone@example.net\r\nSubject: Load\r\n\
                Date: Sat, 22 Nov 2025 08:26:40 +0000\r\nMessage-ID: <load@example.com>\r\n\r\n";
    let line = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod\r\n";
    let mut text = head.to_owned();
    while text.len() + line.len() <= size {
        text.push_str(line);
    }
    text.push_str(".\r\n");
    text.into_bytes()
}

const ENVELOPE: &[u8] =
    b"MAIL FROM:<notifications@example.com>\r\nRCPT TO:<someone@example.net>\r\nDATA\r\n";

/// Reads complete replies, `count` lines in all; none of them may be 4yz or 5yz.
async fn replies(stream: &mut tokio::net::TcpStream, count: usize, buffer: &mut Vec<u8>) {
    buffer.clear();
    while buffer.iter().filter(|&&b| b == b'\n').count() < count {
        let read = stream.read_buf(buffer).await.expect("the server answers");
        assert!(
            read > 0,
            "the server closed: {:?}",
            String::from_utf8_lossy(buffer)
        );
    }
    let bad = buffer
        .split(|&b| b == b'\n')
        .find(|line| matches!(line.first(), Some(b'4' | b'5')));
    assert!(bad.is_none(), "{:?}", bad.map(String::from_utf8_lossy));
}

/// Opens a session with the server: greeting, EHLO, and AUTH if `user` is given.
async fn open(server: SocketAddr, user: Option<&str>) -> tokio::net::TcpStream {
    let mut stream = tokio::net::TcpStream::connect(server)
        .await
        .expect("connects");
    stream.set_nodelay(true).expect("nodelay");
    let mut buffer = Vec::new();
    replies(&mut stream, 1, &mut buffer).await;
    stream.write_all(b"EHLO load\r\n").await.expect("writes");
    buffer.clear();
    while !buffer
        .split(|&b| b == b'\n')
        .any(|line| line.starts_with(b"250 "))
    {
        let read = stream
            .read_buf(&mut buffer)
            .await
            .expect("the server answers");
        assert!(read > 0, "the server closed after EHLO");
    }
    if let Some(user) = user {
        let proof = BASE64_STANDARD.encode(format!("\0{user}\0load"));
        let line = format!("AUTH PLAIN {proof}\r\n");
        stream.write_all(line.as_bytes()).await.expect("writes");
        replies(&mut stream, 1, &mut buffer).await;
    }
    stream
}

/// Sends one message over a session, with pipelining if `pipelining`.
async fn transact(
    stream: &mut tokio::net::TcpStream,
    message: &[u8],
    pipelining: bool,
    buffer: &mut Vec<u8>,
) {
    if pipelining {
        stream.write_all(ENVELOPE).await.expect("writes");
        replies(stream, 3, buffer).await;
    } else {
        for line in ENVELOPE.split_inclusive(|&b| b == b'\n') {
            stream.write_all(line).await.expect("writes");
            replies(stream, 1, buffer).await;
        }
    }
    stream.write_all(message).await.expect("writes");
    replies(stream, 1, buffer).await;
}

/// The parameters of a load.
#[derive(Debug, Clone)]
pub struct Load {
    /// The sessions are spread over these.
    pub servers: Vec<SocketAddr>,
    pub sessions: usize,
    pub messages: usize,
    pub size: usize,
    pub kept: bool,
    pub pipelining: bool,
    /// The number of users that the sessions sign in as (`erp`, `erp1` and so on); 0 for no sign-in.
    pub users: usize,
}

/// The name of a user; all users have the password "load".
pub fn user(number: usize) -> String {
    match number {
        0 => "erp".into(),
        number => format!("erp{number}"),
    }
}

/// Sends a load. Returns the time it took.
pub async fn send(load: Load) -> Duration {
    let body = std::sync::Arc::new(message(load.size));
    let left = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(load.messages));
    let begin = Instant::now();
    let workers: Vec<_> = (0..load.sessions)
        .map(|number| {
            let user = number.checked_rem(load.users).map(user);
            let (body, left) = (body.clone(), left.clone());
            let server = load.servers[number % load.servers.len()];
            let take = move || {
                use std::sync::atomic::Ordering::Relaxed;
                left.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1))
                    .is_ok()
            };
            tokio::spawn(async move {
                let mut buffer = Vec::with_capacity(1_024);
                let mut session = None;
                while take() {
                    let mut stream = match session.take() {
                        Some(stream) => stream,
                        None => open(server, user.as_deref()).await,
                    };
                    transact(&mut stream, &body, load.pipelining, &mut buffer).await;
                    match load.kept {
                        true => session = Some(stream),
                        false => stream.write_all(b"QUIT\r\n").await.expect("writes"),
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.expect("a session of the load ends well");
    }
    begin.elapsed()
}

/// Connects and waits for the greeting, each step for at most `within`. Returns the connection and the time
/// it took, or `None`.
pub fn greeted(server: SocketAddr, within: Duration) -> Option<(TcpStream, Duration)> {
    let begin = Instant::now();
    let stream = TcpStream::connect_timeout(&server, within).ok()?;
    stream.set_read_timeout(Some(within)).ok()?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).ok()?;
    line.starts_with("220").then(|| (stream, begin.elapsed()))
}

/// The value of a line of /proc/PID/status, in KiB.
pub fn memory(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find(|line| line.starts_with(field))
        .unwrap_or_default();
    line.split_ascii_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .unwrap_or_default()
}

/// Returns the processor time that a process has used, in seconds. The fields utime and stime of
/// /proc/PID/stat count it in hundredths of a second.
pub fn processor_time(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = |place| -> f64 {
        let field = after_name.split_ascii_whitespace().nth(place);
        field.and_then(|ticks| ticks.parse().ok()).unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / 100.0
}

/// The processors' time until now, in ticks, from the first line of /proc/stat: idle time, time that the
/// host gave to other machines (steal), and the total.
pub fn machine_time() -> [f64; 3] {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<f64> = line
        .split_ascii_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|field| field.parse().ok())
        .collect();
    match ticks[..] {
        [_, _, _, idle, waiting, _, _, steal] => [idle + waiting, steal, ticks.iter().sum()],
        _ => [0.0; 3],
    }
}

/// Allows this process, and those that it starts, as many open files as the hard limit does.
pub fn raise_file_limit() {
    let limits = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limits.maximum,
        maximum: limits.maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("more files");
}

/// The median of several numbers.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The interval that contains the true median with a probability of 95 %: the figures whose places in order are 1.96 standard
/// deviations of the binomial distribution, `count.sqrt() / 2.0`, before and after the middle.
pub fn interval(figures: &[f64]) -> (f64, f64) {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    let count = figures.len() as f64;
    let place = (count / 2.0 - 0.98 * count.sqrt()).max(0.0) as usize;
    (figures[place], figures[figures.len() - 1 - place])
}

/// Prints a measured figure, the goal, and "ok" or "MISSED".
pub fn verdict(what: &str, figure: String, wanted: &str, good: bool) {
    println!(
        "{what:<64} {figure:>14}   wanted {wanted:<12} {}",
        if good { "ok" } else { "MISSED" }
    );
    std::io::stdout().flush().expect("prints");
}

/// A kept session that sends one message at a time.
pub struct Client {
    stream: tokio::net::TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub async fn open(server: SocketAddr) -> Self {
        Self {
            stream: open(server, Some("erp")).await,
            buffer: Vec::new(),
        }
    }

    pub async fn send(&mut self, size: usize) {
        transact(&mut self.stream, &message(size), true, &mut self.buffer).await;
    }
}
