//! A server that replies as a test says, so that it can be faulty or unusual.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

/// The connections, commands and messages that the server has received.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub connections: usize,
    /// The command lines, without CRLF.
    pub commands: Vec<String>,
    /// The content of each message, dots unstuffed, including messages that were refused afterwards.
    pub contents: Vec<String>,
}

/// The events for which a test can choose the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked<'a> {
    Greeting,
    Command(&'a str),
    /// The message has ended.
    FinalDot(&'a str),
}

/// A reply that the server sends instead of the usual one, without the CRLF at its end.
pub type Answer = &'static str;

/// The server. It offers PIPELINING.
pub struct Smarthost {
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

type Script = dyn Fn(Asked<'_>, &Seen) -> Option<Answer> + Send + Sync;

impl Smarthost {
    /// Starts a server that replies as `script` says, and as usual if `script` returns `None`.
    pub fn start(
        script: impl Fn(Asked<'_>, &Seen) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let (script, shared): (Arc<Script>, _) = (Arc::new(script), seen.clone());
        // The threads end with the test's process; a connection's thread also ends with its connection.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, seen) = (script.clone(), shared.clone());
                std::thread::spawn(move || {
                    let _ = Conversation::new(stream, seen, script).hold();
                });
            }
        });
        Self { address, seen }
    }

    pub fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }

    /// Returns a `[[server]]` table for this server, without a filter.
    pub fn server(&self, name: &str) -> String {
        let port = self.address.port();
        format!(
            "\n[[server]]\nname = \"{name}\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\nauth = \"none\"\n"
        )
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().expect("no test panicked in it")
}

struct Conversation {
    reader: BufReader<TcpStream>,
    seen: Arc<Mutex<Seen>>,
    script: Arc<Script>,
}

impl Conversation {
    fn new(stream: TcpStream, seen: Arc<Mutex<Seen>>, script: Arc<Script>) -> Self {
        let _ = stream.set_nodelay(true);
        Self {
            reader: BufReader::new(stream),
            seen,
            script,
        }
    }

    fn hold(mut self) -> std::io::Result<()> {
        lock(&self.seen).connections += 1;
        self.answer(Asked::Greeting, "220 smarthost ready")?;
        loop {
            let line = self.line()?;
            lock(&self.seen).commands.push(line.clone());
            let usual = match line.split(' ').next().unwrap_or_default() {
                "EHLO" => {
                    "250-smarthost\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n250 8BITMIME"
                }
                "HELO" => "250 smarthost",
                "DATA" => "354 go on",
                "QUIT" => "221 bye",
                _ => "250 2.0.0 ok",
            };
            let said = self.answer(Asked::Command(&line), usual)?;
            if line == "DATA" && said.starts_with("354") {
                self.content()?;
            }
            if line == "QUIT" {
                return self.reader.get_mut().shutdown(Shutdown::Both);
            }
        }
    }

    fn content(&mut self) -> std::io::Result<()> {
        let mut content = String::new();
        loop {
            let line = self.line()?;
            if line == "." {
                break;
            }
            content.push_str(line.strip_prefix('.').unwrap_or(&line));
            content.push_str("\r\n");
        }
        lock(&self.seen).contents.push(content.clone());
        self.answer(Asked::FinalDot(&content), "250 2.0.0 taken")?;
        Ok(())
    }

    fn answer(&mut self, asked: Asked<'_>, usual: &'static str) -> std::io::Result<&'static str> {
        let seen = lock(&self.seen).clone();
        let said = (self.script)(asked, &seen).unwrap_or(usual);
        let stream = self.reader.get_mut();
        stream.write_all(format!("{said}\r\n").as_bytes())?;
        Ok(said)
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}
