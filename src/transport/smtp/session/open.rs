//! The start of a session: connects, sets up TLS, signs in.

use bytes::BytesMut;

use super::Session;
use crate::base::Secret;
use crate::base::limits::upstream as wait;
use crate::base::secret::ExposeSecret;
use crate::transport::answer::Answer;
use crate::transport::remote::{self, ConnectError, RemoteStream, Tls};
use crate::transport::smtp::command::{self, Extensions};
use crate::transport::smtp::failure::Failure;
use crate::transport::smtp::sasl;
use crate::transport::smtp::server::{Auth, SmtpServer};
use crate::transport::smtp::stage::Stage;

impl Session {
    /// Connects and signs in; `token` is for XOAUTH2.
    pub async fn open(server: &SmtpServer, token: Option<&Secret>) -> Result<Self, Failure> {
        let mut session = Self::connect(server).await?;
        session.sign_in(server, token).await?;
        Ok(session)
    }

    /// Connects, and protects the connection as configured. Does not sign in yet.
    pub async fn connect(server: &SmtpServer) -> Result<Self, Failure> {
        let client = server.remote.connect().await?;
        let mut session = Self {
            host: server.remote.host.clone(),
            stream: match server.remote.tls {
                Tls::Implicit => server.remote.handshake(client).await?,
                Tls::Starttls | Tls::None => RemoteStream::Plain(client),
            },
            input: BytesMut::new(),
            service: server.service,
            extensions: Extensions::default(),
            offers: String::new(),
            in_step: false,
            is_spent: false,
        };
        session.expect(Stage::Greeting, wait::GREETING).await?;
        session.ehlo(server).await?;
        if server.remote.tls == Tls::Starttls {
            session = session.start_tls(server).await?;
            session.ehlo(server).await?;
        }
        Ok(session)
    }

    /// Returns the extensions that the server offered in reply to EHLO, in one line.
    pub fn offers(&self) -> &str {
        &self.offers
    }

    /// Describes the protection of the connection; `None` without TLS.
    pub fn tls(&self) -> Option<String> {
        remote::protection(&self.stream)
    }

    /// Sends EHLO, or HELO if the server does not support EHLO (RFC 5321 §3.2).
    async fn ehlo(&mut self, server: &SmtpServer) -> Result<(), Failure> {
        let hello = &server.hello;
        let ehlo = format!("EHLO {hello}\r\n");
        let reply = self.command(&ehlo, Stage::Ehlo, wait::GREETING).await?;
        let reply = if matches!(reply.code, 500 | 502) {
            let helo = format!("HELO {hello}\r\n");
            self.command(&helo, Stage::Ehlo, wait::GREETING).await?
        } else {
            reply
        };
        if !reply.is_completion() {
            return Err(self.refused(Stage::Ehlo, reply));
        }
        self.extensions = command::extensions(&reply.text);
        self.offers = reply.text.lines().skip(1).collect::<Vec<_>>().join(", ");
        Ok(())
    }

    async fn start_tls(mut self, server: &SmtpServer) -> Result<Self, Failure> {
        if !self.extensions.starttls {
            let reason = "the server does not offer STARTTLS; correct its `host` and `port`, or set its `tls`";
            return Err(Failure::Connect(ConnectError::Tls {
                host: self.host,
                reason: reason.into(),
            }));
        }
        self.write(b"STARTTLS\r\n", Stage::Tls, wait::GREETING)
            .await?;
        self.expect(Stage::Tls, wait::GREETING).await?;
        // Data that arrived in cleartext after the 220 may come from an attacker: discard it (RFC 3207 §6).
        self.input.clear();
        if let RemoteStream::Plain(client) = self.stream {
            self.stream = server.remote.handshake(client).await?;
        }
        Ok(self)
    }

    /// Signs in; `token` is for XOAUTH2.
    pub async fn sign_in(
        &mut self,
        server: &SmtpServer,
        token: Option<&Secret>,
    ) -> Result<(), Failure> {
        match &server.auth {
            Auth::None => Ok(()),
            Auth::XOAuth2 { username } => {
                let token = token.map_or("", |token| token.expose_secret());
                self.xoauth2(&sasl::xoauth2(username, token)).await
            }
            Auth::Plain { username, password } => {
                let response = sasl::plain(username, password.expose_secret());
                self.step("AUTH PLAIN", 334).await?;
                self.step(&response, 235).await
            }
            Auth::Login { username, password } => {
                self.step("AUTH LOGIN", 334).await?;
                self.step(&sasl::login(username), 334).await?;
                self.step(&sasl::login(password.expose_secret()), 235).await
            }
        }
    }

    /// Signs in with XOAUTH2, in two steps. On a failure some providers first send the reason in a further
    /// 334, which must be answered with an empty line.
    async fn xoauth2(&mut self, response: &str) -> Result<(), Failure> {
        self.step("AUTH XOAUTH2", 334).await?;
        let reply = self.auth_line(response).await?;
        if reply.code != 334 {
            return self.signed_in(reply, 235, None);
        }
        let detail = sasl::challenge_detail(&reply.text);
        let last = self.auth_line("").await?;
        self.signed_in(last, 235, detail)
    }

    async fn step(&mut self, line: &str, expected: u16) -> Result<(), Failure> {
        let reply = self.auth_line(line).await?;
        self.signed_in(reply, expected, None)
    }

    async fn auth_line(&mut self, line: &str) -> Result<Answer, Failure> {
        let line = zeroize::Zeroizing::new(format!("{line}\r\n"));
        self.command(&line, Stage::Auth, wait::GREETING).await
    }

    fn signed_in(
        &self,
        reply: Answer,
        expected: u16,
        detail: Option<String>,
    ) -> Result<(), Failure> {
        if reply.code == expected {
            return Ok(());
        }
        Err(Failure::Refused {
            host: self.host.clone(),
            stage: Stage::Auth,
            answer: reply,
            detail,
        })
    }
}
