//! Requests carried out by the running program, over its control socket.

use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;

use super::ask::{Operator, Responses};
use super::control::PATH;
use super::error::OperatorError;
use super::request::Request;
use super::response::Response;
use crate::base::BoxFuture;
use crate::platform::{control, files, identity};

/// The longest wait for the next piece of the running program's answer. A step of a test may take a minute.
const ANSWER: Duration = Duration::from_secs(90);

/// The running program.
pub(crate) struct Remote {
    http: reqwest::Client,
}

impl Remote {
    /// Connects to the program that listens on `socket`. Returns `None` if no program listens there, and an
    /// error if this user may not reach the socket.
    pub(crate) async fn connect(socket: &Path) -> Result<Option<Self>, OperatorError> {
        match control::is_listening(socket).await {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(_) => {
                return Err(OperatorError::unavailable(format!(
                    "cannot reach mailferry's control socket {}: permission denied (you are {}); run the command as the \
                     user that mailferry runs as, for example: sudo -u {} mailferry ...",
                    socket.display(),
                    identity::user_name(),
                    owner_of(socket),
                )));
            }
        }
        let http = control::http(socket).no_proxy().read_timeout(ANSWER);
        let http = http.build().map_err(unreachable)?;
        Ok(Some(Self { http }))
    }
}

impl Operator for Remote {
    fn call(&self, request: Request) -> BoxFuture<'_, Responses> {
        let url = format!("http://mailferry{PATH}");
        let request = self.http.post(url).json(&request);
        Box::pin(async move {
            let (sender, responses) = mpsc::channel(1);
            tokio::spawn(async move {
                if let Err(error) = pass_on(request, &sender).await {
                    let _ = sender.send(Err(error)).await;
                }
            });
            responses
        })
    }
}

/// Passes on each line of the answer as a response.
async fn pass_on(
    request: reqwest::RequestBuilder,
    sender: &mpsc::Sender<Result<Response, OperatorError>>,
) -> Result<(), OperatorError> {
    let mut answer = request.send().await.map_err(unreachable)?;
    if !answer.status().is_success() {
        return Err(OperatorError::other_version());
    }
    let mut line = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(unreachable)? {
        line.extend_from_slice(&piece);
        while let Some(end) = memchr::memchr(b'\n', &line) {
            let response: Vec<u8> = line.drain(..=end).collect();
            let response = serde_json::from_slice(&response);
            let response = response.map_err(|_| OperatorError::other_version())?;
            if sender.send(response).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Returns the owner of a path, or of the nearest visible folder above the path.
fn owner_of(path: &Path) -> String {
    let owner = path.ancestors().find_map(files::owner);
    owner.map_or_else(|| "mailferry".to_owned(), identity::name_of)
}

fn unreachable(error: reqwest::Error) -> OperatorError {
    OperatorError::unavailable(format!(
        "the running mailferry does not answer on its control socket: {error}"
    ))
}
