//! The pages that a person sees: the account picker, which also asks for consent, and the page where a device
//! code is entered.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::Form;
use axum::Json;
use axum::extract::{Path, Query, State as Shared};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use serde_json::{Value, json};
use url::Url;

use super::refusal::{EntraRefusal, Fields, refused};
use crate::base::Timestamp;
use crate::sandbox::state::{Code, Device, SandboxState};

/// The lifetimes of an authorization code and of a device code.
const CODE_LIFE: Duration = Duration::from_secs(600);
const DEVICE_LIFE: Duration = Duration::from_secs(900);

fn field<'a>(fields: &'a Fields, name: &str) -> &'a str {
    fields.get(name).map(String::as_str).unwrap_or_default()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}

fn page(title: &str, body: &str) -> Html<String> {
    Html(format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><h1>{title}</h1>{body}</html>"
    ))
}

/// Returns the form to choose an account. The form passes on the fields of the request.
fn choice(state: &SandboxState, action: &str, fields: &Fields, more: &str) -> String {
    let hidden: String = fields
        .iter()
        .map(|(name, value)| {
            format!(
                "<input type=hidden name=\"{}\" value=\"{}\">",
                escaped(name),
                escaped(value)
            )
        })
        .collect();
    let accounts: String = state
        .settings
        .mailboxes
        .iter()
        .map(|mailbox| {
            let address = escaped(&mailbox.address.to_string());
            format!("<p><label><input type=radio name=user value=\"{address}\" required> {address}</label>")
        })
        .collect();
    format!(
        "<form method=post action=\"{action}\">{hidden}{more}{accounts}\
         <p><button name=answer value=yes>Yes</button> <button name=answer value=no formnovalidate>No</button></form>"
    )
}

/// Answers the authorization request of RFC 6749 §4.1.1. If the app is not registered or the request is
/// incomplete, the person sees an error page and is not redirected.
pub(super) async fn authorize(
    Shared(state): Shared<Arc<SandboxState>>,
    Path(tenant): Path<String>,
    Query(query): Query<Fields>,
) -> Response {
    let knows = state
        .settings
        .apps
        .iter()
        .any(|app| app.id == field(&query, "client_id"));
    let is_whole = field(&query, "response_type") == "code"
        && field(&query, "code_challenge_method") == "S256"
        && !field(&query, "state").is_empty()
        && field(&query, "redirect_uri").parse::<Url>().is_ok();
    if !knows || !is_whole {
        let words = page(
            "Sorry, but we’re having trouble signing you in",
            "<p>AADSTS900144: The request is incomplete.",
        );
        return (StatusCode::BAD_REQUEST, words).into_response();
    }
    let action = format!("/{tenant}/consent");
    page(
        "Pick an account",
        &choice(&state, &action, &query, "<p>Send mail as you?"),
    )
    .into_response()
}

/// Sends the person's answer back to the app, as a code or a refusal (RFC 6749 §4.1.2).
pub(super) async fn consent(
    Shared(state): Shared<Arc<SandboxState>>,
    Form(form): Form<Fields>,
) -> Response {
    let Ok(mut back) = field(&form, "redirect_uri").parse::<Url>() else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let is_yes = field(&form, "answer") == "yes" && state.mailbox(field(&form, "user")).is_some();
    if is_yes {
        state.consent(field(&form, "user"), field(&form, "scope"));
        let code = state.issue_code(Code {
            user: field(&form, "user").to_owned(),
            client_id: field(&form, "client_id").to_owned(),
            redirect: field(&form, "redirect_uri").to_owned(),
            challenge: field(&form, "code_challenge").to_owned(),
            until: state.now().after(CODE_LIFE),
        });
        back.query_pairs_mut().append_pair("code", &code);
    } else {
        let words = "AADSTS65004: User declined to consent to access the app.";
        back.query_pairs_mut()
            .append_pair("error", "access_denied")
            .append_pair("error_description", words);
    }
    back.query_pairs_mut()
        .append_pair("state", field(&form, "state"));
    Redirect::to(back.as_str()).into_response()
}

/// Returns the user of a code. The code works once, only for the app that it was issued for, and only with
/// its verifier (RFC 7636 §4.6).
pub(super) fn redeem(
    state: &SandboxState,
    form: &Fields,
    now: Timestamp,
) -> Result<String, EntraRefusal> {
    let wrong = (
        "invalid_grant",
        70000,
        "AADSTS70000: The provided authorization code is invalid.",
    );
    let code = state.take_code(field(form, "code")).ok_or(wrong)?;
    let challenge = BASE64.encode(digest(&SHA256, field(form, "code_verifier").as_bytes()));
    let is_right = now < code.until
        && code.client_id == field(form, "client_id")
        && code.redirect == field(form, "redirect_uri")
        && code.challenge == challenge;
    is_right.then_some(code.user).ok_or(wrong)
}

/// Answers a device authorization request (RFC 8628 §3.2).
pub(super) async fn device(
    Shared(state): Shared<Arc<SandboxState>>,
    Form(form): Form<Fields>,
) -> Response {
    if let Err(refusal) = super::client::check(&state, &form, state.now()) {
        return refused(refusal, state.now());
    }
    let until = state.now().after(DEVICE_LIFE);
    let (device_code, user_code) = state.issue_device(until, field(&form, "scope"));
    let url = format!("{}/device", state.base_url());
    Json(json!({
        "device_code": device_code, "user_code": user_code, "verification_uri": url, "interval": 1,
        "expires_in": DEVICE_LIFE.as_secs(),
        "message": format!("To sign in, open {url} and enter the code {user_code}."),
    }))
    .into_response()
}

pub(super) async fn device_page(Shared(state): Shared<Arc<SandboxState>>) -> Html<String> {
    let more = "<p><label>Code <input name=user_code required></label>";
    page(
        "Enter code",
        &choice(&state, "/device", &Fields::new(), more),
    )
}

pub(super) async fn device_answer(
    Shared(state): Shared<Arc<SandboxState>>,
    Form(form): Form<Fields>,
) -> Response {
    let user = state
        .mailbox(field(&form, "user"))
        .map(|mailbox| mailbox.address.to_string());
    let user = user.filter(|_| field(&form, "answer") == "yes");
    if state.answer_device(field(&form, "user_code"), user) {
        page("You have signed in", "<p>You may close this window.").into_response()
    } else {
        (StatusCode::BAD_REQUEST, page("That code didn’t work", "")).into_response()
    }
}

/// Returns the user who signed in with a device code, or the reason why no user has signed in (RFC 8628
/// §3.5).
pub(super) fn redeem_device(
    state: &SandboxState,
    form: &Fields,
    now: Timestamp,
) -> Result<String, EntraRefusal> {
    match state.take_device(field(form, "device_code"), now) {
        Device::Pending => Err((
            "authorization_pending",
            70016,
            "AADSTS70016: OAuth 2.0 device flow error. Authorization is pending.",
        )),
        Device::Declined => Err((
            "authorization_declined",
            70000,
            "AADSTS70000: The user declined.",
        )),
        Device::Expired => Err((
            "expired_token",
            70020,
            "AADSTS70020: The provided value for the input parameter 'device_code' is not valid.",
        )),
        Device::Answered(user) => Ok(user),
    }
}

/// Returns an ID token that names the user who signed in. It is not signed, because the app receives it
/// directly from the token endpoint.
pub(super) fn id_token(user: &str) -> Value {
    let part = |value: Value| BASE64.encode(value.to_string());
    let claims = part(json!({ "preferred_username": user, "name": user }));
    Value::String(format!(
        "{}.{claims}.",
        part(json!({ "alg": "none", "typ": "JWT" }))
    ))
}
