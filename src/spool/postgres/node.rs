//! The nodes that share the database: how one joins and leaves, how it shows that it is alive, and how the others
//! take over from one that is not.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio_postgres::Row;

use super::database::{Lent, Values};
use super::shared::Shared;
use super::{claims, quotas, schema, sessions, tasks};
use crate::base::{Clock, Timestamp};
use crate::observe::maillog;
use crate::spool::copy::{CopyMark, MARK};
use crate::spool::lease::DEAD;
use crate::spool::time::TimeNote;
use crate::spool::{NodeRow, SpoolError};

/// The time from one heartbeat to the next. An idle node sends few other statements.
const BEAT: Duration = Duration::from_secs(2);

/// How long the slots of a dead node's sessions rest. The node may only be stopped or cut off, with its sessions still
/// open.
const OPEN: Duration = Duration::from_secs(60);

/// How many heartbeats pass from one search for the places where messages wait to the next. In between, nodes tell
/// each other.
const SEARCH_EVERY: u32 = 5;

/// If the shared time is ahead of this node's time by more than this, this node follows.
const BEHIND: Duration = Duration::from_millis(100);

/// What a node says of itself, after the number of its claims, if it is being taken out of service.
const DRAINING: &str = "draining";

/// The maximum number of nodes: their slots are numbers of one octet.
const SLOTS: i32 = 256;

/// The time of the database, in milliseconds.
macro_rules! wall {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
    };
}

const JOIN: &str = "
    INSERT INTO node (id, slot, name, version, began, machine, seen)
    SELECT nextval('node_number'), min(slot), $1, $2, $3, $4, clock_timestamp()
    FROM generate_series(0, $5 - 1) AS free (slot) WHERE slot NOT IN (SELECT slot FROM node)
    RETURNING id, slot";

/// Tells that this node is alive and what it does, keeps the shared time, and looks for dead nodes.
const HEARTBEAT: &str = concat!(
    "WITH own AS (UPDATE node SET seen = clock_timestamp(), state = $2 WHERE id = $1 RETURNING id),
        at AS (UPDATE shared_time SET at = greatest(at, $3), wall = ",
    wall!(),
    " RETURNING at)
    SELECT EXISTS (SELECT FROM own), (SELECT at FROM at),
        EXISTS (SELECT FROM node WHERE id <> $1 AND seen < clock_timestamp() - $4 * interval '1 ms'),
        NOT EXISTS (SELECT FROM node WHERE id < $1 AND seen >= clock_timestamp() - $4 * interval '1 ms')"
);

/// The earlier runs with the same data folder, which have ended, because this run has locked the folder.
const REPLACE: &str = "DELETE FROM node WHERE machine = $1 RETURNING id";

const BURY: &str = "DELETE FROM node WHERE id <> $1 AND seen < clock_timestamp() - $2 * interval '1 ms' RETURNING id, name";

/// Gives a dead node's messages to the others. The next node that claims one learns that it may have arrived.
const INHERIT: &str = "
    UPDATE message SET node = NULL WHERE node = ANY($1)";
const CLEAN_UP: &str = "DELETE FROM piece WHERE node = ANY($1)";

/// A dead node's sessions may still be open, if only its machine is cut off or the program is stopped.
const REST: &str = "UPDATE slot SET node = NULL, rests_until = $2 WHERE node = ANY($1)";
const FREE_OF_USERS: &str = "DELETE FROM slot WHERE node = ANY($1) AND starts_with(mailbox, $2)";
const FREE: &str = "DELETE FROM slot WHERE node = ANY($1)";

const LEAVE: &str = "DELETE FROM node WHERE id = $1";

const LIST: &str = "
    SELECT name, version, began, (extract(epoch FROM clock_timestamp() - seen))::bigint, state,
        id = (SELECT min(id) FROM node WHERE seen >= clock_timestamp() - $1 * interval '1 ms'), id = $2
    FROM node ORDER BY id";

const READ_TIME: &str = concat!("SELECT at, wall, ", wall!(), " FROM shared_time");
const FORGET_TIME: &str = "DELETE FROM shared_time";
const BEGIN_TIME: &str = concat!("INSERT INTO shared_time (at, wall) SELECT $1, ", wall!());

/// Joins the nodes.
pub(super) async fn join(shared: &Shared) -> Result<(), SpoolError> {
    let database = &shared.database;
    let joined = database.within(async {
        let lent = database.lend().await?;
        lent.begin().await?;
        schema::lock(&lent).await?;
        if let Some(mark) = tasks::get_note(&lent, MARK).await? {
            return Err(SpoolError::Copied {
                place: database.name().to_owned(),
                why: CopyMark::parse(&mark).why(),
            });
        }
        let (name, version) = (shared.owner.to_string(), env!("CARGO_PKG_VERSION"));
        let rows = lent.query(REPLACE, &[&shared.machine]).await?;
        let replaced: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        if !replaced.is_empty() {
            inherit(&lent, &replaced).await?;
            lent.execute(FREE, &[&replaced]).await?;
        }
        let began = shared.clock.wall().0;
        let values: Values = &[&name, &version, &began, &shared.machine, &SLOTS];
        let rows = lent.query(JOIN, values).await?;
        lent.commit().await?;
        lent.done();
        Ok((rows[0].get::<_, i64>(0), rows[0].get::<_, i32>(1)))
    });
    let (node, slot) = joined.await?;
    shared.node.store(node, Ordering::Release);
    shared.slot.store(slot as u32, Ordering::Release);
    Ok(())
}

/// Joins again after the other nodes have taken over. Nothing that this node had claimed is its own any more.
async fn join_again(shared: &Shared) -> Result<(), SpoolError> {
    let _claiming = shared.claiming.write().await;
    shared.local().forget_claims();
    join(shared).await
}

/// Sets the clock to the time that the nodes share.
pub(super) async fn resume_time(shared: &Shared, clock: &Clock) -> Result<(), SpoolError> {
    let database = &shared.database;
    database
        .within(async {
            let lent = database.lend().await?;
            lent.begin().await?;
            schema::lock(&lent).await?;
            let rows = lent.query(READ_TIME, &[]).await?;
            match rows.first() {
                None => drop(lent.execute(BEGIN_TIME, &[&clock.now().0]).await?),
                Some(row) => {
                    let seen = TimeNote {
                        at: Timestamp(row.get(0)),
                        wall: Timestamp(row.get(1)),
                    };
                    let (now, set) = seen.now(Timestamp(row.get(2)));
                    clock.begin_at(now);
                    set.into_iter().for_each(maillog::clock_set);
                }
            }
            lent.commit().await?;
            lent.done();
            Ok(())
        })
        .await
}

/// Sets the time that the nodes share, in a transaction that the caller has begun.
pub(super) async fn set_time(lent: &Lent, now: Timestamp) -> Result<(), SpoolError> {
    lent.execute(FORGET_TIME, &[]).await?;
    lent.execute(BEGIN_TIME, &[&now.0]).await.map(drop)
}

/// Ends this node's part: its claims are released, and its row is removed.
pub(super) async fn leave(shared: &Shared) -> Result<(), SpoolError> {
    let node = shared.node();
    let database = &shared.database;
    let left = database.within(async {
        let lent = database.lend().await?;
        lent.begin().await?;
        lent.execute(LEAVE, &[&node]).await?;
        inherit(&lent, &[node]).await?;
        lent.execute(FREE, &[&vec![node]]).await?;
        lent.commit().await?;
        lent.done();
        Ok(())
    });
    left.await
}

/// Gives the messages of nodes that have ended to the others. Returns the number of messages.
async fn inherit(lent: &Lent, ended: &[i64]) -> Result<u64, SpoolError> {
    let count = lent.execute(INHERIT, &[&ended]).await?;
    lent.execute(CLEAN_UP, &[&ended]).await?;
    Ok(count)
}

/// Sends heartbeats until `stopping`, and does what they show to be necessary.
pub(super) async fn beat(shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
    let (mut beats, mut unbroken_since) = (0u32, None);
    loop {
        match heartbeat(&shared, unbroken_since).await {
            Ok(()) => {
                unbroken_since.get_or_insert(shared.clock.steady());
                shared.is_reached.store(true, Ordering::Release);
            }
            Err(error) => {
                shared.leads.store(false, Ordering::Release);
                shared.is_reached.store(false, Ordering::Release);
                if unbroken_since.take().is_some() {
                    maillog::heartbeat_failed(&error);
                }
            }
        }
        if unbroken_since.is_some() && beats.is_multiple_of(SEARCH_EVERY) {
            claims::search_places(&shared).await;
        }
        beats = beats.wrapping_add(1);
        tokio::select! {
            () = shared.clock.sleep(BEAT) => {}
            _ = stopping.changed() => return,
        }
    }
}

async fn heartbeat(shared: &Shared, unbroken_since: Option<Duration>) -> Result<(), SpoolError> {
    let (node, now, dead) = (shared.node(), shared.clock.now(), DEAD.as_millis() as f64);
    let state = state(shared);
    let rows = shared
        .database
        .query(HEARTBEAT, &[&node, &state, &now.0, &dead])
        .await?;
    let row = &rows[0];
    if let Some(at) = row.get::<_, Option<i64>>(1).map(Timestamp)
        && at.since(shared.clock.now()) > BEHIND
    {
        shared.clock.begin_at(at);
    }
    shared.leads.store(row.get(3), Ordering::Release);
    if !row.get::<_, bool>(0) {
        maillog::node_taken_over();
        join_again(shared).await?;
    }
    quotas::return_unused(shared, false).await;
    // After an outage of the database, the others may be about to answer too.
    let has_waited = unbroken_since.is_some_and(|since| shared.clock.steady() - since >= DEAD);
    if has_waited && row.get(2) {
        bury(shared, dead).await?;
    }
    Ok(())
}

/// What this node does, for the others to show: the number of messages that it has claimed, and whether it is being taken
/// out of service.
fn state(shared: &Shared) -> String {
    let claims = shared.local().claims();
    match shared.is_draining.load(Ordering::Acquire) {
        false => claims.to_string(),
        true => format!("{claims} {DRAINING}"),
    }
}

/// Returns the nodes, eldest first.
pub(super) async fn list(shared: &Shared) -> Result<Vec<NodeRow>, SpoolError> {
    let dead = DEAD.as_millis() as f64;
    let rows = shared
        .database
        .query(LIST, &[&dead, &shared.node()])
        .await?;
    let node = |row: &Row| {
        let state: &str = row.get(4);
        let (claimed, rest) = state.split_once(' ').unwrap_or((state, ""));
        NodeRow {
            name: row.get(0),
            version: row.get(1),
            since: Timestamp(row.get(2)),
            silent: row.get::<_, i64>(3).max(0) as u64,
            claimed: claimed.parse().unwrap_or_default(),
            is_this: row.get(6),
            is_draining: rest == DRAINING,
            leads: row.get::<_, Option<bool>>(5) == Some(true),
        }
    };
    Ok(rows.iter().map(node).collect())
}

/// Takes over from the nodes that are dead.
async fn bury(shared: &Shared, dead: f64) -> Result<(), SpoolError> {
    let database = &shared.database;
    let buried = database.within(async {
        let lent = database.lend().await?;
        lent.begin().await?;
        let rows = lent.query(BURY, &[&shared.node(), &dead]).await?;
        let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        let count = inherit(&lent, &ids).await?;
        let until = shared.clock.now().after(OPEN);
        // Apps that were connected to a dead node connect to others.
        lent.execute(FREE_OF_USERS, &[&ids, &sessions::OF_USERS])
            .await?;
        lent.execute(REST, &[&ids, &until.0]).await?;
        lent.commit().await?;
        lent.done();
        let names: Vec<String> = rows.iter().map(|row| row.get(1)).collect();
        Ok((names, count))
    });
    let (names, count) = buried.await?;
    if !names.is_empty() {
        maillog::node_dead(&names.join(", "), count);
        claims::search_places(shared).await;
    }
    Ok(())
}
