//! A client's connection, in clear or within TLS.

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// See the module.
pub type Stream = crate::base::stream::Stream<TlsStream<TcpStream>>;

/// Waits until there is something to read: an idle session then needs no buffer.
pub async fn readable(stream: &Stream) -> io::Result<()> {
    match stream {
        Stream::Plain(stream) => stream.readable().await,
        Stream::Tls(stream) => {
            let (socket, session) = stream.get_ref();
            match session.wants_read() {
                true => socket.readable().await,
                // What came is deciphered already.
                false => Ok(()),
            }
        }
    }
}

/// Shakes hands as the server.
pub async fn start_tls(stream: Stream, config: Arc<rustls::ServerConfig>) -> io::Result<Stream> {
    match stream {
        Stream::Plain(stream) => {
            let stream = TlsAcceptor::from(config).accept(stream).await?;
            Ok(Stream::Tls(Box::new(stream)))
        }
        protected => Ok(protected),
    }
}
