//! What the running program answers: its servers and their accounts, and by [`queue`] its queue, as
//! JSON.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{Path as InPath, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http_body::Frame;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::accounts::{Attempt, Disconnected, Progress, Wish};
use super::metrics::{metrics_of, rows};
use super::parts::{Parts, Trouble};
use super::queue;
use super::row::TokenRow;
use crate::base::{Secret, Timestamp};
use crate::delivery::ServerState;
use crate::message::Address;
use crate::transport::Step;

/// The API at work, until it is closed.
pub struct Admin {
    task: JoinHandle<()>,
}

impl Admin {
    /// Answers on the socket `path`; one left by a crash is replaced, which only the holder of the
    /// spool's lock may do.
    pub fn serve(path: &Path, parts: Parts) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/servers", get(servers))
            .route("/hold/{server}", post(hold))
            .route("/release/{server}", post(release))
            .merge(queue::routes())
            .route("/tokens", get(tokens))
            .route("/tokens/unused", get(unused).delete(forget_unused))
            .route("/connect/{server}", post(connect))
            .route("/disconnect/{server}", post(disconnect))
            .route("/test/{server}", post(test))
            .route("/progress/{id}", get(progress).delete(cancel))
            .route("/vault/rotate", post(rotate_vault))
            .route("/web/link", post(web_link))
            .with_state(parts);
        let task = tokio::spawn(async move {
            // It ends with the program.
            let _ = axum::serve(socket, router).await;
        });
        Ok(Self { task })
    }

    /// Answers no more.
    pub fn close(&self) {
        self.task.abort();
    }
}

async fn metrics(State(parts): State<Parts>) -> String {
    metrics_of(parts.spool.as_ref(), &parts.accounts, &parts.delivery).await
}

async fn servers(State(parts): State<Parts>) -> Json<Vec<ServerState>> {
    let mut servers = parts.delivery.servers();
    let now = Timestamp::now();
    for row in parts.accounts.tokens().await {
        let server = servers.iter_mut().find(|server| server.name == row.server);
        if let Some(server) = server {
            server.needs_sign_in = row.needs_sign_in(now);
        }
    }
    Json(servers)
}

fn no_server(server: &str) -> Trouble {
    let words = format!("there is no server named {server}; see `mailferry servers`");
    Trouble(StatusCode::NOT_FOUND, words)
}

async fn hold(
    State(parts): State<Parts>,
    InPath(server): InPath<String>,
    Json(reason): Json<String>,
) -> Result<Json<()>, Trouble> {
    match parts.delivery.hold(&server, reason).await? {
        true => Ok(Json(())),
        false => Err(no_server(&server)),
    }
}

async fn release(
    State(parts): State<Parts>,
    InPath(server): InPath<String>,
) -> Result<Json<bool>, Trouble> {
    let was_held = parts.delivery.release(&server).await?;
    Ok(Json(was_held.ok_or_else(|| no_server(&server))?))
}

async fn tokens(State(parts): State<Parts>) -> Json<Vec<TokenRow>> {
    Json(rows(&parts.accounts, &parts.delivery).await)
}

async fn unused(State(parts): State<Parts>) -> Result<Json<Vec<String>>, Trouble> {
    Ok(Json(parts.accounts.unused()?))
}

async fn forget_unused(State(parts): State<Parts>) -> Result<Json<Vec<String>>, Trouble> {
    Ok(Json(parts.accounts.forget_unused()?))
}

async fn connect(
    State(parts): State<Parts>,
    InPath(server): InPath<String>,
    Json(wish): Json<Wish>,
) -> Result<Json<Attempt>, Trouble> {
    Ok(Json(parts.accounts.connect(&server, wish).await?))
}

async fn progress(
    State(parts): State<Parts>,
    InPath(id): InPath<String>,
) -> Result<Json<Progress>, Trouble> {
    Ok(Json(parts.accounts.progress(&id).await?))
}

/// Nobody waits for it any more.
async fn cancel(State(parts): State<Parts>, InPath(id): InPath<String>) -> Json<()> {
    parts.accounts.cancel(&id);
    Json(())
}

/// Each step as it is done, one JSON object a line.
async fn test(
    State(parts): State<Parts>,
    InPath(server): InPath<String>,
    Json(to): Json<Option<Address>>,
) -> Result<Body, Trouble> {
    if !parts.delivery.has(&server) {
        return Err(no_server(&server));
    }
    let (steps, receiver) = mpsc::channel(1);
    tokio::spawn(parts.delivery.clone().test(server, to, steps));
    Ok(Body::new(Lines(receiver)))
}

/// A body that sends each step as one line of JSON.
struct Lines(mpsc::Receiver<Step>);

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = serde_json::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, serde_json::Error>>> {
        let step = self.0.poll_recv(context);
        step.map(|step| {
            let line = serde_json::to_string(&step?);
            Some(line.map(|line| Frame::data(Bytes::from(line + "\n"))))
        })
    }
}

async fn disconnect(
    State(parts): State<Parts>,
    InPath(server): InPath<String>,
) -> Result<Json<Disconnected>, Trouble> {
    let disconnected = parts.accounts.disconnect(&server).await?;
    parts.delivery.forget_sessions(&server);
    Ok(Json(disconnected))
}

/// None where the configuration has no page.
async fn web_link(State(parts): State<Parts>) -> Json<Option<String>> {
    Json(parts.web.map(|web| web.link()))
}

/// With a new key in the vault's folder, or the one that is named.
async fn rotate_vault(
    State(parts): State<Parts>,
    Json(key): Json<Option<String>>,
) -> Result<Json<usize>, Trouble> {
    let (accounts, key) = (parts.accounts.clone(), key.map(Secret::from));
    let rotated = tokio::task::spawn_blocking(move || accounts.rotate_vault(key.as_ref())).await;
    match rotated {
        Ok(rotated) => Ok(Json(rotated?)),
        Err(panic) => Err(Trouble(
            StatusCode::INTERNAL_SERVER_ERROR,
            panic.to_string(),
        )),
    }
}
