//! The operators' side: the queue, its counts, and actions on messages.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::Row;

use super::changes::Changes;
use super::database::Lent;
use super::rows::{self, columns};
use super::shared::Shared;
use super::{claims, finish};
use crate::base::{MessageId, Timestamp};
use crate::spool::lease::DEAD;
use crate::spool::{
    Acted, Count, Entry, EventKind, Lease, OperatorAction, Owner, QueueFilter, Record, SpoolError,
    SpoolMeasures, State, StoryEvent,
};

/// The number of rows that are read at once.
const CHUNK: usize = 1_000;

/// With more messages than this, measurements are reused, so that measuring takes at most a hundredth of the time.
const MANY: usize = 10_000;

/// Measurements that need not be exact are reused for this time, because one request often needs several.
const MOMENT: Duration = Duration::from_secs(1);

/// The longest time for which measurements are reused.
const MEASURED: Duration = Duration::from_secs(30);

/// The node that is sending the message, and how long ago it was heard from (milliseconds).
macro_rules! entries {
    ($rest:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            ", CASE WHEN m.sending THEN n.name END,
                (extract(epoch FROM clock_timestamp() - n.seen) * 1000)::bigint
             FROM message m LEFT JOIN node n ON n.id = m.node ",
            $rest
        )
    };
}

const LIST: &str = entries!("WHERE m.id > $1 ORDER BY m.id LIMIT $2");
const GET: &str = entries!("WHERE m.id = $1");

const QUEUED: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM message m WHERE m.id > $1 AND m.id < $2 AND m.state = 0 ORDER BY m.id LIMIT $3"
);

const LOCK: &str = concat!(
    "SELECT ",
    columns!(),
    ", m.node FROM message m WHERE m.id = ANY($1) ORDER BY m.id FOR UPDATE OF m"
);

const LANES: &str = "SELECT DISTINCT lane FROM message WHERE state = 0";
const HOLD_LANE: &str = "UPDATE message SET state = 1, last = $2 WHERE state = 0 AND lane = $1";
const EMPTY_LANES: &str =
    "UPDATE message SET lane = '', former_lane = lane WHERE state = 0 AND lane = ANY($1)";

const COUNT: &str =
    "SELECT lane, state <> 0, count(*), min(id) FROM message GROUP BY 1, 2 ORDER BY 1";

const SIZE: &str = "
    SELECT sum(pg_total_relation_size(to_regclass(name)))::bigint FROM unnest(ARRAY['message', 'recipient', 'piece',
        'digest_line', 'story', 'mention', 'result', 'used', 'note']) AS own (name)";

/// Returns at most `limit` messages that a filter admits, oldest first.
pub(super) async fn list(
    shared: &Shared,
    mut after: Option<MessageId>,
    limit: usize,
    filter: &QueueFilter,
) -> Result<Vec<Entry>, SpoolError> {
    let (mut found, mut chunk) = (Vec::new(), CHUNK.min(limit));
    loop {
        let first = after.map_or(-1, MessageId::to_i64);
        let rows = shared
            .database
            .query(LIST, &[&first, &(chunk as i64)])
            .await?;
        for row in &rows {
            let entry = entry(shared, row)?;
            if filter.admits(&entry) {
                found.push(entry);
            }
            if found.len() >= limit {
                return Ok(found);
            }
        }
        match rows.last() {
            Some(last) if rows.len() == chunk => after = Some(rows::id(last)),
            _ => return Ok(found),
        }
        // The filter may admit few.
        chunk = CHUNK;
    }
}

/// Returns one message.
pub(super) async fn get(shared: &Shared, id: MessageId) -> Result<Entry, SpoolError> {
    let rows = shared.database.query(GET, &[&id.to_i64()]).await?;
    entry(shared, rows.first().ok_or(SpoolError::Missing(id))?)
}

fn entry(shared: &Shared, row: &Row) -> Result<Entry, SpoolError> {
    let record = rows::record_or_damaged(row)?;
    let sent_by: Option<String> = row.get(rows::COLUMNS);
    let age: Option<i64> = row.get(rows::COLUMNS + 1);
    let lease = sent_by.map(|name| {
        let own = shared.local().until(record.id);
        let age = Duration::from_millis(age.unwrap_or_default().max(0) as u64);
        let others = shared.clock.now().before(age).after(DEAD);
        let until = own.unwrap_or(others);
        Lease {
            owner: Owner::from(name),
            until,
        }
    });
    Ok(Entry { record, lease })
}

/// Returns at most `limit` queued messages after `after` and before `before`, oldest first. Omits messages that cannot
/// be read.
pub(super) async fn queued(
    shared: &Shared,
    after: Option<MessageId>,
    before: MessageId,
    limit: usize,
) -> Result<Vec<Record>, SpoolError> {
    let (first, most) = (after.map_or(-1, MessageId::to_i64), limit as i64);
    let rows = shared
        .database
        .query(QUEUED, &[&first, &before.to_i64(), &most])
        .await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        match rows::record(row) {
            Err(error) if error.is_unreadable_row() => {}
            record => found.push(record?),
        }
    }
    Ok(found)
}

/// Applies an action to unclaimed messages. Returns the number of changed messages.
pub(super) async fn act(
    shared: &Shared,
    ids: &[MessageId],
    deed: &OperatorAction,
    now: Timestamp,
    named: bool,
) -> Result<usize, SpoolError> {
    let written = shared.database.within(async {
        let lent = shared.database.lend().await?;
        lent.begin().await?;
        let keys: Vec<i64> = ids.iter().map(|id| id.to_i64()).collect();
        let rows = lent.query(LOCK, &[&keys]).await?;
        if named && let Some(missing) = missing(ids, &rows) {
            return Err(SpoolError::Missing(missing));
        }
        let (mut changes, mut count, mut due) = (Changes::default(), 0, Vec::new());
        for row in &rows {
            let acted = act_on(shared, &lent, row, (deed, now, named), &mut changes).await?;
            count += usize::from(acted.is_some());
            let record = acted.and_then(|acted| acted.record);
            due.extend(record.filter(|it| it.state == State::Queued));
        }
        changes.write(&lent, false, None).await?;
        lent.done();
        Ok((count, due))
    });
    let (count, due): (usize, Vec<Record>) = written.await?;
    let mut local = shared.local();
    for record in due {
        local.announce(&record.place(), record.due);
    }
    drop(local);
    shared.announced();
    Ok(count)
}

fn missing(ids: &[MessageId], rows: &[Row]) -> Option<MessageId> {
    let is_there = |id: &MessageId| rows.iter().any(|row| rows::id(row) == *id);
    ids.iter().find(|id| !is_there(id)).copied()
}

/// Applies an action to a message. `None` means that nothing has changed: a claimed message belongs to its attempt.
async fn act_on(
    shared: &Shared,
    lent: &Lent,
    row: &Row,
    (deed, now, named): (&OperatorAction, Timestamp, bool),
    changes: &mut Changes,
) -> Result<Option<Acted>, SpoolError> {
    let node: Option<i64> = row.get(rows::COLUMNS);
    if node.is_some() {
        return Ok(None);
    }
    let record = match rows::record(row) {
        // The only possible action on an unreadable row is to remove it.
        Err(error) if error.is_unreadable_row() && *deed == OperatorAction::Delete => {
            let id = rows::id(row);
            changes.remove(id, u64::MAX);
            changes.forget(id);
            return Ok(Some(Acted {
                record: None,
                event: EventKind::Deleted,
            }));
        }
        Err(error) if error.is_unreadable_row() => return Ok(None),
        read => read?,
    };
    let Some(acted) = deed.on(&record, now, named) else {
        return Ok(None);
    };
    let new = acted.record.as_ref();
    let ended = new.is_none().then_some(now);
    if shared.keeps_stories() {
        let event = StoryEvent {
            at: now,
            what: acted.event.clone(),
        };
        changes.tell(new.unwrap_or(&record), ended, &[event]);
    }
    match new {
        Some(new) => changes.update(new, &[], None),
        None => {
            finish::has_more(lent, &record, u64::MAX).await?;
            finish::remove(shared, changes, record.id, record.size);
        }
    }
    Ok(Some(acted))
}

/// Moves queued messages whose lane is not known to the lane `""`, and holds those in lanes of `held`.
pub(super) async fn reroute(
    shared: &Shared,
    is_known: impl Fn(&str) -> bool,
    held: &[(String, String)],
) -> Result<(), SpoolError> {
    for (lane, reason) in held {
        shared.database.execute(HOLD_LANE, &[lane, reason]).await?;
    }
    let lanes = shared.database.query(LANES, &[]).await?;
    let lanes = lanes.iter().map(|row| row.get::<_, String>(0));
    let unknown: Vec<String> = lanes
        .filter(|lane| !lane.is_empty() && !is_known(lane))
        .collect();
    if !unknown.is_empty() {
        shared.database.execute(EMPTY_LANES, &[&unknown]).await?;
    }
    claims::search_places(shared).await;
    Ok(())
}

/// Counts the messages and measures the spool, or returns recent results: those of this moment if they need not be
/// `exact`, and those of the last half minute if measuring takes long.
pub(super) async fn measure(
    shared: &Shared,
    exact: bool,
) -> Result<(Vec<Count>, Arc<SpoolMeasures>), SpoolError> {
    let mut last = shared.measured.lock().await;
    if let Some((until, counts, measures)) = &*last
        && Instant::now() < if exact { *until } else { *until + MOMENT }
    {
        return Ok((counts.clone(), measures.clone()));
    }
    let used = size(shared).await?;
    let begun = Instant::now();
    let rows = shared.database.query(COUNT, &[]).await?;
    let (mut counts, mut oldest): (Vec<Count>, Vec<_>) = (Vec::new(), Vec::new());
    for row in &rows {
        let server: String = row.get(0);
        let (is_held, count): (bool, i64) = (row.get(1), row.get(2));
        let state = if is_held { State::Held } else { State::Queued };
        let first = MessageId::from_i64(row.get(3)).time();
        oldest.push((server.clone(), state, first));
        if counts.last().is_none_or(|last| last.server != server) {
            counts.push(Count {
                server,
                queued: 0,
                held: 0,
            });
        }
        if let Some(last) = counts.last_mut() {
            match state {
                State::Queued => last.queued = count as usize,
                State::Held => last.held = count as usize,
            }
        }
    }
    let measures = Arc::new(SpoolMeasures {
        oldest,
        used,
        free: None,
    });
    let took = begun.elapsed();
    let total: usize = counts.iter().map(|it| it.queued + it.held).sum();
    let reused = if total > MANY {
        took * 100
    } else {
        Duration::ZERO
    };
    let until = Instant::now() + reused.min(MEASURED);
    *last = Some((until, counts.clone(), measures.clone()));
    Ok((counts, measures))
}

/// Returns the octets that the tables take. They may be half a minute old.
async fn size(shared: &Shared) -> Result<u64, SpoolError> {
    let mut last = shared.size.lock().await;
    if let Some((until, size)) = *last
        && Instant::now() < until
    {
        return Ok(size);
    }
    let rows = shared.database.query(SIZE, &[]).await?;
    let size = rows[0].get::<_, Option<i64>>(0).unwrap_or_default() as u64;
    *last = Some((Instant::now() + MEASURED, size));
    Ok(size)
}
