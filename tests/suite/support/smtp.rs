//! A legacy app that sends the commands that a test gives it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use mailferry::base::tls;
use rustls::{ClientConnection, StreamOwned};

use super::SOON;

/// An app's connection to the program.
pub struct Smtp {
    reader: BufReader<Stream>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Smtp {
    pub fn connect(address: SocketAddr) -> Self {
        let mut client = Self::silent(address);
        let greeting = client.reply();
        assert!(greeting.starts_with("220"), "{greeting}");
        client
    }

    /// Connects, but does not read the greeting yet.
    pub fn silent(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connects");
        stream.set_read_timeout(Some(SOON)).expect("timeout");
        Self {
            reader: BufReader::new(Stream::Plain(stream)),
        }
    }

    /// Performs the TLS handshake with `host` and trusts these roots. The error says why the server is not
    /// trusted.
    pub fn protected(self, host: &'static str, roots: &Path) -> Result<Self, String> {
        let Stream::Plain(stream) = self.reader.into_inner() else {
            return Err("TLS within TLS".into());
        };
        let roots = tls::read_certificates(roots).expect("roots");
        let config = Arc::new(tls::client_config(&roots).expect("TLS"));
        let host = host.try_into().expect("a name");
        let connection = ClientConnection::new(config, host).expect("TLS");
        let mut stream = StreamOwned::new(connection, stream);
        while stream.conn.is_handshaking() {
            let done = stream.conn.complete_io(&mut stream.sock);
            done.map_err(|error| error.to_string())?;
        }
        Ok(Self {
            reader: BufReader::new(Stream::Tls(Box::new(stream))),
        })
    }

    /// Returns the certificate that the server has presented.
    pub fn certificate(&self) -> Option<Vec<u8>> {
        match self.reader.get_ref() {
            Stream::Plain(_) => None,
            Stream::Tls(stream) => Some(stream.conn.peer_certificates()?.first()?.to_vec()),
        }
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).expect("writes");
    }

    /// Like [`Smtp::raw`], but the server may have closed the connection.
    pub fn try_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// Reads the next reply, with all its lines.
    pub fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let start = reply.len();
            if self.reader.read_line(&mut reply).unwrap_or(0) == 0 {
                return reply;
            }
            if reply.as_bytes().get(start + 3) != Some(&b'-') {
                return reply;
            }
        }
    }

    /// Reads a line without its end; empty if the server has closed the connection.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        let _ = self.reader.read_line(&mut line);
        line.trim_end_matches(['\r', '\n']).to_owned()
    }

    /// Reads lines up to one that begins like this, and returns them all.
    pub fn until(&mut self, start: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let count = self.reader.read_line(&mut line).unwrap_or(0);
            assert!(count > 0, "no {start:?} after {lines:?}");
            let is_last = line.starts_with(start);
            lines.push(line.trim_end_matches(['\r', '\n']).to_owned());
            if is_last {
                return lines;
            }
        }
    }

    /// Reads this many octets.
    pub fn octets(&mut self, count: usize) -> Vec<u8> {
        let mut octets = vec![0; count];
        self.reader.read_exact(&mut octets).expect("octets");
        octets
    }

    pub fn command(&mut self, line: &str) -> String {
        self.raw(format!("{line}\r\n").as_bytes());
        self.reply()
    }

    /// Like [`Smtp::command`], but the server may have closed the connection: the reply is then empty.
    pub fn try_command(&mut self, line: &str) -> String {
        match self
            .reader
            .get_mut()
            .write_all(format!("{line}\r\n").as_bytes())
        {
            Ok(()) => self.reply(),
            Err(_) => String::new(),
        }
    }

    pub fn expect(&mut self, line: &str, code: &str) -> String {
        let reply = self.command(line);
        assert!(reply.starts_with(code), "{line}: {reply}");
        reply
    }

    /// Performs one transaction. Adds dot-stuffing to `message` and leaves its line ends as they are.
    pub fn send(&mut self, sender: &str, recipients: &[&str], message: &str) -> String {
        let reply = self.command(&format!("MAIL FROM:<{sender}>"));
        if !reply.starts_with("250") {
            return reply;
        }
        for recipient in recipients {
            self.expect(&format!("RCPT TO:<{recipient}>"), "250");
        }
        self.expect("DATA", "354");
        let stuffed = message.replace("\r\n.", "\r\n..");
        self.raw(format!("{stuffed}\r\n.\r\n").as_bytes());
        self.reply()
    }

    /// Performs a transaction that may already be refused at DATA.
    pub fn send_or_refused(&mut self, sender: &str, message: &str) -> String {
        self.expect(&format!("MAIL FROM:<{sender}>"), "250");
        self.expect("RCPT TO:<someone@example.net>", "250");
        let reply = self.command("DATA");
        if !reply.starts_with("354") {
            return reply;
        }
        self.raw(format!("{message}.\r\n").as_bytes());
        self.reply()
    }

    /// True if the server has closed the connection.
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        matches!(self.reader.read(&mut byte), Ok(0) | Err(_))
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(octets),
            Self::Tls(stream) => stream.write(octets),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
