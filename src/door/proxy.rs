//! The PROXY protocol, version 2: a proxy in front of the listener sends the client's address.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ppp::v2::{Addresses, Command, Header};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::platform::connection::Connection;

/// The length in octets of a header's fixed part, and the position in the fixed part of the field that states
/// the variable part's length (PROXY protocol §2.2).
const FIXED: usize = 16;
const LENGTH: std::ops::Range<usize> = 14..16;

/// The maximum length of the variable part in octets. The longest addresses, those of Unix sockets, take 216;
/// the rest is for extensions. A proxy sends the header in one segment (§2.2).
const VARIABLE: usize = 1_024;

/// How long a proxy may take to send the header, which comes before anything else.
const PATIENCE: Duration = Duration::from_secs(5);

/// An error while reading the PROXY header.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    /// The connection was lost, or the proxy sent nothing.
    #[error("PROXY header: {0}")]
    Io(#[from] io::Error),
    /// The data is not a valid header.
    #[error(
        "PROXY header: {0}; the peer is listed in `proxies`, so it has to send version 2 of the protocol"
    )]
    Malformed(String),
}

/// Reads the header. Returns the client that it names, or `None` if the connection is the proxy's own
/// (LOCAL).
pub(crate) async fn read(stream: &mut Connection) -> Result<Option<SocketAddr>, ProxyError> {
    let slow = |_| io::Error::from(io::ErrorKind::TimedOut);
    let header = timeout(PATIENCE, octets(stream)).await.map_err(slow)??;
    source(&header)
}

/// Reads exactly the octets of the header, because the data after it may be TLS.
async fn octets(stream: &mut Connection) -> Result<Vec<u8>, ProxyError> {
    let mut header = vec![0; FIXED];
    stream.read_exact(&mut header).await?;
    let variable = length(&header)?;
    header.resize(FIXED + variable, 0);
    stream.read_exact(&mut header[FIXED..]).await?;
    Ok(header)
}

fn length(fixed: &[u8]) -> Result<usize, ProxyError> {
    if !fixed.starts_with(ppp::v2::PROTOCOL_PREFIX) {
        return Err(ProxyError::Malformed(
            "the connection does not begin with one".into(),
        ));
    }
    let length = usize::from(u16::from_be_bytes([
        fixed[LENGTH.start],
        fixed[LENGTH.start + 1],
    ]));
    if length > VARIABLE {
        Err(ProxyError::Malformed(format!(
            "{length} octets is too long"
        )))
    } else {
        Ok(length)
    }
}

fn source(header: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    let malformed = |error: ppp::v2::ParseError| ProxyError::Malformed(error.to_string());
    let header = Header::try_from(header).map_err(malformed)?;
    Ok(match (header.command, header.addresses) {
        (Command::Local, _) => None,
        (_, Addresses::IPv4(ends)) => Some((ends.source_address, ends.source_port).into()),
        (_, Addresses::IPv6(ends)) => Some((ends.source_address, ends.source_port).into()),
        // Reject the connection (§2.2 allows this): the proxy's own address may have more rights than the
        // client.
        _ => {
            let words = "it does not contain the client's IP address";
            return Err(ProxyError::Malformed(words.into()));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ppp::v2::{Builder, Protocol, Version};
    use proptest::prelude::*;

    fn header(command: Command) -> Vec<u8> {
        let ends = (
            "192.0.2.7:40".parse().unwrap(),
            "192.0.2.1:25".parse().unwrap(),
        );
        let ends: (SocketAddr, SocketAddr) = ends;
        Builder::with_addresses(Version::Two | command, Protocol::Stream, ends)
            .build()
            .unwrap()
    }

    #[test]
    fn names_the_client() {
        let client = source(&header(Command::Proxy)).unwrap();
        assert_eq!(client, Some("192.0.2.7:40".parse().unwrap()));
        assert_eq!(source(&header(Command::Local)).unwrap(), None);
        assert_eq!(length(&header(Command::Proxy)).unwrap(), 12);
    }

    #[test]
    fn refuses_what_names_nobody() {
        let mut header = header(Command::Proxy);
        header[13] = 0;
        assert!(source(&header).is_err());
    }

    #[test]
    fn refuses_what_is_none() {
        assert!(length(b"EHLO localhost\r\n").is_err());
        assert!(length(b"PROXY TCP4 192.0").is_err());
        let mut long = header(Command::Proxy);
        long[14] = 0xff;
        assert!(length(&long).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut after = ppp::v2::PROTOCOL_PREFIX.to_vec();
            after.extend(&bytes);
            let _ = source(&after);
            if after.len() >= FIXED {
                let _ = length(&after);
            }
        }
    }
}
