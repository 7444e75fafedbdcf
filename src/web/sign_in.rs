//! The beginning and the end of a session, and the return from a provider's sign-in.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Form, Path, Query, State};
use axum::http::header::{self, HeaderMap};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Redirect, Response};
use maud::Markup;

use super::access::{COOKIE, OwnForm, cookie};
use super::oidc;
use super::page;
use super::parts::{PageParts, html};
use super::people::Person;
use super::sessions::{Origin, PageSession, SESSION};
use crate::base::{Secret, Timestamp};
use crate::door::password::Hash;
use crate::observe::maillog;
use crate::operator::accounts::Visit;

/// The pause after a wrong password.
const PAUSE: Duration = Duration::from_secs(1);

/// Begins a session with a link. HEAD does not use up the link, because programs that only check links send
/// HEAD.
pub(super) async fn enter(
    State(parts): State<Arc<PageParts>>,
    Path(link): Path<String>,
    headers: HeaderMap,
    method: Method,
) -> Response {
    if method == Method::HEAD {
        return StatusCode::OK.into_response();
    }
    if parts.session(&headers).is_some() {
        return Redirect::to("/").into_response();
    }
    let random = [rand::random(), rand::random()];
    let Some(cookie) = parts.sessions().enter(&link, random, Timestamp::now()) else {
        let words = "A link works only once, and only for five minutes. Run `mailferry web` again.";
        let page = page::notice("This link is no longer valid", words);
        return (StatusCode::FORBIDDEN, html(page)).into_response();
    };
    maillog::page_entered();
    begun(&parts, &cookie)
}

/// Responds with a new session's cookie.
fn begun(parts: &PageParts, session: &str) -> Response {
    let cookie = session_cookie(parts, session);
    ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response()
}

/// Returns the cookie of a session, as a browser is sent it.
pub(super) fn session_cookie(parts: &PageParts, session: &str) -> String {
    let secure = if parts.is_secure { "; Secure" } else { "" };
    let age = SESSION.as_secs();
    format!("{COOKIE}={session}; HttpOnly; SameSite=Strict; Path=/; Max-Age={age}{secure}")
}

/// Shows the ways to log in.
pub(super) async fn form(State(parts): State<Arc<PageParts>>, headers: HeaderMap) -> Response {
    if parts.session(&headers).is_some() {
        return Redirect::to("/").into_response();
    }
    if !parts.can_log_in() {
        return (StatusCode::FORBIDDEN, html(page::sign_in::link_needed())).into_response();
    }
    html(log_in_page(&parts, None)).into_response()
}

fn log_in_page(parts: &PageParts, error: Option<&str>) -> Markup {
    let has_people = !parts.live.load().people.is_empty();
    let provider = parts.provider();
    let provider = provider
        .as_ref()
        .map(|it| (it.host(), parts.address(oidc::BEGIN)));
    page::sign_in::log_in(has_people, provider, error)
}

#[derive(serde::Deserialize)]
pub(super) struct LogIn {
    name: String,
    password: String,
}

/// Begins a session with a password. The form has no session's token, because there is no session yet; a page
/// elsewhere that posts it can only log its visitor in as somebody whose password it knows.
pub(super) async fn log_in(
    State(parts): State<Arc<PageParts>>,
    Form(LogIn { name, password }): Form<LogIn>,
) -> Response {
    let live = parts.live.load_full();
    let person = live.people.iter().find(|person| person.name == name);
    let refused = |words: &str| {
        (
            StatusCode::FORBIDDEN,
            html(log_in_page(&parts, Some(words))),
        )
            .into_response()
    };
    if failures(&parts).are_too_many(&name, Instant::now()) {
        return refused("There were too many wrong passwords. Try again in ten minutes.");
    }
    match is_right(&parts, &live.people, person, password.into()).await {
        None => refused("Too many people are logging in at once. Try again."),
        Some(false) => {
            failures(&parts).add(&name, Instant::now());
            // A person may have typed a password as the name.
            maillog::page_refused(person.map_or("(unknown)", |person| &person.name));
            tokio::time::sleep(PAUSE).await;
            refused("The name or the password is wrong.")
        }
        Some(true) => {
            let session = person.map(|person| begin(&parts, person));
            maillog::page_logged_in(&name, "password");
            begun(&parts, &session.unwrap_or_default())
        }
    }
}

fn begin(parts: &PageParts, person: &Person) -> String {
    let random = [rand::random(), rand::random()];
    let origin = Origin::Password(person.hash.digest());
    let mut sessions = parts.sessions();
    sessions.begin(&person.name, person.role, origin, random, Timestamp::now())
}

fn failures(parts: &PageParts) -> std::sync::MutexGuard<'_, super::people::Failures> {
    parts
        .failures
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

/// Checks a password. For a name that nobody has, this takes as long. Returns `None` if too many passwords are
/// being checked.
async fn is_right(
    parts: &PageParts,
    people: &[Person],
    person: Option<&Person>,
    password: Secret,
) -> Option<bool> {
    let turn = parts.checks.turn().await.ok()?;
    let hash = match person {
        Some(person) => person.hash.clone(),
        None => Hash::decoy(people.first().map(|person| &person.hash)),
    };
    let is_right = turn.check(hash, password).await.ok()?;
    Some(is_right && person.is_some())
}

/// Ends a session.
pub(super) async fn log_out(
    State(parts): State<Arc<PageParts>>,
    _: PageSession,
    headers: HeaderMap,
    _: OwnForm,
) -> Response {
    if let Some(cookie) = cookie(&headers, COOKIE) {
        parts.sessions().end(&cookie);
    }
    let forgotten = format!("{COOKIE}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0");
    let page = page::notice(
        "You are logged out",
        "To come back, log in, or run `mailferry web` again.",
    );
    ([(header::SET_COOKIE, forgotten)], html(page)).into_response()
}

/// Serves every other path, because a browser may return to any of them after a sign-in. Such a request comes
/// from the provider's page, so it has no cookie; the sign-in's `state` authorizes it instead.
pub(super) async fn come_back(
    State(parts): State<Arc<PageParts>>,
    uri: Uri,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    if !query.contains_key("state") {
        let page = page::notice("There is nothing here", uri.path());
        return (StatusCode::NOT_FOUND, html(page)).into_response();
    }
    let (visit, words) = match parts.operator.accounts() {
        Ok(accounts) => accounts.come_back(uri.path(), &query).await,
        Err(error) => (Visit::Broken, error.text),
    };
    (visit.status(), html(page::notice("Sign in", &words))).into_response()
}
