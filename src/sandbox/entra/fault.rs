//! Answers that go wrong on the way: refused, throttled, slow or cut off.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use http_body::Frame;
use serde_json::{Value, json};
use tokio::time::Sleep;

use crate::sandbox::script::{FaultAction, FaultAnswer};

/// Applies a fault to the answer `body`, which is produced only if it is needed.
pub(super) async fn struck(action: FaultAction, body: impl FnOnce() -> Response) -> Response {
    match action {
        FaultAction::Reply(text) => scripted(&text),
        FaultAction::Stall(ms) => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            body()
        }
        FaultAction::Answer(FaultAnswer::Throttle(seconds)) => throttled(seconds),
        FaultAction::Answer(FaultAnswer::Cut) => halves(body(), Piece::Cut).await,
        FaultAction::Answer(FaultAnswer::Trickle(ms)) => halves(body(), Piece::pause(ms)).await,
        FaultAction::Drop => broken(VecDeque::from([Piece::Cut]), StatusCode::OK, 1),
        FaultAction::DropAfter => {
            drop(body());
            broken(VecDeque::from([Piece::Cut]), StatusCode::OK, 1)
        }
        FaultAction::Answer(FaultAnswer::Life(_)) => body(),
    }
}

/// Builds the response from a text such as `429 {"error":...}`: a status, then the body, which is sent
/// unchanged.
fn scripted(text: &str) -> Response {
    let (status, body) = text
        .split_once(' ')
        .unwrap_or((text, "<html>Service unavailable</html>"));
    let status = status
        .parse()
        .ok()
        .and_then(|code| StatusCode::from_u16(code).ok());
    let kind = if body.starts_with('{') {
        "application/json"
    } else {
        "text/html"
    };
    let headers = [(CONTENT_TYPE, kind)];
    (
        status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
        headers,
        body.to_owned(),
    )
        .into_response()
}

/// Returns the 429 response of RFC 6585 §4.
fn throttled(seconds: u64) -> Response {
    let body = json!({
        "error": "temporarily_unavailable", "error_codes": [90033],
        "error_description": "AADSTS90033: A transient error has occurred. Please try again.",
    });
    let headers = [(RETRY_AFTER, HeaderValue::from(seconds))];
    (
        StatusCode::TOO_MANY_REQUESTS,
        headers,
        axum::Json::<Value>(body),
    )
        .into_response()
}

/// Returns the answer with the piece `between` inserted between its halves.
async fn halves(response: Response, between: Piece) -> Response {
    let (parts, body) = response.into_parts();
    // Our own answers are small and already in memory.
    let body = axum::body::to_bytes(body, usize::MAX).await;
    let body = body.unwrap_or_default();
    let (first, rest) = (body.slice(..body.len() / 2), body.slice(body.len() / 2..));
    let pieces = VecDeque::from([Piece::Bytes(first), between, Piece::Bytes(rest)]);
    let mut response = broken(pieces, parts.status, body.len());
    if let Some(kind) = parts.headers.get(CONTENT_TYPE) {
        response.headers_mut().insert(CONTENT_TYPE, kind.clone());
    }
    response
}

fn broken(pieces: VecDeque<Piece>, status: StatusCode, length: usize) -> Response {
    let headers = [(CONTENT_LENGTH, HeaderValue::from(length))];
    (status, headers, Body::new(BodyPieces(pieces))).into_response()
}

enum Piece {
    Bytes(Bytes),
    Pause(Pin<Box<Sleep>>),
    Cut,
}

impl Piece {
    fn pause(ms: u64) -> Self {
        Self::Pause(Box::pin(tokio::time::sleep(Duration::from_millis(ms))))
    }
}

/// A body in pieces; `Piece::Cut` closes the connection.
struct BodyPieces(VecDeque<Piece>);

impl HttpBody for BodyPieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(Piece::Pause(pause)) = self.0.front_mut() {
            ready!(pause.as_mut().poll(context));
            self.0.pop_front();
        }
        Poll::Ready(match self.0.pop_front() {
            Some(Piece::Bytes(bytes)) => Some(Ok(Frame::data(bytes))),
            Some(Piece::Cut) => Some(Err(io::ErrorKind::ConnectionReset.into())),
            Some(Piece::Pause(_)) | None => None,
        })
    }
}
