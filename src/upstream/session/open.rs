//! How a session begins: connected, protected, signed in.

use std::net::SocketAddr;

use bytes::BytesMut;
use mail_send::SmtpClient;
use rustls::HandshakeKind;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{Session, Stream};
use crate::base::limits::upstream as wait;
use crate::base::secret::ExposeSecret;
use crate::base::{Secret, Timestamp};
use crate::session::{Reply, Stage};
use crate::upstream::command::{self, Extensions};
use crate::upstream::{Auth, Failure, Settings, Tls, auth};

impl Session {
    /// Connects and signs in; `token` is for XOAUTH2.
    pub async fn open(settings: &Settings, token: Option<&Secret>) -> Result<Self, Failure> {
        let mut session = Self::connect(settings).await?;
        session.sign_in(settings, token).await?;
        Ok(session)
    }

    /// Connects, and secures the connection as configured; nobody is signed in yet.
    pub async fn connect(settings: &Settings) -> Result<Self, Failure> {
        let client = connect(settings).await?;
        let implicit = settings.tls == Tls::Implicit;
        let mut session = Self {
            host: settings.host.clone(),
            stream: if implicit {
                handshake(settings, client).await?
            } else {
                Stream::Plain(client)
            },
            input: BytesMut::new(),
            service: settings.service,
            extensions: Extensions::default(),
            offers: String::new(),
            in_step: false,
            is_spent: false,
        };
        session.expect(Stage::Greeting, wait::GREETING).await?;
        session.ehlo(settings).await?;
        if settings.tls == Tls::Starttls {
            session = session.start_tls(settings).await?;
            session.ehlo(settings).await?;
        }
        Ok(session)
    }

    /// What EHLO offers, in one line.
    pub fn offers(&self) -> &str {
        &self.offers
    }

    /// How the connection is protected: the protocol, whether it goes on from an earlier handshake, and
    /// the certificate's names and dates.
    pub fn tls(&self) -> Option<String> {
        let Stream::Tls(stream) = &self.stream else {
            return None;
        };
        let (_, connection) = stream.get_ref();
        let version = connection.protocol_version();
        let version = version.map(|version| format!("{version:?}").replace("TLSv1_", "TLS 1."));
        let is_resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        let resumed = is_resumed.then(|| "resumed".to_owned());
        let certificate = connection
            .peer_certificates()
            .and_then(|chain| chain.first());
        let facts = certificate.and_then(|certificate| facts(certificate));
        Some(
            [version, resumed, facts]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(", "),
        )
    }

    async fn ehlo(&mut self, settings: &Settings) -> Result<(), Failure> {
        let command = format!("EHLO {}\r\n", settings.hello);
        self.write(command.as_bytes(), Stage::Ehlo, wait::GREETING)
            .await?;
        let reply = self.expect(Stage::Ehlo, wait::GREETING).await?;
        self.extensions = command::extensions(&reply.text);
        self.offers = reply.text.lines().skip(1).collect::<Vec<_>>().join(", ");
        Ok(())
    }

    async fn start_tls(mut self, settings: &Settings) -> Result<Self, Failure> {
        if !self.extensions.starttls {
            let reason = "the server does not offer STARTTLS; check host and port, or set the server's `tls`";
            return Err(Failure::Tls {
                host: self.host,
                reason: reason.into(),
            });
        }
        self.write(b"STARTTLS\r\n", Stage::Tls, wait::GREETING)
            .await?;
        self.expect(Stage::Tls, wait::GREETING).await?;
        // What came in clear behind the 220 is nobody's we know (RFC 3207 §6).
        self.input.clear();
        if let Stream::Plain(client) = self.stream {
            self.stream = handshake(settings, client).await?;
        }
        Ok(self)
    }

    /// Signs in; `token` is for XOAUTH2.
    pub async fn sign_in(
        &mut self,
        settings: &Settings,
        token: Option<&Secret>,
    ) -> Result<(), Failure> {
        match &settings.auth {
            Auth::None => Ok(()),
            Auth::XOAuth2 { username } => {
                let token = token.map_or("", |token| token.expose_secret());
                self.xoauth2(&auth::xoauth2(username, token)).await
            }
            Auth::Plain { username, password } => {
                let response = auth::plain(username, password.expose_secret());
                self.step("AUTH PLAIN", 334).await?;
                self.step(&response, 235).await
            }
            Auth::Login { username, password } => {
                self.step("AUTH LOGIN", 334).await?;
                self.step(&auth::login(username), 334).await?;
                self.step(&auth::login(password.expose_secret()), 235).await
            }
        }
    }

    /// Two steps; on a failure some providers explain themselves in a further 334 first, which an
    /// empty line answers.
    async fn xoauth2(&mut self, response: &str) -> Result<(), Failure> {
        self.step("AUTH XOAUTH2", 334).await?;
        let reply = self.auth_line(response).await?;
        if reply.code != 334 {
            return self.signed_in(reply, 235, None);
        }
        let detail = auth::challenge_detail(&reply.text);
        let last = self.auth_line("").await?;
        self.signed_in(last, 235, detail)
    }

    async fn step(&mut self, line: &str, expected: u16) -> Result<(), Failure> {
        let reply = self.auth_line(line).await?;
        self.signed_in(reply, expected, None)
    }

    async fn auth_line(&mut self, line: &str) -> Result<Reply, Failure> {
        let line = zeroize::Zeroizing::new(format!("{line}\r\n"));
        self.command(&line, Stage::Auth, wait::GREETING).await
    }

    fn signed_in(
        &self,
        reply: Reply,
        expected: u16,
        detail: Option<String>,
    ) -> Result<(), Failure> {
        if reply.code == expected {
            return Ok(());
        }
        Err(Failure::Refused {
            host: self.host.clone(),
            stage: Stage::Auth,
            reply,
            detail,
        })
    }
}

/// Names and dates of a certificate, for people.
fn facts(certificate: &CertificateDer) -> Option<String> {
    use x509_parser::extensions::GeneralName;
    use x509_parser::prelude::{FromDer, X509Certificate};
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok().flatten();
    let names = names
        .into_iter()
        .flat_map(|names| &names.value.general_names);
    let names: Vec<&str> = names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(*name),
            _ => None,
        })
        .collect();
    let validity = parsed.validity();
    let [from, until] =
        [validity.not_before, validity.not_after].map(|at| Timestamp(at.timestamp() * 1_000));
    Some(format!(
        "certificate for {}, from {from} until {until}",
        names.join(", ")
    ))
}

/// Each address that the name has, in turn.
async fn connect(settings: &Settings) -> Result<TcpStream, Failure> {
    let unreachable = |reason: String| Failure::Unreachable {
        host: settings.host.clone(),
        port: settings.port,
        reason,
    };
    let name = (settings.host.as_str(), settings.port);
    let found = timeout(wait::CONNECT, tokio::net::lookup_host(name)).await;
    let addresses: Vec<SocketAddr> = match found {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return Err(unreachable(error.to_string())),
        Err(_) => return Err(unreachable("DNS did not answer".into())),
    };
    let mut failure = "the name has no address".to_owned();
    for address in addresses {
        match SmtpClient::connect(address, wait::CONNECT).await {
            Ok(client) => {
                // Small writes are answered before the next; waiting to fill a packet only delays.
                let _ = client.stream.set_nodelay(true);
                return Ok(client.stream);
            }
            Err(error) => failure = format!("{address}: {error}"),
        }
    }
    Err(unreachable(failure))
}

async fn handshake(settings: &Settings, stream: TcpStream) -> Result<Stream, Failure> {
    let client = SmtpClient {
        stream,
        timeout: wait::CONNECT,
    };
    let connector = TlsConnector::from(settings.tls_config.clone());
    match client.into_tls(&connector, &settings.host).await {
        Ok(client) => Ok(Stream::Tls(Box::new(client.stream))),
        Err(error) => Err(Failure::Tls {
            host: settings.host.clone(),
            reason: error.to_string(),
        }),
    }
}
