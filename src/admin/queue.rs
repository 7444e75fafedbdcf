//! The queue and the stories over the API: listed, shown, acted on, exported.

use std::collections::HashSet;

use axum::body::Body;
use axum::extract::{Path as InPath, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio_util::io::ReaderStream;

use super::parts::{Parts, Trouble};
use crate::base::{MessageId, Timestamp};
use crate::spool::{Deed, Entry, Manage, Page, Selection, SpoolError, Story};

/// Messages in one answer at the most.
pub const PAGE: usize = 1_000;

/// What an operator does, and to which messages.
#[derive(Debug, Serialize, Deserialize)]
pub struct Act {
    /// To which.
    pub which: Selection,
    /// What.
    pub deed: Deed,
}

/// Whose stories.
#[derive(Debug, Serialize, Deserialize)]
pub struct Whose {
    /// An address, or `@domain`.
    pub address: String,
    /// At most so many, the newest.
    pub limit: usize,
}

pub(super) fn routes() -> Router<Parts> {
    Router::new()
        .route("/queue", post(list))
        .route("/queue/act", post(act))
        .route("/queue/{id}", get(show))
        .route("/queue/{id}/content", get(content))
        .route("/story/{id}", get(story))
        .route("/stories", post(stories))
}

async fn list(
    State(parts): State<Parts>,
    Json(page): Json<Page>,
) -> Result<Json<Vec<Entry>>, Trouble> {
    let limit = page.limit.min(PAGE);
    Ok(Json(parts.spool.list(Page { limit, ..page }).await?))
}

async fn show(
    State(parts): State<Parts>,
    InPath(id): InPath<MessageId>,
) -> Result<Json<Entry>, Trouble> {
    Ok(Json(parts.spool.get(id).await?))
}

/// An operator who retries messages has mended something about their servers, so those are used again.
async fn act(
    State(parts): State<Parts>,
    Json(Act { which, deed }): Json<Act>,
) -> Result<Json<usize>, Trouble> {
    let servers = match deed {
        Deed::Retry => servers_of(parts.spool.as_ref(), &which).await?,
        _ => HashSet::new(),
    };
    let pause = parts.delivery.pause();
    let count = parts.spool.act(which, deed, Timestamp::now()).await;
    // Before the pause ends, or the first message would meet the failure that is remembered.
    servers
        .iter()
        .for_each(|server| parts.delivery.mended(server));
    drop(pause);
    Ok(Json(count?))
}

/// The servers that these messages wait for.
async fn servers_of(spool: &dyn Manage, which: &Selection) -> Result<HashSet<String>, SpoolError> {
    let mut servers = HashSet::new();
    match which {
        Selection::Ids(ids) => {
            for id in ids {
                match spool.get(*id).await {
                    Ok(entry) => servers.insert(entry.record.lane),
                    Err(SpoolError::Missing(_)) => continue,
                    Err(error) => return Err(error),
                };
            }
        }
        Selection::Matching(filter) => {
            let mut after = None;
            loop {
                let page = Page {
                    after,
                    limit: PAGE,
                    filter: filter.clone(),
                };
                let entries = spool.list(page).await?;
                let Some(last) = entries.last() else {
                    break;
                };
                after = Some(last.record.id);
                servers.extend(entries.into_iter().map(|entry| entry.record.lane));
            }
        }
    }
    Ok(servers)
}

/// As the app sent it.
async fn content(
    State(parts): State<Parts>,
    InPath(id): InPath<MessageId>,
) -> Result<Body, Trouble> {
    let content = parts.spool.content(id).await?.open().await?;
    Ok(Body::from_stream(ReaderStream::new(content)))
}

async fn story(
    State(parts): State<Parts>,
    InPath(id): InPath<MessageId>,
) -> Result<Json<Story>, Trouble> {
    Ok(Json(parts.spool.story(id).await?))
}

async fn stories(
    State(parts): State<Parts>,
    Json(Whose { address, limit }): Json<Whose>,
) -> Result<Json<Vec<Story>>, Trouble> {
    let limit = limit.min(PAGE);
    Ok(Json(parts.spool.stories(&address, limit).await?))
}
