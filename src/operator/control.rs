//! The running program's control socket: requests as JSON over HTTP on a Unix socket, and metrics.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use axum::{Json, Router};
use bytes::Bytes;
use http_body::Frame;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::ask::{Operator, Responses};
use super::error::OperatorError;
use super::local::Local;
use super::metrics::metrics;
use super::request::Request;
use super::role::Role;
use crate::platform::control::{self, ControlListener};

/// The URL path for requests.
pub(super) const PATH: &str = "/request";

/// The control socket in the runtime folder of the service, if the configuration names it. Users who may not read the
/// configuration look here.
pub(crate) const OF_SERVICE: &str = "/run/mailferry/control.sock";

/// The table `[control]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ControlSettings {
    /// The path of the socket.
    pub socket: PathBuf,
    /// The group whose members may connect too.
    pub group: Option<String>,
    /// What members of the group may do.
    pub access: Role,
}

impl ControlSettings {
    /// Returns the settings of a socket beside this spool, for its owner only.
    pub(crate) fn beside(spool: &Path) -> Self {
        Self {
            socket: spool.join("control.sock"),
            group: None,
            access: Role::default(),
        }
    }
}

/// A client of the control socket.
#[derive(Debug, Clone, Copy)]
struct Client {
    /// True if the client is root or the user of this process.
    is_owner: bool,
}

impl Connected<IncomingStream<'_, ControlListener>> for Client {
    fn connect_info(stream: IncomingStream<'_, ControlListener>) -> Self {
        let client = stream.io().peer_cred();
        let is_owner = client.is_ok_and(|client| control::is_owner(&client));
        Self { is_owner }
    }
}

/// The running control socket, until it is closed.
pub(crate) struct Control {
    task: JoinHandle<()>,
    socket: PathBuf,
    /// The reason why the group cannot connect, if it cannot.
    pub(crate) not_admitted: Option<io::Error>,
}

impl Control {
    /// Answers on the socket.
    pub(crate) async fn serve(settings: &ControlSettings, operator: Local) -> io::Result<Self> {
        let socket = control::listen(&settings.socket).await?;
        let admitted = settings.group.as_deref();
        let admitted = admitted.map(|group| control::admit(&settings.socket, group));
        let members = settings.group.as_ref().map(|_| settings.access);
        let router = Router::new()
            .route("/metrics", get(measured))
            .route(PATH, post(respond))
            .layer(Extension(members))
            .with_state(Arc::new(operator))
            .into_make_service_with_connect_info::<Client>();
        let task = tokio::spawn(async move {
            // The server ends with the program.
            let _ = axum::serve(socket, router).await;
        });
        Ok(Self {
            task,
            socket: settings.socket.clone(),
            not_admitted: admitted.and_then(Result::err),
        })
    }

    /// Stops answering, and removes the socket.
    pub(crate) fn close(&self) {
        self.task.abort();
        // The next start replaces a socket that remains.
        let _ = std::fs::remove_file(&self.socket);
    }
}

async fn measured(State(operator): State<Arc<Local>>, headers: HeaderMap) -> impl IntoResponse {
    metrics(&operator, &headers).await
}

async fn respond(
    State(operator): State<Arc<Local>>,
    Extension(members): Extension<Option<Role>>,
    ConnectInfo(client): ConnectInfo<Client>,
    Json(request): Json<Request>,
) -> Body {
    let is_admitted = client.is_owner
        || match members {
            Some(Role::Administrator) => true,
            Some(Role::ReadOnly) => request.only_reads(),
            None => false,
        };
    let responses = match is_admitted {
        true => operator.call(request).await,
        false => refused().await,
    };
    Body::new(ResponseLines(responses))
}

/// Returns the answer to a member of the group who may only read.
async fn refused() -> Responses {
    let (sender, responses) = mpsc::channel(1);
    let text = "you may only look at mailferry ([control] access is \"read-only\"); run the command as root or as the user that mailferry \
                runs as";
    let _ = sender.send(Err(OperatorError::no(text))).await;
    responses
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
