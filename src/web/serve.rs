//! The page's connections. Their number is limited, and silent ones are closed, so that clients that misuse
//! the port cannot disturb mail.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// The maximum number of simultaneous connections: enough for a few browsers, a proxy and Prometheus.
const CONNECTIONS: usize = 64;

/// The time that a client may take to send a request's header, including the time before its first octet.
const HEADER: Duration = Duration::from_secs(10);

/// The longest time that a connection lasts; a test of a server may take minutes.
const LIFE: Duration = Duration::from_secs(600);

/// The pause after a failure to accept a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves the page on `listener`, and never returns. Connections beyond [`CONNECTIONS`] are closed at once.
pub(super) async fn serve(listener: TcpListener, router: Router) -> Infallible {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            continue;
        };
        let router = router.clone();
        tokio::spawn(async move {
            // A connection that ends early is not our problem.
            let _ = timeout(LIFE, answer(stream, router)).await;
            drop(place);
        });
    }
}

async fn answer(stream: TcpStream, router: Router) -> Result<(), hyper::Error> {
    let service = TowerToHyperService::new(router);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER);
    http.serve_connection(TokioIo::new(stream), service).await
}
