//! Where the browser comes back to after a sign-in: a place on loopback that is there for as long as
//! the sign-in (RFC 8252 §7.3), or the page, where that has an address of its own.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use url::Url;

/// What the browser brought.
pub(super) enum Brought {
    /// A code.
    Code(String),
    /// The provider's words, where it or the person said no.
    Refusal(String),
}

/// How the visit of a browser that comes back has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    /// The person has signed in.
    SignedIn,
    /// No sign-in waited for this browser.
    Unexpected,
    /// The provider or the person said no.
    Refused,
    /// The program ends.
    Broken,
}

impl Visit {
    /// The status of the page that the browser gets.
    pub fn status(self) -> StatusCode {
        match self {
            Self::SignedIn => StatusCode::OK,
            Self::Unexpected => StatusCode::BAD_REQUEST,
            Self::Refused => StatusCode::FORBIDDEN,
            Self::Broken => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// What the page tells the person: whether it went well, and in which words.
pub(super) type SignInResult = Result<String, String>;

/// The sign-ins whose browsers have not come back, by their `state`.
#[derive(Default)]
pub(super) struct Returns(Mutex<HashMap<String, AwaitedBrowser>>);

struct AwaitedBrowser {
    path: String,
    brought: oneshot::Sender<Brought>,
    told: oneshot::Receiver<SignInResult>,
}

/// A sign-in's side of it; when it is dropped nobody is waited for.
pub(super) struct Return {
    returns: Arc<Returns>,
    state: String,
    /// What the browser brings, once.
    pub(super) brought: oneshot::Receiver<Brought>,
    tell: Option<oneshot::Sender<SignInResult>>,
}

impl Returns {
    /// Waits for one browser that brings `state` to the path of `redirect`.
    pub(super) fn expect(self: &Arc<Self>, state: &str, redirect: &Url) -> Return {
        let (bring, brought) = oneshot::channel();
        let (tell, told) = oneshot::channel();
        let waiting = AwaitedBrowser {
            path: redirect.path().to_owned(),
            brought: bring,
            told,
        };
        self.waiting().insert(state.to_owned(), waiting);
        Return {
            returns: self.clone(),
            state: state.to_owned(),
            brought,
            tell: Some(tell),
        }
    }

    /// A browser has come to `path` (RFC 6749 §4.1.2): what it is told when the sign-in has ended.
    pub(super) async fn come_back(
        &self,
        path: &str,
        query: &HashMap<String, String>,
    ) -> (Visit, String) {
        let Some(waiting) = self.take(path, query.get("state")) else {
            let words = "This is not a sign-in that is waited for, or it has ended. Begin anew.";
            return (Visit::Unexpected, words.to_owned());
        };
        let field = |name: &str| query.get(name).cloned();
        let what = match (field("code"), field("error")) {
            (Some(code), None) => Brought::Code(code),
            (_, error) => {
                let error = error.unwrap_or_else(|| "neither a code nor an error came back".into());
                let words = field("error_description").unwrap_or_default();
                Brought::Refusal(format!("{error} {words}").trim().to_owned())
            }
        };
        let _ = waiting.brought.send(what);
        match waiting.told.await {
            Ok(Ok(words)) => (Visit::SignedIn, words),
            Ok(Err(words)) => (Visit::Refused, words),
            Err(_) => (Visit::Broken, "mailferry has ended.".to_owned()),
        }
    }

    /// RFC 6749 §10.12: only who was sent can come back, once; the wait goes on for them.
    fn take(&self, path: &str, state: Option<&String>) -> Option<AwaitedBrowser> {
        let mut waiting = self.waiting();
        waiting.get(state?).filter(|waiting| waiting.path == path)?;
        waiting.remove(state?)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, AwaitedBrowser>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Return {
    /// Tells the person how it ended.
    pub(super) fn tell(&mut self, told: SignInResult) {
        if let Some(tell) = self.tell.take() {
            let _ = tell.send(told);
        }
    }
}

impl Drop for Return {
    fn drop(&mut self) {
        self.returns.waiting().remove(&self.state);
    }
}

/// A place on loopback.
pub(super) struct Callback {
    listener: TcpListener,
    redirect: Url,
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

    /// Answers browsers until `done` ends, and the last has its page.
    pub(super) fn serve(
        self,
        returns: Arc<Returns>,
        done: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let router = Router::new().fallback(answer).with_state(returns);
        tokio::spawn(async move {
            let served = axum::serve(self.listener, router).with_graceful_shutdown(done);
            // It ends with the sign-in.
            let _ = served.await;
        })
    }
}

async fn answer(
    State(returns): State<Arc<Returns>>,
    uri: Uri,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let (visit, words) = returns.come_back(uri.path(), &query).await;
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
    (visit.status(), headers, Html(text)).into_response()
}
