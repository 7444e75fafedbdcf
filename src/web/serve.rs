//! The page's connections. Their number is limited, and silent ones are closed, so that clients that misuse
//! the port cannot disturb mail.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http_body::Frame;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::base::limits;

/// The maximum number of simultaneous connections: enough for a few browsers, a proxy and Prometheus.
const CONNECTIONS: usize = 64;

/// The time that a client may take to send a request's header, including the time before its first octet.
const HEADER: Duration = Duration::from_secs(10);

/// The longest time that a connection lasts; a test of a server may take minutes.
const LIFE: Duration = Duration::from_secs(600);

/// The pause after a failure to accept a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves the page on `listener`, and never returns. Connections beyond [`CONNECTIONS`] are closed at once.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<ServerConfig>,
    router: Router,
) -> Infallible {
    let tls = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            continue;
        };
        let (router, tls) = (router.clone(), tls.clone());
        tokio::spawn(async move {
            // A connection that ends early is not our problem, and neither is a failed handshake.
            let _ = timeout(LIFE, async {
                match tls {
                    None => drop(answer(stream, router).await),
                    Some(tls) => {
                        if let Ok(Ok(stream)) =
                            timeout(limits::TLS_HANDSHAKE, tls.accept(stream)).await
                        {
                            drop(answer(stream, router).await);
                        }
                    }
                }
            })
            .await;
            drop(place);
        });
    }
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
) -> Result<(), hyper::Error> {
    let service = TowerToHyperService::new(router);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER);
    http.serve_connection(TokioIo::new(stream), service).await
}

/// Returns a body that sends each text as it comes.
pub(super) fn stream(texts: mpsc::Receiver<String>) -> Body {
    Body::new(Texts(texts))
}

struct Texts(mpsc::Receiver<String>);

impl http_body::Body for Texts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let text = self.0.poll_recv(context);
        text.map(|text| text.map(|text| Ok(Frame::data(Bytes::from(text)))))
    }
}

/// Returns a body that sends what `reader` reads.
pub(super) fn reader(reader: impl AsyncRead + Send + Unpin + 'static) -> Body {
    Body::new(Reader(reader))
}

struct Reader<R>(R);

impl<R: AsyncRead + Unpin> http_body::Body for Reader<R> {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        let mut piece = vec![0; limits::FILE_CHUNK];
        let mut buffer = ReadBuf::new(&mut piece);
        match Pin::new(&mut self.0).poll_read(context, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
            Poll::Ready(Ok(())) => {
                let length = buffer.filled().len();
                piece.truncate(length);
                let frame = (length > 0).then(|| Ok(Frame::data(Bytes::from(piece))));
                Poll::Ready(frame)
            }
        }
    }
}
