//! The tasks in the background, and the small reads and writes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use super::body::Bodies;
use super::changes::{Changes, SLICE, clean};
use super::claims;
use super::database::{Lent, Values};
use super::local::Released;
use super::rows::{self, DIGEST};
use super::sessions;
use super::shared::Shared;
use crate::base::{MessageId, Timestamp};
use crate::observe::maillog;
use crate::spool::{Claim, Content, Flow, Place, SpoolError, Story, Used};

/// The channel on which nodes tell each other where messages are due, and that they have written a note.
const CHANNEL: &str = "mailferry";

/// The time from one announcement to the other nodes to the next. They would find the message by themselves, later.
const ANNOUNCE: Duration = Duration::from_millis(100);

/// The pause after a failure of the database.
const PAUSE: Duration = Duration::from_secs(1);

/// The character between the parts of an announcement: it is in no name.
const SEPARATOR: char = '\u{1f}';

const NOTIFY: &str = "SELECT pg_notify($1, text) FROM unnest($2::text[]) AS said (text)";

const REMOVE_PIECES: &str = "DELETE FROM piece WHERE message = ANY($1) AND node IS NOT NULL";
const REVOKE: &str = "
    WITH gone AS (DELETE FROM message WHERE id = ANY($1) AND NOT sending RETURNING id),
        recipients AS (DELETE FROM recipient WHERE message IN (SELECT id FROM gone)),
        pieces AS (DELETE FROM piece WHERE message IN (SELECT id FROM gone)),
        mentions AS (DELETE FROM mention WHERE id IN (SELECT id FROM gone))
    SELECT id FROM gone";

const OWN: &str = "SELECT id, claim FROM message WHERE node = $1";

const CONTENT: &str = "SELECT content, about, size FROM message WHERE id = $1";
const LINES: &str = "SELECT line, text FROM digest_line WHERE message = $1 ORDER BY line";
const USED: &str = "
    SELECT mailbox, began, last, messages, recipients FROM used WHERE began > $1 ORDER BY began, mailbox";
const NOTE: &str = "SELECT value FROM note WHERE name = $1";
macro_rules! set_note {
    () => {
        "INSERT INTO note (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
    };
}
macro_rules! remove_note {
    () => {
        "DELETE FROM note WHERE name = $1"
    };
}
const SET_NOTE: &str = set_note!();
const REMOVE_NOTE: &str = remove_note!();
const SET_AND_NOTIFY: &str = concat!("WITH noted AS (", set_note!(), ") SELECT pg_notify($3, $4)");
const REMOVE_AND_NOTIFY: &str = concat!(
    "WITH noted AS (",
    remove_note!(),
    ") SELECT pg_notify($2, $3)"
);
const NOTES: &str = "SELECT name, value FROM note WHERE starts_with(name, $1) ORDER BY name";

/// Releases claims, removes what was not accepted, and tells the other nodes where messages are due, until
/// `stopping`.
pub(super) async fn tend(shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = shared.untended.notified() => {}
            _ = stopping.changed() => return,
        }
        if let Err(error) = tend_once(&shared).await {
            maillog::claim_failed("", &error);
            shared.clock.sleep(PAUSE).await;
            shared.untended.notify_one();
        }
        shared.clock.sleep(ANNOUNCE).await;
    }
}

async fn tend_once(shared: &Arc<Shared>) -> Result<(), SpoolError> {
    release(shared).await?;
    remove(shared).await?;
    if shared.has_strays.load(Ordering::Acquire) {
        release_strays(shared).await?;
    }
    sessions::give_back(shared).await?;
    announce(shared).await
}

async fn release(shared: &Shared) -> Result<(), SpoolError> {
    let released = std::mem::take(&mut shared.local().released);
    if released.is_empty() {
        return Ok(());
    }
    for is_unsent in [true, false] {
        let claims = released.iter().filter(|it| it.is_unsent == is_unsent);
        let claims: Vec<Claim> = claims.map(|it| it.claim).collect();
        if let Err(error) = claims::release(shared, claims.iter(), is_unsent).await {
            shared.local().released.extend(released);
            return Err(error);
        }
    }
    let mut local = shared.local();
    for Released { place, .. } in &released {
        // The next claim finds out when exactly the message is due.
        local.announce(place, Timestamp(0));
    }
    drop(local);
    shared.changed.notify_one();
    Ok(())
}

async fn remove(shared: &Shared) -> Result<(), SpoolError> {
    let (abandoned, revoked) = {
        let mut local = shared.local();
        let abandoned = std::mem::take(&mut local.abandoned);
        (abandoned, std::mem::take(&mut local.revoked))
    };
    let keys = |ids: &[MessageId]| ids.iter().map(|id| id.to_i64()).collect::<Vec<_>>();
    let removed = async {
        if !abandoned.is_empty() {
            shared
                .database
                .execute(REMOVE_PIECES, &[&keys(&abandoned)])
                .await?;
        }
        if !revoked.is_empty() {
            shared.database.query(REVOKE, &[&keys(&revoked)]).await?;
        }
        Ok(())
    };
    let removed = removed.await;
    if removed.is_err() {
        let mut local = shared.local();
        local.abandoned.extend(abandoned);
        local.revoked.extend(revoked);
    }
    removed
}

/// Releases the claims that the database has given to this node without this node's knowledge.
async fn release_strays(shared: &Shared) -> Result<(), SpoolError> {
    let _claiming = shared.claiming.write().await;
    let rows = shared.database.query(OWN, &[&shared.node()]).await?;
    let claims = rows.iter().map(|row| Claim {
        id: MessageId::from_i64(row.get(0)),
        number: row.get::<_, i64>(1) as u64,
    });
    let strays: Vec<Claim> = {
        let local = shared.local();
        let is_released = |claim: &Claim| local.released.iter().any(|it| it.claim == *claim);
        let strays = claims.filter(|claim| !local.has(*claim) && !is_released(claim));
        strays.collect()
    };
    if !strays.is_empty() {
        claims::release(shared, strays.iter(), false).await?;
        claims::search_places(shared).await;
    }
    shared.has_strays.store(false, Ordering::Release);
    Ok(())
}

async fn announce(shared: &Shared) -> Result<(), SpoolError> {
    let announced = std::mem::take(&mut shared.local().announced);
    if announced.is_empty() {
        return Ok(());
    }
    let own = shared.node();
    let texts = announced.iter().map(|(Place { lane, flow }, due)| {
        let (lane, flow) = (clean(lane), clean(&flow.key()));
        format!(
            "{own}{SEPARATOR}{lane}{SEPARATOR}{flow}{SEPARATOR}{}",
            due.0
        )
    });
    let texts: Vec<String> = texts.collect();
    // A node that misses the notification finds the message with its next search.
    shared
        .database
        .query(NOTIFY, &[&CHANNEL, &texts])
        .await
        .map(drop)
}

/// Receives the announcements of other nodes, until `stopping`.
pub(super) async fn listen(shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
    loop {
        let heard = |text: &str| hear(&shared, text);
        tokio::select! {
            // The heartbeat tells people that the database is away.
            _ = shared.database.listen(CHANNEL, heard) => {}
            _ = stopping.changed() => return,
        }
        tokio::select! {
            () = shared.clock.sleep(PAUSE) => {}
            _ = stopping.changed() => return,
        }
    }
}

fn hear(shared: &Shared, text: &str) {
    match said_by_other(shared.node(), text) {
        Some(Said::Due(place, due)) => {
            shared.local().due.announce(&place, due);
            shared.changed.notify_one();
        }
        Some(Said::Noted) => shared.noted.notify_one(),
        None => {}
    }
}

/// An announcement of a node to the others.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// A message is due there at this time.
    Due(Place, Timestamp),
    /// The node has written or removed a note.
    Noted,
}

/// Reads what another node has said: its number alone, or with a place and a time. `None` if it is this node, or a later
/// version with something else to say.
fn said_by_other(own: i64, text: &str) -> Option<Said> {
    let mut parts = text.split(SEPARATOR);
    let node: i64 = parts.next()?.parse().ok()?;
    if node == own {
        return None;
    }
    let Some(lane) = parts.next() else {
        return Some(Said::Noted);
    };
    let (lane, flow) = (lane.to_owned(), Flow::of_key(parts.next()?));
    let due = Timestamp(parts.next()?.parse().ok()?);
    Some(Said::Due(Place { lane, flow }, due))
}

/// Returns the content of a message.
pub(super) async fn content(shared: &Arc<Shared>, id: MessageId) -> Result<Content, SpoolError> {
    let rows = shared.database.query(CONTENT, &[&id.to_i64()]).await?;
    let row = rows.first().ok_or(SpoolError::Missing(id))?;
    if row.get::<_, Option<&str>>(1) == Some(DIGEST) {
        let lines = lines(shared, id).await?;
        let text: String = lines.into_iter().map(|(_, line)| line).collect();
        return Ok(Content::Memory(text.into()));
    }
    match row.get::<_, Option<Vec<u8>>>(0) {
        Some(bytes) => Ok(Content::Memory(bytes.into())),
        None => {
            let size = row.get::<_, i64>(2) as u64;
            Ok(Content::Stored(Bodies(shared.clone()).kept(id, size)))
        }
    }
}

/// Returns the lines of a digest, with their numbers, in order.
pub(super) async fn lines(
    shared: &Shared,
    digest: MessageId,
) -> Result<Vec<(u64, String)>, SpoolError> {
    let rows = shared.database.query(LINES, &[&digest.to_i64()]).await?;
    let lines = rows.iter();
    let lines = lines.map(|row| (row.get::<_, i64>(0) as u64, row.get(1)));
    Ok(lines.collect())
}

/// Reads a note within the caller's transaction.
pub(super) async fn get_note(lent: &Lent, name: &str) -> Result<Option<String>, SpoolError> {
    let rows = lent.query(NOTE, &[&name]).await?;
    Ok(rows.first().map(|row| row.get(0)))
}

/// Sets a note within the caller's transaction.
pub(super) async fn set_note(lent: &Lent, name: &str, value: &str) -> Result<u64, SpoolError> {
    lent.execute(SET_NOTE, &[&name, &value]).await
}

/// Removes a note within the caller's transaction.
pub(super) async fn remove_note(lent: &Lent, name: &str) -> Result<u64, SpoolError> {
    lent.execute(REMOVE_NOTE, &[&name]).await
}

/// Returns the usage of all mailboxes from `since` on.
pub(super) async fn used(shared: &Shared, since: Timestamp) -> Result<Vec<Used>, SpoolError> {
    let rows = shared.database.query(USED, &[&(since.0 - SLICE)]).await?;
    Ok(rows.iter().map(rows::used).collect())
}

/// Stores the story of a message that was never in the queue, and what it used of a mailbox's limits.
pub(super) async fn add_story(
    shared: &Shared,
    story: &Story,
    used: Option<&Used>,
) -> Result<(), SpoolError> {
    let mut changes = Changes::default();
    if shared.keeps_stories() {
        changes.tell_all(&story.record, story.ended, &story.events);
    }
    // It was never claimed.
    let (id, number) = (story.record.id, 0);
    changes.settle(Claim { id, number }, used);
    shared
        .database
        .within(async {
            let lent = shared.database.lend().await?;
            changes.write(&lent, true, None).await?;
            lent.done();
            Ok(())
        })
        .await
}

/// Stores a fact under a name, or removes it, and tells the other nodes.
pub(super) async fn note(
    shared: &Shared,
    name: &str,
    value: Option<String>,
) -> Result<(), SpoolError> {
    let (database, own) = (&shared.database, shared.node().to_string());
    let noted = match value {
        Some(value) => {
            let values: Values = &[&name, &clean(&value), &CHANNEL, &own];
            database.query(SET_AND_NOTIFY, values).await
        }
        None => {
            database
                .query(REMOVE_AND_NOTIFY, &[&name, &CHANNEL, &own])
                .await
        }
    };
    noted.map(drop)
}

/// Returns the names that begin with `prefix`, with their facts.
pub(super) async fn notes(
    shared: &Shared,
    prefix: &str,
) -> Result<Vec<(String, String)>, SpoolError> {
    let rows = shared.database.query(NOTES, &[&prefix]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
