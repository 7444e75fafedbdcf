//! Claims: which node has the right to which message. A claim is a row's `node`, and its fencing number.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::Row;

use super::rows::{self, UNREADABLE, columns};
use super::{body::Bodies, shared::Shared};
use crate::base::{MessageId, Timestamp, limits};
use crate::observe::maillog;
use crate::spool::{Claim, Claimed, Content, Flow, Place, SpoolError};

/// Locks this node's row, so that no other node takes over while the claim is not committed.
macro_rules! own {
    () => {
        "own AS (SELECT id FROM node WHERE id = $1 FOR KEY SHARE)"
    };
}

/// The columns that a claim returns: the record, the fencing number, whether the message may have arrived, and the content.
macro_rules! returning {
    () => {
        concat!(" RETURNING ", columns!(), ", m.claim, m.sending, m.content")
    };
}

const CLAIM_DUE: &str = concat!(
    "WITH ",
    own!(),
    ", next AS (SELECT id FROM message WHERE state = 0 AND node IS NULL AND lane = $2 AND flow = $3 AND due <= $4
            ORDER BY due LIMIT $5 FOR UPDATE SKIP LOCKED)
    UPDATE message m SET node = own.id, claim = m.claim + 1 FROM next, own WHERE m.id = next.id",
    returning!()
);

const CLAIM_NAMED: &str = concat!(
    "WITH ",
    own!(),
    ", next AS (SELECT id FROM message WHERE state = 0 AND node IS NULL AND id = ANY($2)
            ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED)
    UPDATE message m SET node = own.id, claim = m.claim + 1 FROM next, own WHERE m.id = next.id",
    returning!()
);

const NEXT_DUE: &str =
    "SELECT min(due) FROM message WHERE state = 0 AND node IS NULL AND lane = $1 AND flow = $2";

const SET_ASIDE: &str = "UPDATE message SET state = $2, node = NULL WHERE id = $1";

/// With `$4`, the node did not begin to send the messages, or they did not arrive.
const RELEASE: &str = "
    WITH unspent AS (DELETE FROM reserved r USING unnest($2::bigint[], $3::bigint[]) AS own (id, claim)
        WHERE $4 AND r.message = own.id AND r.claim = own.claim)
    UPDATE message m SET node = NULL, sending = m.sending AND NOT $4
    FROM unnest($2::bigint[], $3::bigint[]) AS own (id, claim)
    WHERE m.id = own.id AND m.claim = own.claim AND m.node = $1";

/// All places with unclaimed messages, and when the next one is due. Each step of the recursion looks once at the
/// index, so the time depends on the number of places and not of messages.
const PLACES: &str = "
    WITH RECURSIVE place AS (
        (SELECT lane, flow, due FROM message WHERE state = 0 AND node IS NULL ORDER BY lane, flow, due LIMIT 1)
        UNION ALL
        SELECT next.lane, next.flow, next.due FROM place CROSS JOIN LATERAL (
            SELECT lane, flow, due FROM message WHERE state = 0 AND node IS NULL
                AND (lane, flow) > (place.lane, place.flow) ORDER BY lane, flow, due LIMIT 1) AS next
    )
    SELECT lane, flow, due FROM place";

/// Claims messages that are due in a place, and stores when the place's next message is due.
pub(super) async fn claim_due(
    shared: &Arc<Shared>,
    place: &Place,
    max: usize,
    (now, until): (Timestamp, Timestamp),
) -> Result<Vec<Claimed>, SpoolError> {
    let announced = shared.local().due.announced();
    let (lane, flow, most) = (&place.lane, place.flow.key(), max as i64);
    let node = shared.node();
    let rows = shared
        .database
        .query(CLAIM_DUE, &[&node, lane, &flow, &now.0, &most])
        .await?;
    let next = if rows.len() < max {
        let rows = shared.database.query(NEXT_DUE, &[lane, &flow]).await?;
        rows[0].get::<_, Option<i64>>(0).map(Timestamp)
    } else {
        Some(now)
    };
    let mut claimed = claimed(shared, rows, until).await?;
    claimed.sort_by_key(|message| message.record.due);
    shared.local().due.record_next(place, next, announced);
    Ok(claimed)
}

/// Claims those messages with these ids that are queued and not claimed.
pub(super) async fn claim_named(
    shared: &Arc<Shared>,
    ids: &[MessageId],
    max: usize,
    until: Timestamp,
) -> Result<Vec<Claimed>, SpoolError> {
    let ids: Vec<i64> = ids.iter().map(|id| id.to_i64()).collect();
    let most = i64::try_from(max).unwrap_or(i64::MAX);
    let node = shared.node();
    let rows = shared
        .database
        .query(CLAIM_NAMED, &[&node, &ids, &most])
        .await?;
    claimed(shared, rows, until).await
}

async fn claimed(
    shared: &Arc<Shared>,
    rows: Vec<Row>,
    until: Timestamp,
) -> Result<Vec<Claimed>, SpoolError> {
    let mut claimed = Vec::with_capacity(rows.len());
    for row in &rows {
        let record = match rows::record(row) {
            Err(error) if error.is_unreadable_row() => {
                set_aside(shared, rows::id(row), &error).await?;
                continue;
            }
            read => read?,
        };
        let number: i64 = row.get(rows::COLUMNS);
        let may_have_arrived = row.get(rows::COLUMNS + 1);
        let content = row.get::<_, Option<Vec<u8>>>(rows::COLUMNS + 2);
        let content = match content {
            Some(bytes) => Some(Content::Memory(bytes.into())),
            None if record.size > limits::BODY_IN_MEMORY as u64 => {
                let body = Bodies(shared.clone()).kept(record.id, record.size);
                Some(Content::Stored(body))
            }
            None => None,
        };
        let mut local = shared.local();
        claimed.push(local.claimed(record, number as u64, content, until, may_have_arrived));
    }
    Ok(claimed)
}

/// Marks a message as unreadable, so that it is no longer due.
async fn set_aside(shared: &Shared, id: MessageId, error: &SpoolError) -> Result<(), SpoolError> {
    maillog::record_damaged(id, error);
    shared
        .database
        .execute(SET_ASIDE, &[&id.to_i64(), &UNREADABLE])
        .await
        .map(drop)
}

/// Releases claims in the database; with `unsent`, their messages did not arrive.
pub(super) async fn release(
    shared: &Shared,
    claims: impl Iterator<Item = &Claim>,
    unsent: bool,
) -> Result<(), SpoolError> {
    let (ids, numbers) = columns(claims);
    if ids.is_empty() {
        return Ok(());
    }
    let node = shared.node();
    shared
        .database
        .execute(RELEASE, &[&node, &ids, &numbers, &unsent])
        .await
        .map(drop)
}

fn columns<'c>(claims: impl Iterator<Item = &'c Claim>) -> (Vec<i64>, Vec<i64>) {
    claims
        .map(|claim| (claim.id.to_i64(), claim.number as i64))
        .unzip()
}

/// Finds the places where messages wait.
async fn places(shared: &Shared) -> Result<HashMap<Place, Timestamp>, SpoolError> {
    let rows = shared.database.query(PLACES, &[]).await?;
    let places = rows.iter().map(|row| {
        let (lane, flow) = (row.get(0), Flow::of_key(row.get(1)));
        (Place { lane, flow }, Timestamp(row.get(2)))
    });
    Ok(places.collect())
}

/// Notes the places where messages wait.
pub(super) async fn search_places(shared: &Shared) {
    match places(shared).await {
        Ok(places) => {
            let mut local = shared.local();
            for (place, due) in places {
                local.due.announce(&place, due);
            }
            drop(local);
            shared.changed.notify_one();
        }
        Err(error) => maillog::claim_failed("", &error),
    }
}
