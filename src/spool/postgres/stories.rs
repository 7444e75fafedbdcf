//! Stories, and the search for them.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use super::database::Values;
use super::rows;
use super::shared::Shared;
use crate::base::{MessageId, Timestamp};
use crate::spool::postgres::rows::columns;
use crate::spool::tokens::{self, Wanted};
use crate::spool::{Record, SpoolError, Story, StoryFilter};

/// The number of candidates that are read at once.
const CHUNK: usize = 500;

/// The maximum number of stories that are removed in one transaction.
const PURGE: i64 = 1_000;

/// The time (milliseconds) for which a slice is kept, from its beginning: a day after its last message, and a
/// margin.
const USED_FOR: i64 = 24 * 3_600_000 + 600_000;

const STORIES: &str = "SELECT id, record, ended, events FROM story WHERE id = ANY($1)";
const MESSAGES: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM message m WHERE m.id = ANY($1)"
);

const MENTIONED: &str = "
    SELECT id FROM mention WHERE id >= $1 AND id < $2 AND tokens && $4::text[] ORDER BY id DESC LIMIT $3";
const MENTIONED_TWICE: &str = "
    SELECT id FROM mention WHERE id >= $1 AND id < $2 AND tokens && $4::text[] AND tokens && $5::text[]
    ORDER BY id DESC LIMIT $3";
const OF_RESULT: &str = "
    SELECT id FROM result WHERE id >= $1 AND id < $2 AND name = $4 ORDER BY id DESC LIMIT $3";
const OF_QUEUE: &str =
    "SELECT id FROM message WHERE id >= $1 AND id < $2 ORDER BY id DESC LIMIT $3";
const ALL: &str = "
    (SELECT id FROM message WHERE id >= $1 AND id < $2 ORDER BY id DESC LIMIT $3)
    UNION (SELECT id FROM story WHERE id >= $1 AND id < $2 ORDER BY id DESC LIMIT $3) ORDER BY id DESC LIMIT $3";

const PURGE_USED: &str = "DELETE FROM used WHERE began < $1";
const PURGE_RESERVED: &str = "DELETE FROM reserved WHERE at < $1 OR (recipients = 0 AND at < $2)";
const PURGE_QUOTAS: &str = "DELETE FROM quota WHERE at < $1";
const PURGE_ENDED: &str = "DELETE FROM ended WHERE node NOT IN (SELECT id FROM node)";
const PURGE_STORIES: &str = "
    WITH over AS (SELECT id FROM story WHERE id < $1 AND ended < $2 ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED),
        stories AS (DELETE FROM story WHERE id IN (SELECT id FROM over)),
        mentions AS (DELETE FROM mention WHERE id IN (SELECT id FROM over)),
        results AS (DELETE FROM result WHERE id IN (SELECT id FROM over))
    SELECT count(*) FROM over";

/// Returns the story of a message. A queued message that was never tried has no stored story; the returned story then
/// has no events.
pub(super) async fn story(shared: &Shared, id: MessageId) -> Result<Story, SpoolError> {
    let mut found = read(shared, &[id]).await?;
    found.remove(&id).ok_or(SpoolError::Unknown(id))
}

/// Reads the stories of those messages that are known.
async fn read(shared: &Shared, ids: &[MessageId]) -> Result<HashMap<MessageId, Story>, SpoolError> {
    let ids: Vec<i64> = ids.iter().map(|id| id.to_i64()).collect();
    let (told, queued) = shared
        .database
        .within(async {
            let lent = shared.database.lend().await?;
            let values: Values = &[&ids];
            let (told, queued) = tokio::join!(
                biased;
                lent.query(STORIES, values),
                lent.query(MESSAGES, values),
            );
            let both = (told?, queued?);
            lent.done();
            Ok(both)
        })
        .await?;
    let mut found = HashMap::new();
    for row in &told {
        let id = rows::id(row);
        let story = rows::story(id, (row.get(1), row.get(2), row.get(3)))?;
        found.insert(id, story);
    }
    for row in &queued {
        let record: Record = rows::record_or_damaged(row)?;
        let events = found.remove(&record.id).map(|told| told.events);
        let story = Story {
            ended: None,
            events: events.unwrap_or_default(),
            record,
        };
        found.insert(story.record.id, story);
    }
    Ok(found)
}

/// Returns the newest `limit` stories that a filter admits, newest first.
pub(super) async fn stories(
    shared: &Shared,
    filter: &StoryFilter,
    limit: usize,
) -> Result<Vec<Story>, SpoolError> {
    let first = filter
        .since
        .map_or(MessageId::from_i64(0), MessageId::first_at);
    let end = filter.before.map(MessageId::first_at);
    let end = [end, filter.below].into_iter().flatten().min();
    let mut end = end.unwrap_or(MessageId::from_i64(i64::MAX));
    let mut found = Vec::new();
    while first < end {
        let ids = candidates(shared, filter, first..end).await?;
        let mut stories = read(shared, &ids).await?;
        let stories = ids.iter().filter_map(|id| stories.remove(id));
        found.extend(stories.filter(|story| filter.admits(story)));
        match ids.last() {
            Some(last) if ids.len() >= CHUNK && found.len() < limit => end = *last,
            _ => break,
        }
    }
    found.truncate(limit);
    Ok(found)
}

/// Returns the newest messages in a range that a filter may admit, newest first: all of them, or [`CHUNK`].
async fn candidates(
    shared: &Shared,
    filter: &StoryFilter,
    ids: Range<MessageId>,
) -> Result<Vec<MessageId>, SpoolError> {
    let (first, end, chunk) = (ids.start.to_i64(), ids.end.to_i64(), CHUNK as i64);
    let wanted = tokens::wanted(filter);
    let database = &shared.database;
    let rows = match (&wanted[..], tokens::wanted_result(filter)) {
        ([one, other, ..], _) => {
            let [one, other] = [one, other].map(Wanted::tokens);
            let values: Values = &[&first, &end, &chunk, &one, &other];
            database.query(MENTIONED_TWICE, values).await?
        }
        ([one], _) => {
            let one = one.tokens();
            let values: Values = &[&first, &end, &chunk, &one];
            database.query(MENTIONED, values).await?
        }
        ([], Some(name)) => {
            let values: Values = &[&first, &end, &chunk, &name];
            database.query(OF_RESULT, values).await?
        }
        ([], None) if filter.is_of_queue() => {
            database.query(OF_QUEUE, &[&first, &end, &chunk]).await?
        }
        ([], None) => database.query(ALL, &[&first, &end, &chunk]).await?,
    };
    Ok(rows.iter().map(rows::id).collect())
}

/// Removes usage that no longer counts, and some of the stories that ended before `before`. Returns true if there may
/// be more of them.
pub(super) async fn purge(
    shared: &Shared,
    before: Timestamp,
    now: Timestamp,
) -> Result<bool, SpoolError> {
    let database = &shared.database;
    database.execute(PURGE_USED, &[&(now.0 - USED_FOR)]).await?;
    let minutes = now.before(Duration::from_secs(300)).0;
    database
        .execute(PURGE_RESERVED, &[&(now.0 - USED_FOR), &minutes])
        .await?;
    database
        .execute(PURGE_QUOTAS, &[&(now.0 - USED_FOR)])
        .await?;
    database.execute(PURGE_ENDED, &[]).await?;
    let first = MessageId::first_at(before).to_i64();
    let rows = database
        .query(PURGE_STORIES, &[&first, &before.0, &PURGE])
        .await?;
    Ok(rows[0].get::<_, i64>(0) == PURGE)
}
