//! Access checks before every response.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Form, FromRequest, FromRequestParts, Request, State};
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::fingerprint::fingerprint;
use super::page;
use super::parts::{PageParts, html};
use super::sessions::{Origin, PageSession};
use crate::base::Timestamp;
use crate::operator::Role;

/// The name of the session's cookie.
pub(super) const COOKIE: &str = "mailferry";

/// The header fields of every response. Nothing is loaded from elsewhere, and nobody may frame or store a page.
const FIXED: [(header::HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
];

/// Serves only requests for our own host name. Whether the program is alive is no secret: orchestrators ask by
/// any name.
pub(super) async fn guard(
    State(parts): State<Arc<PageParts>>,
    request: Request,
    next: Next,
) -> Response {
    let is_health = matches!(request.uri().path(), "/healthz" | "/readyz");
    let is_ours = host(request.headers()).is_some_and(|host| parts.is_our_host(host));
    let mut response = if is_ours || is_health {
        next.run(request).await
    } else {
        StatusCode::MISDIRECTED_REQUEST.into_response()
    };
    for (name, value) in FIXED {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Returns the value of the request's field Host.
pub(super) fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::HOST)?.to_str().ok()
}

/// Returns the value of a cookie.
pub(super) fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let cookies = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut pairs = cookies
        .flat_map(|cookies| cookies.split(';'))
        .map(str::trim);
    let found = pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    found.map(str::to_owned)
}

impl PageParts {
    /// Returns the session of a request. A person has the role that the configuration has now; the session of a
    /// person who is no longer configured, or has another password, is over.
    pub(super) fn session(&self, headers: &HeaderMap) -> Option<PageSession> {
        let cookie = cookie(headers, COOKIE)?;
        let mut session = self.sessions().session(&cookie, Timestamp::now())?;
        let live = self.live.load();
        match &session.origin {
            Origin::Link => {}
            Origin::Password(digest) => {
                let mut people = live.people.iter();
                let person = people.find(|person| person.name == session.name)?;
                session.role = (person.hash.digest() == *digest).then_some(person.role)?;
            }
            Origin::Provider(person) => session.role = self.provider()?.role(person)?,
        }
        Some(session)
    }
}

/// Lets through only requests that have a session.
pub(super) async fn only_sessions(
    State(parts): State<Arc<PageParts>>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(mut session) = parts.session(request.headers()) {
        // Before the page is made: a later change is then noticed.
        session.seen = fingerprint(&parts).await;
        request.extensions_mut().insert(session);
        return next.run(request).await;
    }
    if parts.can_log_in() && request.method() == Method::GET {
        return Redirect::to("/log-in").into_response();
    }
    (StatusCode::FORBIDDEN, html(page::sign_in::link_needed())).into_response()
}

/// The time that a request to log in may take, with its body and the pause after a wrong password. People without a
/// session must not occupy connections for long.
const LOG_IN: Duration = Duration::from_secs(30);

/// Ends a request that takes too long.
pub(super) async fn in_time(request: Request, next: Next) -> Response {
    let answered = timeout(LOG_IN, next.run(request)).await;
    answered.unwrap_or_else(|_| StatusCode::REQUEST_TIMEOUT.into_response())
}

/// Lets through only requests of administrators.
pub(super) async fn only_administrators(request: Request, next: Next) -> Response {
    let session = request.extensions().get::<PageSession>();
    if session.is_some_and(|session| session.role == Role::Administrator) {
        return next.run(request).await;
    }
    let words = "You may look at everything except the content of messages. Ask an administrator to do this.";
    let page = page::notice("Only an administrator may do this", words);
    (StatusCode::FORBIDDEN, html(page)).into_response()
}

impl<S: Send + Sync> FromRequestParts<S> for PageSession {
    type Rejection = StatusCode;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        _: &S,
    ) -> Result<Self, StatusCode> {
        let session = parts.extensions.get::<Self>();
        session.cloned().ok_or(StatusCode::FORBIDDEN)
    }
}

/// A form of this session's own page, with its fields. A form that another page made does not contain the
/// session's token.
pub(super) struct OwnForm<T = Nothing>(pub(super) T);

/// The fields of a form that has only a button.
#[derive(serde::Deserialize)]
pub(super) struct Nothing {}

#[derive(serde::Deserialize)]
struct Posted<T> {
    form_token: String,
    #[serde(flatten)]
    fields: T,
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for OwnForm<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let session = request.extensions().get::<PageSession>().cloned();
        let posted = Form::<Posted<T>>::from_request(request, state).await.ok();
        match (session, posted) {
            (Some(session), Some(Form(posted))) if session.form_token == posted.form_token => {
                Ok(Self(posted.fields))
            }
            _ => {
                let words = "Go back and press the button again.";
                let page = page::notice("This form does not belong to your session", words);
                Err((StatusCode::FORBIDDEN, html(page)).into_response())
            }
        }
    }
}
