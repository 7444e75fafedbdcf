//! A client's connection, with or without TLS.

use std::io;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::platform::connection::Connection;

/// The stream of a client's connection, with or without TLS.
pub(crate) type ClientStream = crate::base::stream::Stream<Connection, TlsStream<Connection>>;

impl ClientStream {
    /// Returns the connection's socket.
    pub(crate) fn socket(&self) -> &Connection {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

/// Waits until there is something to read, so that an idle session needs no buffer.
pub(crate) async fn readable(stream: &ClientStream) -> io::Result<()> {
    match stream {
        ClientStream::Plain(stream) => stream.readable().await,
        ClientStream::Tls(stream) => {
            let (socket, session) = stream.get_ref();
            if session.wants_read() {
                socket.readable().await
            } else {
                Ok(())
            }
        }
    }
}

/// Performs the TLS handshake as the server.
pub(crate) async fn start_tls(
    stream: ClientStream,
    config: Arc<rustls::ServerConfig>,
) -> io::Result<ClientStream> {
    match stream {
        ClientStream::Plain(stream) => {
            let stream = TlsAcceptor::from(config).accept(stream).await?;
            Ok(ClientStream::Tls(Box::new(stream)))
        }
        protected => Ok(protected),
    }
}

/// Returns the reason why a client's TLS handshake failed, with a remedy.
pub(crate) fn tls_words(error: &io::Error) -> String {
    use rustls::{AlertDescription, Error, PeerIncompatible};
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    let too_old = "update the device, or give it a listener of its own with tls = \"none\" on a network you trust";
    match inner {
        Some(Error::PeerIncompatible(
            PeerIncompatible::NoCipherSuitesInCommon
            | PeerIncompatible::NoKxGroupsInCommon
            | PeerIncompatible::NoSignatureSchemesInCommon
            | PeerIncompatible::NoEcPointFormatsInCommon,
        )) => format!(
            "the client and this listener have no cipher suite in common; the listener supports TLS 1.3, and TLS 1.2 with ECDHE ({error}): {too_old}"
        ),
        Some(Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered | PeerIncompatible::Tls12NotOfferedOrEnabled,
        )) => format!("the client speaks TLS 1.1 or older: {too_old}"),
        Some(Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired,
        )) => format!(
            "the client does not trust this listener's certificate ({error}): import it into the client, or set `certificate` and `key`"
        ),
        Some(Error::InvalidMessage(_)) => {
            "the client does not use TLS here: set the client to SSL/TLS, or the listener's `tls` to \"starttls\"".to_owned()
        }
        _ => error.to_string(),
    }
}
