//! The running program's control socket: requests as JSON over HTTP on a Unix socket, and metrics.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http_body::Frame;
use tokio::task::JoinHandle;

use super::ask::{Operator, Responses};
use super::local::Local;
use super::metrics::metrics;
use super::request::Request;
use crate::platform;

/// The URL path for requests.
pub(super) const PATH: &str = "/request";

/// Returns the path of the control socket of the process that has this spool open.
pub(crate) fn socket(spool: &Path) -> PathBuf {
    spool.join("control.sock")
}

/// The running control socket, until it is closed.
pub(crate) struct Control {
    task: JoinHandle<()>,
}

impl Control {
    /// Answers on a socket at `path`. A socket that a crash has left there is replaced, so the caller must
    /// hold the spool's lock.
    pub(crate) fn serve(path: &Path, operator: Local) -> io::Result<Self> {
        let socket = platform::control::listen(path)?;
        let router = Router::new()
            .route("/metrics", get(measured))
            .route(PATH, post(respond))
            .with_state(Arc::new(operator));
        let task = tokio::spawn(async move {
            // The server ends with the program.
            let _ = axum::serve(socket, router).await;
        });
        Ok(Self { task })
    }

    /// Stops answering.
    pub(crate) fn close(&self) {
        self.task.abort();
    }
}

async fn measured(State(operator): State<Arc<Local>>, headers: HeaderMap) -> impl IntoResponse {
    metrics(&operator, &headers).await
}

async fn respond(State(operator): State<Arc<Local>>, Json(request): Json<Request>) -> Body {
    Body::new(ResponseLines(operator.call(request).await))
}

/// A body that sends each response as one line of JSON.
struct ResponseLines(Responses);

impl http_body::Body for ResponseLines {
    type Data = Bytes;
    type Error = serde_json::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, serde_json::Error>>> {
        let response = self.0.poll_recv(context);
        response.map(|response| {
            let line = serde_json::to_string(&response?);
            Some(line.map(|line| Frame::data(Bytes::from(line + "\n"))))
        })
    }
}
