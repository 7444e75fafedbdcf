//! The sign-in of mailferry to the mail server, for one client. After it, the connection is the client's.

mod connection;
mod imap;
mod pop3;

use bytes::BytesMut;

use super::protocol::ReadingProtocol;
use crate::token::Access;
use crate::transport::remote::{RemoteHost, RemoteStream};
use crate::transport::smtp::Auth;
use connection::Sasl;
pub(crate) use connection::{Connection, UpstreamError};

/// A connection to the mail server, signed in.
pub(crate) struct SignedIn {
    /// The connection.
    pub stream: RemoteStream,
    /// Octets that arrived after the answer to the sign-in.
    pub input: BytesMut,
    /// The mail server's capabilities (IMAP) or greeting (POP3), if it stated them.
    pub greeting: Option<String>,
}

impl SignedIn {
    /// Returns the connection for commands of ours. `host` is named in errors.
    pub(crate) fn into_connection(self, host: &str) -> Connection {
        Connection {
            stream: self.stream,
            input: self.input,
            host: host.to_owned(),
        }
    }
}

/// Connects and signs in; `access` is for XOAUTH2.
pub(crate) async fn sign_in(
    protocol: ReadingProtocol,
    host: &RemoteHost,
    auth: &Auth,
    access: Option<&Access>,
) -> Result<SignedIn, UpstreamError> {
    let connection = Connection::open(host).await?;
    let sasl = Sasl::of(auth, access);
    let (connection, greeting) = match protocol {
        ReadingProtocol::Imap => imap::sign_in(connection, host, &sasl).await?,
        ReadingProtocol::Pop3 => pop3::sign_in(connection, host, &sasl).await?,
    };
    Ok(SignedIn {
        stream: connection.stream,
        input: connection.input,
        greeting,
    })
}

/// Opens INBOX for reading only, and signs out. Returns the number of messages.
pub(crate) async fn inbox(
    protocol: ReadingProtocol,
    host: &RemoteHost,
    signed_in: SignedIn,
) -> Result<u64, UpstreamError> {
    let connection = signed_in.into_connection(&host.host);
    match protocol {
        ReadingProtocol::Imap => imap::inbox(connection).await,
        ReadingProtocol::Pop3 => pop3::inbox(connection).await,
    }
}
