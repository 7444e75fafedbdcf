//! The place on loopback to which the browser comes back after a sign-in (RFC 8252 §7.3).

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinHandle;
use url::Url;

/// What the browser brought.
pub(super) enum Brought {
    /// A code.
    Code(String),
    /// The provider's words, where it or the person said no.
    Refusal(String),
}

/// A place that waits for one browser.
pub(super) struct Callback {
    listener: TcpListener,
    redirect: Url,
}

/// What the page tells the person: whether it went well, and in which words.
pub(super) type Told = Result<String, String>;

struct Waiting {
    state: String,
    /// Taken by the first that brings the right state.
    brought: Mutex<Option<(oneshot::Sender<Brought>, oneshot::Receiver<Told>)>>,
}

impl Callback {
    /// Listens where `redirect` says; port 0 takes a free one.
    pub(super) async fn bind(redirect: &Url) -> io::Result<Self> {
        let port = redirect.port_or_known_default().unwrap_or(0);
        let address = match redirect.host() {
            Some(url::Host::Ipv4(ip)) => SocketAddr::from((ip, port)),
            Some(url::Host::Ipv6(ip)) => SocketAddr::from((ip, port)),
            _ => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        };
        let listener = TcpListener::bind(address).await?;
        let mut redirect = redirect.clone();
        let port = listener.local_addr()?.port();
        // Only a URL without a host refuses a port.
        let _ = redirect.set_port(Some(port));
        Ok(Self { listener, redirect })
    }

    /// Where the browser is to be sent.
    pub(super) fn redirect(&self) -> &Url {
        &self.redirect
    }

    /// Answers the browser that brings `state`, once, until `done` ends and it has its page.
    pub(super) fn serve(
        self,
        state: String,
        brought: oneshot::Sender<Brought>,
        told: oneshot::Receiver<Told>,
        done: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let waiting = Waiting {
            state,
            brought: Mutex::new(Some((brought, told))),
        };
        let path = self.redirect.path().to_owned();
        let router = Router::new()
            .route(&path, get(come_back))
            .with_state(Arc::new(waiting));
        tokio::spawn(async move {
            let served = axum::serve(self.listener, router).with_graceful_shutdown(done);
            // It ends with the sign-in.
            let _ = served.await;
        })
    }
}

async fn come_back(
    State(waiting): State<Arc<Waiting>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let field = |name: &str| query.get(name).cloned();
    // RFC 6749 §10.12: only who was sent can come back; the wait goes on for them.
    if field("state").as_deref() != Some(&waiting.state) {
        let words =
            "This is not the sign-in that is waited for. Begin anew with mailferry connect.";
        return page(StatusCode::BAD_REQUEST, words);
    }
    let Some((brought, told)) = waiting.brought.lock().await.take() else {
        return page(StatusCode::GONE, "This sign-in has ended already.");
    };
    let what = match (field("code"), field("error")) {
        (Some(code), None) => Brought::Code(code),
        (_, error) => {
            let error = error.unwrap_or_else(|| "neither a code nor an error came back".into());
            let words = field("error_description").unwrap_or_default();
            Brought::Refusal(format!("{error} {words}").trim().to_owned())
        }
    };
    let _ = brought.send(what);
    match told.await {
        Ok(Ok(words)) => page(StatusCode::OK, &words),
        Ok(Err(words)) => page(StatusCode::FORBIDDEN, &words),
        Err(_) => page(StatusCode::INTERNAL_SERVER_ERROR, "mailferry has ended."),
    }
}

fn page(status: StatusCode, words: &str) -> Response {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let text = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>mailferry</title>\
         <body style=\"font:1.1rem system-ui;margin:3rem\"><p>{words}<p>You may close this window."
    );
    let headers = [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        ),
    ];
    (status, headers, Html(text)).into_response()
}
