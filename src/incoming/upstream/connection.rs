//! A connection to the mail server for commands of ours, and how mailferry signs in.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::base::limits::{READ_CHUNK, upstream as wait};
use crate::base::secret::ExposeSecret;
use crate::incoming::machine;
use crate::token::Access;
use crate::transport::remote::{ConnectError, RemoteHost, RemoteStream, Tls};
use crate::transport::smtp::{Auth, sasl};

/// The time that the mail server may take for one answer to the sign-in. Clients wait a minute or two.
const ANSWER: Duration = Duration::from_secs(60);

/// The maximum number of octets of one line from the mail server until the sign-in is answered.
const LINE: usize = 64 * 1024;

/// The maximum number of lines before the answer that counts.
pub(super) const LINES: usize = 200;

/// The reason why mailferry is not signed in to the mail server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// There is no protected connection to the host.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The mail server refused the sign-in.
    #[error("{host} refused the sign-in: {answer}{}", detail.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused {
        /// Host.
        host: String,
        /// The mail server's answer.
        answer: String,
        /// Details that the mail server sent before its answer: the JSON of XOAUTH2's error challenge.
        detail: Option<String>,
    },
    /// The mail server refused a command after the sign-in.
    #[error("{host} refused {command}: {answer}")]
    Command {
        /// Host.
        host: String,
        /// The command, without its arguments.
        command: String,
        /// The mail server's answer.
        answer: String,
    },
    /// The mail server refused the session, or does not speak the protocol.
    #[error("{host} does not answer as expected: {reason}")]
    Unexpected {
        /// Host.
        host: String,
        /// What was expected, and what came.
        reason: String,
    },
    /// The connection was lost.
    #[error("connection to {host} lost: {reason}")]
    Lost {
        /// Host.
        host: String,
        /// The cause.
        reason: String,
    },
}

/// A SASL exchange with one response (RFC 4422), in two steps: some servers refuse a long response in the
/// command's own line (`transport/smtp/exchange_online.md`, "IMAP and POP").
pub(super) struct Sasl {
    pub(super) mechanism: &'static str,
    pub(super) response: Zeroizing<String>,
}

impl Sasl {
    pub(super) fn of(auth: &Auth, access: Option<&Access>) -> Self {
        match auth {
            Auth::XOAuth2 { username } => Self {
                mechanism: "XOAUTH2",
                response: {
                    let token = access.map_or("", |access| access.token.expose_secret());
                    sasl::xoauth2(username, token)
                },
            },
            Auth::Plain { username, password } | Auth::Login { username, password } => Self {
                mechanism: "PLAIN",
                response: sasl::plain(username, password.expose_secret()),
            },
            Auth::None => Self {
                mechanism: "ANONYMOUS",
                response: Zeroizing::default(),
            },
        }
    }
}

/// A connection for commands of ours, line by line.
pub(crate) struct Connection {
    pub(crate) stream: RemoteStream,
    /// Octets that were received but not yet parsed.
    pub(crate) input: BytesMut,
    pub(crate) host: String,
}

impl Connection {
    pub(super) async fn open(host: &RemoteHost) -> Result<Self, UpstreamError> {
        let client = host.connect().await?;
        let stream = match host.tls {
            Tls::Implicit => host.handshake(client).await?,
            Tls::Starttls | Tls::None => RemoteStream::Plain(client),
        };
        Ok(Self {
            stream,
            input: BytesMut::new(),
            host: host.host.clone(),
        })
    }

    /// Performs the TLS handshake. Octets that arrived before it may come from an attacker (RFC 2595 §2.4).
    pub(super) async fn start_tls(mut self, host: &RemoteHost) -> Result<Self, UpstreamError> {
        self.input.clear();
        if let RemoteStream::Plain(client) = self.stream {
            self.stream = host.handshake(client).await?;
        }
        Ok(self)
    }

    pub(crate) async fn send(&mut self, line: &str) -> Result<(), UpstreamError> {
        let line = Zeroizing::new(format!("{line}\r\n"));
        let written = timeout(wait::CONNECT, async {
            self.stream.write_all(line.as_bytes()).await?;
            self.stream.flush().await
        });
        match written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.lost(error.to_string())),
            Err(_) => Err(self.lost("it does not read".into())),
        }
    }

    /// Reads a line, without its end.
    pub(super) async fn line(&mut self) -> Result<String, UpstreamError> {
        loop {
            if let Some(line) = machine::line(&mut self.input) {
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            if self.input.len() > LINE {
                return Err(self.unexpected(format!("a line is longer than {LINE} octets")));
            }
            self.fill(ANSWER).await?;
        }
    }

    /// Waits until more octets have arrived.
    pub(crate) async fn fill(&mut self, within: Duration) -> Result<(), UpstreamError> {
        self.input.reserve(READ_CHUNK);
        match timeout(within, self.stream.read_buf(&mut self.input)).await {
            Ok(Ok(0)) => Err(self.lost("the server closed the connection".into())),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.lost(error.to_string())),
            Err(_) => Err(self.lost(format!("no answer in {} s", within.as_secs()))),
        }
    }

    pub(crate) fn lost(&self, reason: String) -> UpstreamError {
        UpstreamError::Lost {
            host: self.host.clone(),
            reason,
        }
    }

    pub(crate) fn unexpected(&self, reason: String) -> UpstreamError {
        UpstreamError::Unexpected {
            host: self.host.clone(),
            reason,
        }
    }

    pub(crate) fn command_refused(&self, command: &str, answer: String) -> UpstreamError {
        UpstreamError::Command {
            host: self.host.clone(),
            command: command.to_owned(),
            answer,
        }
    }

    pub(super) fn refused(&self, answer: String, detail: Option<String>) -> UpstreamError {
        UpstreamError::Refused {
            host: self.host.clone(),
            answer,
            detail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn a_mail_server_that_says_nothing_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await;
        let mut connection = Connection {
            stream: RemoteStream::Plain(client.unwrap()),
            input: BytesMut::new(),
            host: "mail.example.com".into(),
        };
        tokio::time::pause();
        let error = connection.line().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "connection to mail.example.com lost: no answer in 60 s"
        );
    }
}
