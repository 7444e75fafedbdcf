//! The start of a session: connects, sets up TLS, signs in.

use std::net::SocketAddr;

use bytes::BytesMut;
use mail_send::SmtpClient;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, HandshakeKind};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{ServerStream, Session};
use crate::base::limits::upstream as wait;
use crate::base::secret::ExposeSecret;
use crate::base::{Secret, Timestamp};
use crate::transport::answer::Answer;
use crate::transport::smtp::command::{self, Extensions};
use crate::transport::smtp::failure::Failure;
use crate::transport::smtp::sasl;
use crate::transport::smtp::server::{Auth, SmtpServer, Tls};
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
        let client = connect(server).await?;
        let implicit = server.tls == Tls::Implicit;
        let mut session = Self {
            host: server.host.clone(),
            stream: if implicit {
                handshake(server, client).await?
            } else {
                ServerStream::Plain(client)
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
        if server.tls == Tls::Starttls {
            session = session.start_tls(server).await?;
            session.ehlo(server).await?;
        }
        Ok(session)
    }

    /// Returns the extensions that the server offered in reply to EHLO, in one line.
    pub fn offers(&self) -> &str {
        &self.offers
    }

    /// Describes the protection of the connection: the TLS version, "resumed" if it continues an earlier TLS
    /// session, and the certificate's names and dates. `None` without TLS.
    pub fn tls(&self) -> Option<String> {
        let ServerStream::Tls(stream) = &self.stream else {
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
            return Err(Failure::Tls {
                host: self.host,
                reason: reason.into(),
            });
        }
        self.write(b"STARTTLS\r\n", Stage::Tls, wait::GREETING)
            .await?;
        self.expect(Stage::Tls, wait::GREETING).await?;
        // Data that arrived in cleartext after the 220 may come from an attacker: discard it (RFC 3207 §6).
        self.input.clear();
        if let ServerStream::Plain(client) = self.stream {
            self.stream = handshake(server, client).await?;
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

/// Returns the names and dates of a certificate, as text for people.
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
        "certificate for {}, valid from {from} until {until}",
        names.join(", ")
    ))
}

/// The remedy if the host name is not found.
pub(crate) const DNS_REMEDY: &str = "check the server's `host`, and DNS on this machine";

/// Returns the remedy if the port cannot be reached.
pub(crate) fn tcp_remedy(port: u16) -> String {
    format!(
        "allow outbound connections from this machine to TCP port {port} (firewall, provider), and check the server's `host` and `port`"
    )
}

/// Tries each address of the host name in turn.
async fn connect(server: &SmtpServer) -> Result<TcpStream, Failure> {
    let unreachable = |reason: String| Failure::Unreachable {
        host: server.host.clone(),
        port: server.port,
        reason,
    };
    let name = (server.host.as_str(), server.port);
    let found = timeout(wait::CONNECT, tokio::net::lookup_host(name)).await;
    let addresses: Vec<SocketAddr> = match found {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return Err(unreachable(format!("{error}; {DNS_REMEDY}"))),
        Err(_) => return Err(unreachable(format!("DNS did not answer; {DNS_REMEDY}"))),
    };
    let mut failure = "the name has no address".to_owned();
    for address in addresses {
        match SmtpClient::connect(address, wait::CONNECT).await {
            Ok(client) => {
                // Each small write is followed by a wait for its reply, so Nagle's algorithm would only add
                // delay.
                let _ = client.stream.set_nodelay(true);
                return Ok(client.stream);
            }
            Err(error) if address.ip().to_string() == server.host => failure = error.to_string(),
            Err(error) => failure = format!("{address}: {error}"),
        }
    }
    let remedy = tcp_remedy(server.port);
    Err(unreachable(format!("{failure}; {remedy}")))
}

async fn handshake(server: &SmtpServer, stream: TcpStream) -> Result<ServerStream, Failure> {
    let failed = |reason: String| Failure::Tls {
        host: server.host.clone(),
        reason,
    };
    let name = ServerName::try_from(server.host.clone());
    let name = name.map_err(|error| failed(error.to_string()))?;
    let connector = TlsConnector::from(server.tls_config.clone());
    match timeout(wait::CONNECT, connector.connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(ServerStream::Tls(Box::new(stream))),
        Ok(Err(error)) => {
            let now = Timestamp::now();
            Err(failed(tls_words(&error, server, now)))
        }
        Err(_) => Err(failed(format!(
            "no answer in {} s",
            wait::CONNECT.as_secs()
        ))),
    }
}

/// Returns the reason why a handshake failed, with the remedy if one is known.
fn tls_words(error: &std::io::Error, server: &SmtpServer, now: Timestamp) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::InvalidCertificate(error)) => certificate_words(error, server, now),
        Some(rustls::Error::InvalidMessage(_)) => {
            "the server did not answer with TLS; for a port that begins without TLS, such as 587, set the server's \
             `tls` to \"starttls\""
                .to_owned()
        }
        _ => error.to_string(),
    }
}

fn certificate_words(error: &CertificateError, server: &SmtpServer, now: Timestamp) -> String {
    let host = &server.host;
    let at = |time: &UnixTime| Timestamp(time.as_secs() as i64 * 1_000).date();
    let clock = format!("if that is wrong, check this machine's clock (now {now})");
    match error {
        CertificateError::UnknownIssuer => "the certificate is signed by an authority that this machine does not know; if a \
             firewall inspects TLS, or the server is internal, put the CA certificate (PEM) of the firewall \
             or server into the server's `ca`"
            .to_owned(),
        CertificateError::NotValidForName => {
            format!("the certificate is not for {host}; correct the server's `host`")
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<&str> = presented.iter().map(|name| plain_name(name)).collect();
            format!(
                "the certificate is for {}, not {host}; correct the server's `host`",
                names.join(", ")
            )
        }
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("the server's certificate expired on {}; {clock}", at(not_after))
        }
        CertificateError::NotValidYetContext { not_before, .. } => format!(
            "the server's certificate is valid from {} on; {clock}",
            at(not_before)
        ),
        CertificateError::Expired => format!("the server's certificate has expired; {clock}"),
        CertificateError::NotValidYet => {
            format!("the server's certificate is not valid yet; {clock}")
        }
        other => other.to_string(),
    }
}

/// Extracts the plain name from the form that rustls shows: `DnsName("mx.example.com")`.
fn plain_name(shown: &str) -> &str {
    let inside = shown
        .split_once('"')
        .and_then(|(_, rest)| rest.split_once('"'));
    inside.map_or(shown, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_without_its_type() {
        assert_eq!(plain_name("DnsName(\"mx.example.com\")"), "mx.example.com");
        assert_eq!(plain_name("mx.example.com"), "mx.example.com");
    }
}
