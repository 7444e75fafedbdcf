//! The browser's redirect target after a sign-in. This is a port on loopback that is open as long as the
//! sign-in lasts (RFC 8252 §7.3), or the page, if it has an external URL.

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

/// The data that the browser brought back.
pub(super) enum Brought {
    /// An authorization code.
    Code(String),
    /// The provider's error text, if the provider or the person refused.
    Refusal(String),
}

/// The result of a browser's return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    /// The person has signed in.
    SignedIn,
    /// No sign-in waited for this browser.
    Unexpected,
    /// The provider or the person refused.
    Refused,
    /// The sign-in was interrupted, for example because the program is stopping.
    Broken,
}

impl Visit {
    /// Returns the HTTP status of the page that the browser receives.
    pub fn status(self) -> StatusCode {
        match self {
            Self::SignedIn => StatusCode::OK,
            Self::Unexpected => StatusCode::BAD_REQUEST,
            Self::Refused => StatusCode::FORBIDDEN,
            Self::Broken => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// The text that the page shows to the person: `Ok` after success, `Err` after a failure.
pub(super) type SignInResult = Result<String, String>;

/// The sign-ins that wait for a browser to come back, by their `state`.
#[derive(Default)]
pub(super) struct Returns(Mutex<HashMap<String, AwaitedBrowser>>);

struct AwaitedBrowser {
    path: String,
    brought: oneshot::Sender<Brought>,
    told: oneshot::Receiver<SignInResult>,
}

/// A sign-in's handle to wait for its browser. Dropping it ends the wait.
pub(super) struct Return {
    returns: Arc<Returns>,
    state: String,
    /// Receives the data that the browser brings back, once.
    pub(super) brought: oneshot::Receiver<Brought>,
    tell: Option<oneshot::Sender<SignInResult>>,
}

impl Returns {
    /// Registers a sign-in that waits for one browser, which must bring `state` to the path of `redirect`.
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

    /// Handles a browser that has come to `path` (RFC 6749 §4.1.2). Returns the result of its visit and the
    /// text for the person once the sign-in has ended.
    pub(super) async fn come_back(
        &self,
        path: &str,
        query: &HashMap<String, String>,
    ) -> (Visit, String) {
        let Some(waiting) = self.take(path, query.get("state")) else {
            let words = "This sign-in is unknown or has already ended. Please start again.";
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
            Err(_) => (
                Visit::Broken,
                "The sign-in was interrupted. Please start again.".to_owned(),
            ),
        }
    }

    /// Removes and returns the sign-in that waits for a browser. Only the browser that was sent to the
    /// provider can return, and only once; a request with a different path or `state` does not end the wait
    /// (RFC 6749 §10.12).
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
    /// Tells the person the result.
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

/// A listening port on loopback.
pub(super) struct Callback {
    listener: TcpListener,
    redirect: Url,
}

impl Callback {
    /// Listens at the address in `redirect`; port 0 means any free port.
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
        // Setting the port fails only for a URL without a host.
        let _ = redirect.set_port(Some(port));
        Ok(Self { listener, redirect })
    }

    /// Returns the URL that the browser is to return to.
    pub(super) fn redirect(&self) -> &Url {
        &self.redirect
    }

    /// Answers browsers until `done` completes and the last browser has received its page.
    pub(super) fn serve(
        self,
        returns: Arc<Returns>,
        done: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let router = Router::new().fallback(answer).with_state(returns);
        tokio::spawn(async move {
            let served = axum::serve(self.listener, router).with_graceful_shutdown(done);
            // The server is needed only until the sign-in ends, so its errors do not matter.
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
