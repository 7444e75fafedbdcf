//! The page for people: the state of each server's tokens, with buttons to connect and to test. It listens on
//! loopback, perhaps behind a proxy with TLS. It is protected all the same, because any page in the same
//! browser can reach loopback: a session begins with a one-time link from `mailferry web`, its cookie is
//! `SameSite=Strict`, the Host must be ours (against DNS rebinding), each form carries the session's token,
//! and no other page may frame this one.

mod page;
mod serve;
mod sessions;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{Form, FromRequest, FromRequestParts, Path, Query, Request, State};
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use url::Url;

use crate::base::Timestamp;
use crate::observe::maillog;
use crate::operator::accounts::{SignInAttempt, SignInOptions, SignInProgress, SignInWay, Visit};
use crate::operator::row::TokenRow;
use crate::operator::{Local, Operator, OperatorError, Request as Ask, metrics};
use crate::transport::Step;
use sessions::{PageSession, PageSessions, SESSION};

const COOKIE: &str = "mailferry";

/// The page's addresses.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PageSettings {
    /// The loopback address that the page listens on.
    pub address: SocketAddr,
    /// The page's URL from outside, if it is behind a proxy.
    pub external_url: Option<Url>,
}

/// The first segment of each of the page's own paths.
const PATHS: [&str; 9] = [
    "",
    "connect",
    "healthz",
    "in",
    "metrics",
    "readyz",
    "sign-in",
    "style.css",
    "test",
];

/// True if the page itself uses this path. The redirect of a sign-in cannot be such a path.
pub(crate) fn is_own_path(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next();
    PATHS.contains(&first.unwrap_or_default())
}

/// The running page, until it is closed.
pub(crate) struct Web {
    task: JoinHandle<()>,
}

struct PageParts {
    operator: Local,
    sessions: Mutex<PageSessions>,
    /// The sign-ins that were begun on the page, by id: the server, and the instructions for the person.
    attempts: Mutex<HashMap<String, (String, SignInAttempt)>>,
    /// The page's host names on this machine.
    own_hosts: [String; 2],
    /// The page's host name from outside, if it is behind a proxy.
    outer_host: Option<String>,
    base: String,
    is_secure: bool,
}

impl PageParts {
    fn sessions(&self) -> MutexGuard<'_, PageSessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a link that can start one session, within a short time.
    fn link(&self) -> String {
        let link = self.sessions().link(rand::random(), Timestamp::now());
        format!("{}/in/{link}", self.base)
    }

    /// Returns the present progress of a sign-in.
    fn look(&self, id: &str) -> SignInProgress {
        match self.operator.accounts() {
            Ok(accounts) => accounts.look(id),
            Err(error) => SignInProgress::Failed(error.text),
        }
    }

    fn operator(&self) -> &dyn Operator {
        &self.operator
    }

    fn is_session(&self, cookie: &str) -> bool {
        self.sessions().session(cookie, Timestamp::now()).is_some()
    }

    fn hosts(&self) -> impl Iterator<Item = &str> {
        let all = self.own_hosts.iter().chain(&self.outer_host);
        all.map(String::as_str)
    }

    fn attempts(&self) -> MutexGuard<'_, HashMap<String, (String, SignInAttempt)>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Web {
    /// Starts to listen.
    pub(crate) async fn serve(settings: &PageSettings, operator: Local) -> io::Result<Self> {
        let listener = TcpListener::bind(settings.address).await?;
        let address = listener.local_addr()?;
        maillog::page(address);
        let mut base = format!("http://{address}");
        let mut outer_host = None;
        if let Some(url) = &settings.external_url {
            base = url.as_str().trim_end_matches('/').to_owned();
            outer_host = url.host_str().map(|host| match url.port() {
                Some(port) => format!("{host}:{port}"),
                None => host.to_owned(),
            });
        }
        let parts = Arc::new(PageParts {
            operator,
            sessions: Mutex::default(),
            attempts: Mutex::default(),
            own_hosts: [address.to_string(), format!("localhost:{}", address.port())],
            outer_host,
            is_secure: base.starts_with("https:"),
            base,
        });
        let inside = Router::new()
            .route("/", get(servers))
            .route("/connect/{server}", post(connect))
            .route("/sign-in/{id}", get(sign_in))
            .route("/test/{server}", post(test))
            .route_layer(middleware::from_fn_with_state(parts.clone(), only_sessions));
        let router = Router::new()
            .route("/in/{link}", get(enter))
            .route("/metrics", get(measured))
            .route("/healthz", get(alive))
            .route("/readyz", get(ready))
            .route("/style.css", get(style))
            .merge(inside)
            .fallback(get(come_back))
            .layer(middleware::from_fn_with_state(parts.clone(), guard))
            .with_state(parts.clone());
        let (page, operator) = (Arc::downgrade(&parts), parts.operator.clone());
        operator.has_page(move || page.upgrade().map(|page| page.link()).unwrap_or_default());
        let task = tokio::spawn(async move { match serve::serve(listener, router).await {} });
        Ok(Self { task })
    }

    /// Stops answering.
    pub(crate) fn close(&self) {
        self.task.abort();
    }
}

/// Serves only requests for our own host name. A response may not be framed or stored, and may not load
/// anything from elsewhere.
async fn guard(State(parts): State<Arc<PageParts>>, request: Request, next: Next) -> Response {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let is_ours = host.is_some_and(|host| parts.hosts().any(|ours| ours == host));
    let mut response = if is_ours {
        next.run(request).await
    } else {
        StatusCode::MISDIRECTED_REQUEST.into_response()
    };
    let fixed = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in fixed {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Lets through only requests that have a session.
async fn only_sessions(
    State(parts): State<Arc<PageParts>>,
    mut request: Request,
    next: Next,
) -> Response {
    let session = cookie(request.headers());
    let session = session.and_then(|cookie| parts.sessions().session(&cookie, Timestamp::now()));
    let Some(session) = session else {
        let words = "Run the command \u{201c}mailferry web\u{201d} on this machine, and open the link that it prints.";
        let page = page::notice("Open this page with a link", words);
        return (StatusCode::FORBIDDEN, html(page)).into_response();
    };
    request.extensions_mut().insert(session);
    next.run(request).await
}

impl<S: Send + Sync> FromRequestParts<S> for PageSession {
    type Rejection = StatusCode;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        _: &S,
    ) -> Result<Self, StatusCode> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or(StatusCode::FORBIDDEN)
    }
}

fn cookie(headers: &HeaderMap) -> Option<String> {
    let cookies = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut pairs = cookies
        .flat_map(|cookies| cookies.split(';'))
        .map(str::trim);
    let found = pairs.find_map(|pair| pair.strip_prefix(COOKIE)?.strip_prefix('='));
    found.map(str::to_owned)
}

fn html(page: maud::Markup) -> Html<String> {
    Html(page.into_string())
}

/// Serves the metrics, but only under a local host name, not under the page's name from outside.
async fn measured(State(parts): State<Arc<PageParts>>, headers: HeaderMap) -> Response {
    if is_local(&parts, &headers) {
        metrics(&parts.operator, &headers).await.into_response()
    } else {
        StatusCode::NOT_FOUND.into_response()
    }
}

/// Says that the program is running.
async fn alive() -> &'static str {
    "ok\n"
}

/// Says whether the program should get mail now, for a load balancer or an orchestrator. The reasons are in the
/// body, but only for this machine.
async fn ready(State(parts): State<Arc<PageParts>>, headers: HeaderMap) -> Response {
    let reasons = match parts.operator.status().await {
        Ok(status) => status.not_ready(),
        Err(error) => vec![error.text],
    };
    if reasons.is_empty() {
        return "ok\n".into_response();
    }
    let shown = match is_local(&parts, &headers) {
        true => reasons.join("\n") + "\n",
        false => "not ready\n".to_owned(),
    };
    (StatusCode::SERVICE_UNAVAILABLE, shown).into_response()
}

fn is_local(parts: &PageParts, headers: &HeaderMap) -> bool {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    host.is_some_and(|host| parts.own_hosts.iter().any(|own| own == host))
}

async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css")], page::STYLE).into_response()
}

/// Begins a session. HEAD does not use up the link, because programs that only check links send HEAD.
async fn enter(
    State(parts): State<Arc<PageParts>>,
    Path(link): Path<String>,
    headers: HeaderMap,
    method: Method,
) -> Response {
    if method == Method::HEAD {
        return StatusCode::OK.into_response();
    }
    let known = cookie(&headers);
    if known.is_some_and(|cookie| parts.is_session(&cookie)) {
        return Redirect::to("/").into_response();
    }
    let random = [rand::random(), rand::random()];
    let Some(cookie) = parts.sessions().enter(&link, random, Timestamp::now()) else {
        let words = "A link works only once, and only for five minutes. Run `mailferry web` again.";
        let page = page::notice("This link is no longer valid", words);
        return (StatusCode::FORBIDDEN, html(page)).into_response();
    };
    maillog::page_entered();
    let secure = if parts.is_secure { "; Secure" } else { "" };
    let age = SESSION.as_secs();
    let cookie =
        format!("{COOKIE}={cookie}; HttpOnly; SameSite=Strict; Path=/; Max-Age={age}{secure}");
    ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response()
}

/// Serves every other path, because a browser may return to any of them after a sign-in. Such a request comes
/// from the provider's page, so it has no cookie; the sign-in's `state` authorizes it instead.
async fn come_back(
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

async fn servers(State(parts): State<Arc<PageParts>>, session: PageSession) -> Response {
    let rows: Result<Vec<TokenRow>, OperatorError> = parts.operator().ask(Ask::Tokens).await;
    match rows {
        Ok(rows) => {
            html(page::servers(&rows, &session.form_token, Timestamp::now())).into_response()
        }
        Err(error) => failed("The servers cannot be shown", &error),
    }
}

fn failed(title: &str, error: &OperatorError) -> Response {
    let page = page::notice(title, &error.text);
    (StatusCode::BAD_REQUEST, html(page)).into_response()
}

#[derive(serde::Deserialize)]
struct Posted {
    form_token: String,
}

/// A form of this session's own page. A form that another page made does not contain the session's token.
struct OwnForm;

impl<S: Send + Sync> FromRequest<S> for OwnForm {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let session = request.extensions().get::<PageSession>().cloned();
        let posted = Form::<Posted>::from_request(request, state).await.ok();
        match (session, posted) {
            (Some(session), Some(Form(posted))) if session.form_token == posted.form_token => {
                Ok(Self)
            }
            _ => {
                let words = "Go back and press the button again.";
                let page = page::notice("This form does not belong to your session", words);
                Err((StatusCode::FORBIDDEN, html(page)).into_response())
            }
        }
    }
}

async fn connect(
    State(parts): State<Arc<PageParts>>,
    Path(server): Path<String>,
    _: OwnForm,
) -> Response {
    let wish = SignInOptions {
        way: SignInWay::Usual,
        anybody: false,
    };
    let asked = Ask::Connect {
        server: server.clone(),
        wish,
    };
    let begun: Result<SignInAttempt, OperatorError> = parts.operator().ask(asked).await;
    match begun {
        Ok(attempt) => {
            let id = attempt.id.clone();
            let mut attempts = parts.attempts();
            attempts.retain(|id, _| matches!(parts.look(id), SignInProgress::Waiting));
            attempts.insert(id.clone(), (server, attempt));
            Redirect::to(&format!("/sign-in/{id}")).into_response()
        }
        Err(error) => failed("Not connected", &error),
    }
}

async fn sign_in(
    State(parts): State<Arc<PageParts>>,
    _: PageSession,
    Path(id): Path<String>,
) -> Response {
    let known = parts.attempts().get(&id).cloned();
    let Some((server, attempt)) = known else {
        return Redirect::to("/").into_response();
    };
    match parts.look(&id) {
        SignInProgress::Waiting => html(page::waiting(&server, &attempt)).into_response(),
        SignInProgress::Done(_) => {
            parts.attempts().remove(&id);
            Redirect::to("/").into_response()
        }
        SignInProgress::Failed(reason) => {
            parts.attempts().remove(&id);
            html(page::notice("Not connected", &reason)).into_response()
        }
    }
}

async fn test(
    State(parts): State<Arc<PageParts>>,
    Path(server): Path<String>,
    _: OwnForm,
) -> Response {
    let mut steps: Vec<Step> = Vec::new();
    let asked = Ask::Test {
        server: server.clone(),
        to: None,
    };
    let show = |step: Step| steps.push(step);
    match parts.operator().each(asked, show).await {
        Ok(()) => html(page::steps(&server, &steps)).into_response(),
        Err(error) => failed("Not tested", &error),
    }
}
