//! A host that mailferry connects to: TCP and TLS, and the words for what goes wrong with them.

use std::net::SocketAddr;
use std::sync::Arc;

use mail_send::SmtpClient;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, HandshakeKind};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::base::Timestamp;
use crate::base::limits::upstream as wait;

/// The connection to a host.
pub(crate) type RemoteStream = crate::base::stream::Stream<TcpStream, TlsStream<TcpStream>>;

impl RemoteStream {
    /// Returns the connection's socket.
    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

/// A host, and how the connection to it is protected.
#[derive(Clone)]
pub struct RemoteHost {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: Tls,
    /// The TLS client settings, with the root certificates that verify this host.
    pub tls_config: Arc<ClientConfig>,
    /// The root certificates that the configuration adds to those of the system.
    pub roots: Vec<CertificateDer<'static>>,
}

/// How a connection is protected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// STARTTLS (RFC 3207, RFC 2595), required.
    #[default]
    Starttls,
    /// TLS from the first byte (RFC 8314 §3.3).
    Implicit,
    /// No TLS; on loopback only.
    None,
}

/// The reason why there is no protected connection to a host.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The connection could not be opened.
    #[error("cannot connect to {host}:{port}: {reason}")]
    Unreachable {
        /// Host.
        host: String,
        /// Port.
        port: u16,
        /// The cause.
        reason: String,
    },
    /// The TLS handshake failed.
    #[error("TLS with {host} failed: {reason}")]
    Tls {
        /// Host.
        host: String,
        /// The cause.
        reason: String,
    },
}

impl RemoteHost {
    /// True if `self` and `other` have the same settings.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.host == other.host
            && self.port == other.port
            && self.tls == other.tls
            && self.roots == other.roots
    }

    /// Tries each address of the host name in turn.
    pub(crate) async fn connect(&self) -> Result<TcpStream, ConnectError> {
        let unreachable = |reason: String| ConnectError::Unreachable {
            host: self.host.clone(),
            port: self.port,
            reason,
        };
        let name = (self.host.as_str(), self.port);
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
                Err(error) if address.ip().to_string() == self.host => failure = error.to_string(),
                Err(error) => failure = format!("{address}: {error}"),
            }
        }
        let remedy = tcp_remedy(self.port);
        Err(unreachable(format!("{failure}; {remedy}")))
    }

    /// Performs the TLS handshake as the client.
    pub(crate) async fn handshake(&self, stream: TcpStream) -> Result<RemoteStream, ConnectError> {
        let failed = |reason: String| ConnectError::Tls {
            host: self.host.clone(),
            reason,
        };
        let name = ServerName::try_from(self.host.clone());
        let name = name.map_err(|error| failed(error.to_string()))?;
        let connector = TlsConnector::from(self.tls_config.clone());
        match timeout(wait::CONNECT, connector.connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(RemoteStream::Tls(Box::new(stream))),
            Ok(Err(error)) => {
                let now = Timestamp::now();
                Err(failed(tls_words(&error, &self.host, now)))
            }
            Err(_) => Err(failed(format!(
                "no answer in {} s",
                wait::CONNECT.as_secs()
            ))),
        }
    }
}

/// Describes the protection of the connection: the TLS version, "resumed" if it continues an earlier TLS
/// session, and the certificate's names and dates. `None` without TLS.
pub(crate) fn protection(stream: &RemoteStream) -> Option<String> {
    let RemoteStream::Tls(stream) = stream else {
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
        "check the server's `host` and `port`, whether the server is running, and whether this machine may connect to TCP port {port} (firewall, provider)"
    )
}

/// Returns the reason why a handshake failed, with the remedy if one is known.
fn tls_words(error: &std::io::Error, host: &str, now: Timestamp) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::InvalidCertificate(error)) => certificate_words(error, host, now),
        Some(rustls::Error::InvalidMessage(_)) => {
            "the server did not answer with TLS; for a port that begins without TLS, such as 587, set the server's \
             `tls` to \"starttls\""
                .to_owned()
        }
        _ => error.to_string(),
    }
}

fn certificate_words(error: &CertificateError, host: &str, now: Timestamp) -> String {
    let at = |time: &UnixTime| Timestamp(time.as_secs() as i64 * 1_000).date();
    let clock = format!("if that is wrong, check this machine's clock (now {now})");
    match error {
        CertificateError::UnknownIssuer => "the certificate is signed by an authority that this machine does not know; if a \
             firewall inspects TLS, or the server is internal, put the CA certificate (PEM) of the firewall \
             or server into the server's `ca`"
            .to_owned(),
        CertificateError::BadSignature => {
            "the certificate is signed with another key than the one in the server's `ca`: put the present CA certificate \
             (PEM) there"
                .to_owned()
        }
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
