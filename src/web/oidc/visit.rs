//! A browser's visits when a person signs in at the OpenID provider.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::{HeaderMap, SET_COOKIE};
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};

use super::pending::LIFE;
use super::provider::OidcError;
use super::settings::{Identity, OidcSettings};
use crate::base::Timestamp;
use crate::observe::maillog;
use crate::web::access::cookie;
use crate::web::page;
use crate::web::parts::{PageParts, html};
use crate::web::sessions::Origin;
use crate::web::sign_in::session_cookie;

/// The name of the cookie that ties a sign-in to the browser that began it. It is `SameSite=Lax`, because the
/// browser comes back from the provider's page.
const COOKIE: &str = "mailferry-sign-in";

/// Sends the browser to the provider.
pub(in crate::web) async fn begin(State(parts): State<Arc<PageParts>>) -> Response {
    let Some(settings) = parts.live.load().oidc.clone() else {
        return (StatusCode::NOT_FOUND, html(page::sign_in::link_needed())).into_response();
    };
    match parts.oidc.begin(&settings).await {
        Ok((url, state)) => {
            let cookie = keep(&state, LIFE.as_secs());
            ([(SET_COOKIE, cookie)], Redirect::to(url.as_str())).into_response()
        }
        Err(error) => failed(&settings, &error),
    }
}

/// Begins a session after the person has signed in.
pub(in crate::web) async fn come_back(
    State(parts): State<Arc<PageParts>>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let (state, begun) = (query.get("state"), cookie(&headers, COOKIE));
    let state = state.filter(|state| begun.as_ref() == Some(state));
    let sign_in = state.and_then(|state| parts.oidc.take(state));
    let (Some(settings), Some(sign_in)) = (parts.live.load().oidc.clone(), sign_in) else {
        let words =
            "It was not begun in this browser, took too long, or has ended already. Log in again.";
        return refuse("This sign-in is no longer valid", words);
    };
    let Some(code) = query.get("code") else {
        let error = query.get("error").map_or("no code", String::as_str);
        let words = query.get("error_description").map_or("", String::as_str);
        maillog::page_sign_in_failed(error);
        let words = format!("{} says: {error} {words}", settings.host());
        return refuse("You are not signed in", &words);
    };
    match parts.oidc.end(&settings, sign_in, code.clone()).await {
        Ok(person) => admit(&parts, &settings, person),
        Err(error) => failed(&settings, &error),
    }
}

fn admit(parts: &PageParts, settings: &OidcSettings, person: Identity) -> Response {
    let name = person.name.clone();
    let Some(role) = settings.role(&person) else {
        maillog::page_not_admitted(&name, &settings.claim, &person.values);
        let words = format!(
            "You signed in as {name}, but [web.oidc] administrators and readers in mailferry's configuration do not \
             list you. Ask an administrator of mailferry to add you."
        );
        return refuse("You may not use this page", &words);
    };
    let random = [rand::random(), rand::random()];
    let origin = Origin::Provider(person);
    let session = parts
        .sessions()
        .begin(&name, role, origin, random, Timestamp::now());
    maillog::page_logged_in(&name);
    let cookies = AppendHeaders([
        (SET_COOKIE, session_cookie(parts, &session)),
        (SET_COOKIE, keep("", 0)),
    ]);
    // Not a redirect: a browser sends no `SameSite=Strict` cookie with a request that another site's redirect
    // led to.
    (cookies, html(page::sign_in::signed_in(&name))).into_response()
}

/// Returns the cookie of a sign-in.
fn keep(state: &str, seconds: u64) -> String {
    format!("{COOKIE}={state}; HttpOnly; SameSite=Lax; Path=/log-in; Max-Age={seconds}; Secure")
}

/// Tells the log why a sign-in failed, and the person who can mend it.
fn failed(settings: &OidcSettings, error: &OidcError) -> Response {
    maillog::page_sign_in_failed(&error.to_string());
    let words = format!(
        "mailferry could not check with {} who you are; its log says why. A link from `mailferry web` works all the same.",
        settings.host()
    );
    let page = page::notice("You are not signed in", &words);
    (StatusCode::BAD_GATEWAY, html(page)).into_response()
}

fn refuse(title: &str, words: &str) -> Response {
    (StatusCode::FORBIDDEN, html(page::notice(title, words))).into_response()
}
