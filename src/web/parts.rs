//! The state that the page's handlers share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use url::Url;

use super::oidc::{OidcProvider, OidcSettings};
use super::page;
use super::people::{Failures, Person};
use super::sessions::PageSessions;
use crate::base::Timestamp;
use crate::door::Checks;
use crate::operator::accounts::{SignInAttempt, SignInProgress};
use crate::operator::route::RouteSettings;
use crate::operator::settings::Section;
use crate::operator::{Local, Operator, OperatorError, Role};

/// The parts of the configuration that the page shows or uses. A reload replaces them.
pub(crate) struct PageLive {
    /// The people who may log in.
    pub(crate) people: Vec<Person>,
    /// The OpenID provider at which people sign in, if there is one.
    pub(crate) oidc: Option<Arc<OidcSettings>>,
    /// The settings of routing.
    pub(crate) route: RouteSettings,
    /// The settings in force.
    pub(crate) sections: Vec<Section>,
}

/// The current [`PageLive`].
pub(crate) type SharedLive = Arc<ArcSwap<PageLive>>;

/// Everything that the page's handlers share.
pub(super) struct PageParts {
    pub(super) operator: Local,
    pub(super) live: SharedLive,
    pub(super) sessions: Mutex<PageSessions>,
    /// The sign-ins that were begun on the page, by id: the server, and the instructions for the person.
    pub(super) attempts: Mutex<HashMap<String, (String, SignInAttempt)>>,
    pub(super) failures: Mutex<Failures>,
    pub(super) checks: Checks,
    pub(super) oidc: OidcProvider,
    /// The page's host names on this machine.
    pub(super) own_hosts: [String; 2],
    /// The page's host name from outside, if it is behind a proxy.
    pub(super) outer_host: Option<String>,
    /// The page's port, if the page listens on more than loopback.
    pub(super) open_port: Option<u16>,
    /// The page's address, without a slash at its end.
    pub(super) base: String,
    pub(super) is_secure: bool,
}

impl PageParts {
    pub(super) fn sessions(&self) -> MutexGuard<'_, PageSessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a link that can start one session, within a short time.
    pub(super) fn link(&self, role: Role) -> String {
        let link = self.sessions().link(rand::random(), role, Timestamp::now());
        format!("{}/in/{link}", self.base)
    }

    /// Returns the present progress of a sign-in.
    pub(super) fn look(&self, id: &str) -> SignInProgress {
        match self.operator.accounts() {
            Ok(accounts) => accounts.look(id),
            Err(error) => SignInProgress::Failed(error.text),
        }
    }

    /// Returns the address of one of the page's paths.
    pub(super) fn address(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Returns the OpenID provider, if people can sign in there: the browser comes back to the page's name from
    /// outside, and gets its cookie under this name.
    pub(super) fn provider(&self) -> Option<Arc<OidcSettings>> {
        self.outer_host.as_ref()?;
        self.live.load().oidc.clone()
    }

    /// True if people can log in without a link.
    pub(super) fn can_log_in(&self) -> bool {
        !self.live.load().people.is_empty() || self.provider().is_some()
    }

    pub(super) fn operator(&self) -> &dyn Operator {
        &self.operator
    }

    pub(super) fn attempts(&self) -> MutexGuard<'_, HashMap<String, (String, SignInAttempt)>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if a browser that names this host means this page.
    pub(super) fn is_our_host(&self, host: &str) -> bool {
        self.is_own_host(host) || self.outer_host.as_deref() == Some(host)
    }

    /// True if a client that names this host is on this machine, or in a network that the page listens on.
    /// Another page's script cannot name an address: its Host is always a name.
    pub(super) fn is_own_host(&self, host: &str) -> bool {
        let is_address = host
            .parse::<SocketAddr>()
            .is_ok_and(|it| Some(it.port()) == self.open_port);
        is_address || self.own_hosts.iter().any(|own| own == host)
    }
}

impl PageParts {
    pub(super) fn new(
        external_url: Option<&Url>,
        has_tls: bool,
        address: SocketAddr,
        operator: Local,
        live: SharedLive,
    ) -> Self {
        let scheme = if has_tls { "https" } else { "http" };
        let mut base = format!("{scheme}://{address}");
        let mut outer_host = None;
        if let Some(url) = external_url {
            base = url.as_str().trim_end_matches('/').to_owned();
            outer_host = url.host_str().map(|host| match url.port() {
                Some(port) => format!("{host}:{port}"),
                None => host.to_owned(),
            });
        }
        Self {
            operator,
            live,
            sessions: Mutex::default(),
            attempts: Mutex::default(),
            failures: Mutex::default(),
            checks: Checks::default(),
            oidc: OidcProvider::default(),
            own_hosts: [address.to_string(), format!("localhost:{}", address.port())],
            outer_host,
            open_port: (!address.ip().is_loopback()).then_some(address.port()),
            is_secure: base.starts_with("https:"),
            base,
        }
    }
}

pub(super) fn html(page: maud::Markup) -> Html<String> {
    Html(page.into_string())
}

/// Responds that something could not be shown or done, and why.
pub(super) fn failed(title: &str, error: &OperatorError) -> Response {
    let page = page::notice(title, &error.text);
    (StatusCode::BAD_REQUEST, html(page)).into_response()
}
