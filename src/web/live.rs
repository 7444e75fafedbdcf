//! Tells an open page when something has changed, by server-sent events.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::header::{self, HeaderMap};
use axum::response::{IntoResponse, Response};
use tokio::sync::mpsc;

use super::fingerprint::fingerprint;
use super::parts::PageParts;
use super::serve;

/// The interval at which the state is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The number of looks without a change after which a comment is sent, so that a lost browser is noticed.
const QUIET: u32 = 15;

#[derive(serde::Deserialize)]
pub(super) struct Seen {
    /// The fingerprint of the state that the open page shows.
    #[serde(default)]
    seen: String,
}

/// Sends the event `changed` whenever the state is not the one that the page shows, until the session is over.
pub(super) async fn live(
    State(parts): State<Arc<PageParts>>,
    Query(Seen { seen }): Query<Seen>,
    headers: HeaderMap,
) -> Response {
    let (sender, body) = mpsc::channel(1);
    tokio::spawn(async move {
        let (mut last, mut quiet) = (seen, 0);
        while parts.session(&headers).is_some() {
            tokio::time::sleep(LOOK).await;
            let now = fingerprint(&parts).await;
            quiet += 1;
            let line = if now != last {
                "event: changed\ndata:\n\n"
            } else if quiet >= QUIET {
                ": nothing has changed\n\n"
            } else {
                continue;
            };
            (last, quiet) = (now, 0);
            if sender.send(line.to_owned()).await.is_err() {
                return;
            }
        }
    });
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    (kind, serve::stream(body)).into_response()
}
