//! A browser's visits when a person signs in at the OpenID provider.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::{HeaderMap, SET_COOKIE};
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};

use super::pending::LIFE;
use super::provider::{OidcError, short};
use super::settings::{BEGIN, Identity, OidcSettings, RETURN};
use crate::base::Timestamp;
use crate::observe::maillog;
use crate::web::access::{cookie, host};
use crate::web::page;
use crate::web::parts::{PageParts, html};
use crate::web::sessions::Origin;
use crate::web::sign_in::session_cookie;

/// The beginning of the name of a cookie that ties a sign-in to the browser that began it; the rest is the beginning
/// of the sign-in's `state`, because several tabs may sign in at once. The prefix `__Host-` keeps other hosts of the
/// same domain from setting it (RFC 6265bis §4.1.3.2). It is `SameSite=Lax`, because the browser comes back from the
/// provider's page.
const COOKIE: &str = "__Host-mailferry-sign-in-";

/// The number of characters of the `state` in the cookie's name.
const NAMED: usize = 8;

/// Sends the browser to the provider.
pub(in crate::web) async fn begin(
    State(parts): State<Arc<PageParts>>,
    headers: HeaderMap,
) -> Response {
    let Some(settings) = parts.provider() else {
        return Redirect::to("/log-in").into_response();
    };
    // The browser comes back to the page's name from outside, and brings only cookies that it got under this name.
    if host(&headers) != parts.outer_host.as_deref() {
        return Redirect::to(&parts.address(BEGIN)).into_response();
    }
    match parts.oidc.begin(&settings, &parts.address(RETURN)).await {
        Ok((url, sign_in)) => {
            let cookie = parts.oidc.pending.seal(&sign_in);
            let cookie = sign_in_cookie(&sign_in.state, &cookie, LIFE.as_secs());
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
    let state = query.get("state").map_or("", String::as_str);
    let kept = cookie(&headers, &cookie_name(state));
    let sign_in = kept.and_then(|kept| parts.oidc.pending.take(&kept, state, Timestamp::now()));
    let (Some(settings), Some(sign_in)) = (parts.provider(), sign_in) else {
        let words =
            "It was not begun in this browser, took too long, or has ended already. Log in again.";
        return refuse("This sign-in is no longer valid", words);
    };
    let Some(code) = query.get("code") else {
        let error = query.get("error").map_or("no code", String::as_str);
        let words = query.get("error_description").map_or("", String::as_str);
        let said = short(&format!("{error} {words}"));
        maillog::page_sign_in_failed(&said);
        return refuse(
            "You are not signed in",
            &format!("{} says: {said}", settings.host()),
        );
    };
    let redirect = parts.address(RETURN);
    let person = parts.oidc.end(&settings, &redirect, sign_in, code.clone());
    match person.await {
        Ok(person) => admit(&parts, &settings, person, state),
        Err(error) => failed(&settings, &error),
    }
}

fn admit(parts: &PageParts, settings: &OidcSettings, person: Identity, state: &str) -> Response {
    let (name, subject) = (person.name.clone(), person.subject.clone());
    let Some(role) = settings.role(&person) else {
        maillog::page_not_admitted(&name, &short(&why_not(&person)));
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
    maillog::page_logged_in(&name, &subject);
    let cookies = AppendHeaders([
        (SET_COOKIE, session_cookie(parts, &session)),
        (SET_COOKIE, sign_in_cookie(state, "", 0)),
    ]);
    // Not a redirect: a browser sends no `SameSite=Strict` cookie with a request that another site's redirect
    // led to.
    (cookies, html(page::sign_in::signed_in(&name))).into_response()
}

/// Returns the reason why a person has no role.
fn why_not(Identity { claim, values, .. }: &Identity) -> String {
    match (values.as_slice(), claim.as_str()) {
        ([], "email") => "the ID token contains no verified email address".to_owned(),
        ([], claim) => format!("the ID token contains no claim {claim}"),
        (values, claim) => format!(
            "neither administrators nor readers contain the {claim} {}",
            values.join(", ")
        ),
    }
}

fn cookie_name(state: &str) -> String {
    let named: String = state.chars().take(NAMED).collect();
    format!("{COOKIE}{named}")
}

/// Returns the cookie of a sign-in, as a browser is sent it.
fn sign_in_cookie(state: &str, value: &str, seconds: u64) -> String {
    let name = cookie_name(state);
    format!("{name}={value}; HttpOnly; SameSite=Lax; Path=/; Max-Age={seconds}; Secure")
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
    (
        StatusCode::FORBIDDEN,
        html(page::sign_in::refused(title, words)),
    )
        .into_response()
}
