//! The page for people: an overview, the servers, the messages, and the actions of an operator. It is protected
//! even on loopback, because any page in the same browser can reach loopback: a session begins with a one-time
//! link from `mailferry web` or with a password, its cookie is `SameSite=Strict`, the Host must be ours (against
//! DNS rebinding), each form carries the session's token, and no other page may frame this one.

mod access;
mod actions;
mod fingerprint;
mod health;
mod live;
mod oidc;
mod page;
mod parts;
mod people;
mod serve;
mod sessions;
mod sign_in;
mod views;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use url::Url;

use crate::base::certificate::{self, Files};
use crate::base::tls::TlsError;
use crate::observe::maillog;
use crate::operator::Local;
pub(crate) use oidc::OidcSettings;
use parts::PageParts;
pub(crate) use parts::{PageLive, SharedLive};
pub(crate) use people::Person;

/// The page's addresses.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PageSettings {
    /// The address that the page listens on.
    pub address: SocketAddr,
    /// The page's URL from outside, if it is behind a proxy.
    pub external_url: Option<Url>,
    /// The files with the certificate and the key, if the page itself uses TLS.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

impl PageSettings {
    /// Returns the TLS settings, if the page itself uses TLS. A changed certificate is used from then on.
    pub(crate) fn tls(&self) -> Option<Result<ServerConfig, TlsError>> {
        let (chain, key) = self.certificate.clone()?;
        let files = vec![Files { chain, key }];
        Some(certificate::server_config(
            files,
            maillog::certificate_taken,
        ))
    }
}

/// The maximum length of a form (octets). The longest has an address, a name or a password.
const FORM: usize = 16 * 1024;

/// The first segment of each of the page's own paths.
const PATHS: [&str; 17] = [
    "",
    "connect",
    "errors",
    "healthz",
    "in",
    "live",
    "live.js",
    "log-in",
    "log-out",
    "messages",
    "metrics",
    "readyz",
    "route",
    "servers",
    "settings",
    "sign-in",
    "style.css",
];

/// True if the page itself uses this path. The redirect of a sign-in cannot be such a path.
pub(crate) fn is_own_path(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next();
    let first = first.unwrap_or_default();
    PATHS.contains(&first) || first == "test"
}

/// The running page, until it is closed.
pub(crate) struct Web {
    task: JoinHandle<()>,
}

impl Web {
    /// Starts to listen.
    pub(crate) async fn serve(
        settings: &PageSettings,
        operator: Local,
        live: SharedLive,
    ) -> io::Result<Self> {
        let tls = settings.tls().transpose().map_err(io::Error::other)?;
        let listener = TcpListener::bind(settings.address).await?;
        let address = listener.local_addr()?;
        maillog::page(address);
        let parts = Arc::new(PageParts::new(
            settings.external_url.as_ref(),
            tls.is_some(),
            address,
            operator,
            live,
        ));
        let (page, operator) = (Arc::downgrade(&parts), parts.operator.clone());
        operator.has_page(move |role| {
            page.upgrade()
                .map(|page| page.link(role))
                .unwrap_or_default()
        });
        let router = router(parts);
        let task = tokio::spawn(async move { match serve::serve(listener, tls, router).await {} });
        Ok(Self { task })
    }

    /// Stops answering.
    pub(crate) fn close(&self) {
        self.task.abort();
    }
}

/// Returns the page's routes. Those of `inside` need a session, and those of `changing` an administrator's.
fn router(parts: Arc<PageParts>) -> Router {
    let changing = Router::new()
        .route("/connect/{server}", post(actions::connect))
        .route("/test/{server}", post(actions::test))
        .route("/servers/{server}/hold", post(actions::hold))
        .route("/servers/{server}/release", post(actions::release))
        .route("/messages/{id}/delete", post(actions::delete))
        .route("/messages/{id}/{action}", post(actions::act))
        .route("/messages/{id}/export", get(actions::export))
        .route("/sign-in/{id}", get(actions::sign_in))
        .route_layer(middleware::from_fn(access::only_administrators));
    let inside = Router::new()
        .route("/", get(views::overview))
        .route("/servers", get(views::servers))
        .route("/messages", get(views::messages))
        .route("/messages/{id}", get(views::message))
        .route("/route", get(views::route))
        .route("/errors", get(views::errors))
        .route("/settings", get(views::settings))
        .route("/live", get(live::live))
        .route("/log-out", post(sign_in::log_out))
        .merge(changing)
        .route_layer(middleware::from_fn_with_state(
            parts.clone(),
            access::only_sessions,
        ));
    let provider = Router::new()
        .route(oidc::BEGIN, get(oidc::visit::begin))
        .route(oidc::RETURN, get(oidc::visit::come_back))
        .route_layer(middleware::from_fn(access::in_time));
    Router::new()
        .route("/in/{link}", get(sign_in::enter))
        .route(
            "/log-in",
            get(sign_in::form)
                .post(sign_in::log_in)
                .layer(middleware::from_fn(access::in_time)),
        )
        .merge(provider)
        .route("/metrics", get(health::measured))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/style.css", get(health::style))
        .route("/live.js", get(health::script))
        .merge(inside)
        .fallback(get(sign_in::come_back))
        .layer(DefaultBodyLimit::max(FORM))
        .layer(middleware::from_fn_with_state(parts.clone(), access::guard))
        .with_state(parts)
}
