//! Entra's token endpoint and sign-in pages, an introspection endpoint (RFC 7662) for servers that check its
//! tokens, and the sandbox's own control endpoints: delivered messages, counters and faults.

mod client;
mod fault;
mod refusal;
mod sign_in;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State as Shared};
use axum::http::header::DATE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::script::{Fault, FaultAction, FaultAnswer, FaultStage};
use super::state::{Bearer, Delivered, SandboxState, Stats};
use crate::base::Timestamp;
use refusal::{EntraRefusal, Fields, refused};

fn router(state: Arc<SandboxState>) -> Router {
    Router::new()
        .route("/{tenant}/oauth2/v2.0/token", post(token))
        .route("/{tenant}/oauth2/v2.0/authorize", get(sign_in::authorize))
        .route("/{tenant}/oauth2/v2.0/devicecode", post(sign_in::device))
        .route("/{tenant}/consent", post(sign_in::consent))
        .route(
            "/device",
            get(sign_in::device_page).post(sign_in::device_answer),
        )
        .route("/introspect", post(introspect))
        .route("/sandbox/messages", get(messages))
        .route("/sandbox/stats", get(stats))
        .route("/sandbox/faults", post(faults).delete(no_faults))
        .route("/sandbox/revoke", post(revoke))
        .with_state(state)
}

pub(super) async fn serve(listener: TcpListener, state: Arc<SandboxState>) {
    // This server ends with the sandbox.
    let _ = axum::serve(listener, router(state)).await;
}

pub(super) async fn serve_tls(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    state: Arc<SandboxState>,
) {
    let listener = TlsListener { listener, acceptor };
    let _ = axum::serve(listener, router(state)).await;
}

struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let accepted = async {
                let (stream, peer) = self.listener.accept().await?;
                Ok::<_, io::Error>((self.acceptor.accept(stream).await?, peer))
            };
            match accepted.await {
                Ok(accepted) => return accepted,
                // The client does not trust our certificate, or has disconnected. The pause prevents a busy
                // loop when there are no free file descriptors.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

async fn token(Shared(state): Shared<Arc<SandboxState>>, Form(form): Form<Fields>) -> Response {
    state.count(|stats| stats.token_requests += 1);
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let action = state.script.strike(FaultStage::Token, field("grant_type"));
    let life = match &action {
        Some(FaultAction::Answer(FaultAnswer::Life(life))) => Some(life.clone()),
        _ => None,
    };
    let answer = || match answer(&state, &form, state.now()) {
        Ok(mut body) => {
            if let Some(life) = life {
                body["expires_in"] = life;
            }
            Json(body).into_response()
        }
        Err(refusal) => refused(refusal, state.now()),
    };
    let mut response = match action {
        Some(action) => fault::struck(action, answer).await,
        None => answer(),
    };
    if let Ok(date) = HeaderValue::try_from(state.now().http()) {
        response.headers_mut().insert(DATE, date);
    }
    response
}

const REVOKED: EntraRefusal = (
    "invalid_grant",
    50173,
    "AADSTS50173: The provided grant has expired due to it being revoked, a fresh auth token is needed.",
);

const NO_CONSENT: EntraRefusal = (
    "invalid_grant",
    65001,
    "AADSTS65001: The user or administrator has not consented to use the application. Send an interactive authorization request for this user and resource.",
);

/// Answers a token request with the success response of RFC 6749 §5.1 or a refusal.
fn answer(state: &SandboxState, form: &Fields, now: Timestamp) -> Result<Value, EntraRefusal> {
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    client::check(state, form, now)?;
    let app = field("client_id");
    let user = match field("grant_type") {
        "client_credentials" => return Ok(granted(state, app, None, None, "", now)),
        "refresh_token" => {
            let wrong = (
                "invalid_grant",
                70000,
                "AADSTS70000: The provided refresh token is invalid.",
            );
            let scopes = field("scope");
            let of = state.user_of_refresh(field("refresh_token")).ok_or(wrong)?;
            if !state.has_consented(&of, scopes) {
                return Err(NO_CONSENT);
            }
            let used = state.use_refresh(field("refresh_token"));
            let (user, next) = used.ok_or(wrong)?.ok_or(REVOKED)?;
            return Ok(granted(state, app, Some(user), Some(next), scopes, now));
        }
        "authorization_code" => sign_in::redeem(state, form, now)?,
        "urn:ietf:params:oauth:grant-type:device_code" => sign_in::redeem_device(state, form, now)?,
        _ => {
            let words = "AADSTS70003: The app requested an unsupported grant type.";
            return Err(("unsupported_grant_type", 70003, words));
        }
    };
    let refresh = state.issue_refresh(&user);
    let scopes = state.consented(&user);
    let mut body = granted(state, app, Some(user.clone()), Some(refresh), &scopes, now);
    body["id_token"] = sign_in::id_token(&user);
    Ok(body)
}

fn granted(
    state: &SandboxState,
    app: &str,
    user: Option<String>,
    refresh: Option<String>,
    scopes: &str,
    now: Timestamp,
) -> Value {
    let access = state.issue_access(app, user, scopes, now);
    let life = state.settings.token_life.as_secs();
    let mut body = json!({ "token_type": "Bearer", "expires_in": life, "ext_expires_in": life, "access_token": access });
    if let Some(refresh) = refresh {
        body["refresh_token"] = Value::String(refresh);
    }
    body
}

/// Answers an introspection request (RFC 7662 §2.2). For an app's token, the response names no user.
async fn introspect(
    Shared(state): Shared<Arc<SandboxState>>,
    Form(form): Form<Fields>,
) -> Json<Value> {
    let token = form.get("token").map(String::as_str).unwrap_or_default();
    Json(match state.bearer(token, state.now()) {
        Some(Bearer::User(user)) => {
            let scopes = state.scopes(token).join(" ");
            json!({ "active": true, "username": user, "email": user, "scope": scopes })
        }
        Some(Bearer::App) => json!({ "active": true }),
        None => json!({ "active": false }),
    })
}

async fn messages(Shared(state): Shared<Arc<SandboxState>>) -> Json<Vec<Delivered>> {
    Json(state.delivered())
}

async fn stats(Shared(state): Shared<Arc<SandboxState>>) -> Json<Stats> {
    Json(state.stats())
}

async fn faults(
    Shared(state): Shared<Arc<SandboxState>>,
    Json(faults): Json<Vec<Fault>>,
) -> StatusCode {
    state.script.add(faults);
    StatusCode::NO_CONTENT
}

async fn no_faults(Shared(state): Shared<Arc<SandboxState>>) -> StatusCode {
    state.script.clear();
    StatusCode::NO_CONTENT
}

/// Revokes all access tokens, and with `?user=` also every refresh token of that user.
async fn revoke(
    Shared(state): Shared<Arc<SandboxState>>,
    Query(query): Query<Fields>,
) -> StatusCode {
    state.revoke_access();
    if let Some(user) = query.get("user") {
        state.revoke_grants(user);
    }
    StatusCode::NO_CONTENT
}
