//! Ends claims: the fates of messages, their stories and the reports about them are stored in one transaction.

use std::collections::HashMap;
use std::sync::PoisonError;

use super::changes::Changes;
use super::database::Lent;
use super::local::Doubt;
use super::put::Offers;
use super::rows;
use super::shared::Shared;
use crate::base::{MessageId, Timestamp};
use crate::spool::story::listed;
use crate::spool::{
    Addition, Claim, Content, DigestLines, Fate, Finish, NewMessage, Origin, Record, SpoolError,
    State, StoryEvent,
};

/// Locks the messages. The last column is the number of the next row in `recipient`, or null if the recipient is in
/// the message's own row.
const LOCK: &str = "
    SELECT id, claim, node, CASE WHEN recipient IS NULL
        THEN coalesce((SELECT max(place) + 1 FROM recipient r WHERE r.message = m.id), 0) END
    FROM message m WHERE id = ANY($1) ORDER BY id FOR UPDATE";

const REMOVE_LINES: &str = "DELETE FROM digest_line WHERE message = $1 AND line <= $2";
const HAS_LINES: &str = "SELECT 1 FROM digest_line WHERE message = $1 LIMIT 1";
const LOCK_DIGEST: &str = "SELECT id FROM message WHERE id = $1 FOR UPDATE";
const EXTEND: &str = "
    UPDATE story SET events = events || CASE WHEN events = '' THEN '' ELSE ',' END || $2 WHERE id = $1";

/// A message's row while its fate is written.
struct Locked {
    claim: u64,
    node: Option<i64>,
    /// The number of the next row in `recipient`, if the message's recipients are there.
    place: Option<i32>,
}

/// True if a batch of ended claims is stored.
const IS_STORED: &str = "SELECT EXISTS (SELECT FROM ended WHERE node = $1 AND serial = $2)";

/// The results of a batch, which take effect when the transaction is committed.
struct Effect {
    changes: Changes,
    offers: Offers,
    lost: Vec<Claim>,
}

/// Ends claims, all or none. Returns those that were lost. If the answer to an earlier call with the same batch did not
/// come, but the call was committed, writes nothing more.
pub(super) async fn finish(shared: &Shared, batch: &[Finish]) -> Result<Vec<Claim>, SpoolError> {
    let Some(first) = batch.first().map(|finish| finish.claim) else {
        return Ok(Vec::new());
    };
    let _claiming = shared.claiming.read().await;
    let doubt = shared.local().doubts.get(&first).cloned();
    if let Some(doubt) = doubt {
        let is_stored = shared.database.within(is_stored(shared, batch, &doubt));
        let is_stored = is_stored.await?;
        shared.local().resolve(&first, doubt.serial);
        if is_stored {
            settle(shared, batch, &doubt.lost);
            return Ok(doubt.lost);
        }
    }
    let serial = shared.local().next_serial();
    let begun = std::sync::Mutex::new(None);
    let written = write(shared, batch, serial, &begun);
    let written = shared.database.within(written).await;
    let doubt = begun.into_inner().unwrap_or_default();
    match (&written, doubt) {
        (Err(SpoolError::Away { .. }), Some(doubt)) => {
            shared.local().doubts.insert(first, doubt);
        }
        _ => shared.local().resolve(&first, serial),
    }
    let (offers, lost) = shared.checked(written)?;
    settle(shared, batch, &lost);
    offers.settle(shared);
    Ok(lost)
}

/// True if an earlier transaction has stored a batch. Waits for that transaction first, if the server still runs it: it
/// has locked the messages.
async fn is_stored(shared: &Shared, batch: &[Finish], doubt: &Doubt) -> Result<bool, SpoolError> {
    let lent = shared.database.lend().await?;
    lent.begin().await?;
    lock(&lent, batch).await?;
    let rows = lent.query(IS_STORED, &[&doubt.node, &doubt.serial]).await?;
    lent.commit().await?;
    lent.done();
    Ok(rows[0].get(0))
}

/// Writes a batch. Before the commit, stores in `begun` what is needed to find out later whether it was committed.
async fn write(
    shared: &Shared,
    batch: &[Finish],
    serial: i64,
    begun: &std::sync::Mutex<Option<Doubt>>,
) -> Result<(Offers, Vec<Claim>), SpoolError> {
    let lent = shared.database.lend().await?;
    let (begin, locked) = tokio::join!(
        biased;
        lent.begin(),
        lock(&lent, batch),
    );
    begin?;
    let (node, locked) = (shared.node(), locked?);
    let mut effect = Effect::new(node);
    for finish in batch {
        add_finish(shared, &lent, finish, &locked, &mut effect).await?;
    }
    let Effect {
        mut changes,
        offers,
        lost,
    } = effect;
    changes.ended(node, serial, shared.local().oldest_open());
    let doubt = Doubt {
        node,
        serial,
        lost: lost.clone(),
    };
    *begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(doubt);
    changes.write(&lent, false, offers.fence()).await?;
    lent.done();
    Ok((offers, lost))
}

impl Effect {
    fn new(node: i64) -> Self {
        Self {
            changes: Changes::default(),
            offers: Offers::new(node),
            lost: Vec::new(),
        }
    }
}

async fn lock(lent: &Lent, batch: &[Finish]) -> Result<HashMap<MessageId, Locked>, SpoolError> {
    let ids: Vec<i64> = batch.iter().map(|it| it.claim.id.to_i64()).collect();
    let rows = lent.query(LOCK, &[&ids]).await?;
    let locked = rows.iter().map(|row| {
        let locked = Locked {
            claim: row.get::<_, i64>(1) as u64,
            node: row.get(2),
            place: row.get(3),
        };
        (rows::id(row), locked)
    });
    Ok(locked.collect())
}

impl Locked {
    /// True if nobody has claimed the message since this claim. If other nodes have taken over from this one, but none
    /// has claimed the message yet, its fate is still the one that this node has seen.
    fn is_of(&self, claim: Claim, node: i64) -> bool {
        self.claim == claim.number && self.node.is_none_or(|its| its == node)
    }
}

async fn add_finish(
    shared: &Shared,
    lent: &Lent,
    finish: &Finish,
    locked: &HashMap<MessageId, Locked>,
    effect: &mut Effect,
) -> Result<(), SpoolError> {
    let row = locked.get(&finish.claim.id);
    let own = row.filter(|row| row.is_of(finish.claim, shared.node()));
    let stays = match &finish.fate {
        Fate::Gone(_) if own.is_none() => true,
        Fate::Gone(last) => has_more(lent, last, finish.sent_lines).await?,
        Fate::Later(_) | Fate::Held(_) => true,
    };
    let ended = finish.events.last().map(|event| event.at);
    if !finish.events.is_empty() {
        tell(
            shared,
            effect,
            finish.record(),
            ended.filter(|_| !stays),
            &finish.events,
        );
    }
    effect.changes.settle(finish.claim, finish.used.as_ref());
    let Some(own) = own else {
        effect.lost.push(finish.claim);
        return Ok(());
    };
    match &finish.fate {
        // The digest got lines while it was being sent.
        Fate::Gone(last) if stays => effect.changes.update(last, &[], None),
        Fate::Gone(last) => remove(shared, &mut effect.changes, last.id, last.size),
        Fate::Later(record) => {
            let queued = of_state(record, State::Queued);
            effect.changes.update(&queued, &finish.events, own.place);
        }
        Fate::Held(record) => {
            let held = of_state(record, State::Held);
            effect.changes.update(&held, &finish.events, own.place);
        }
    }
    add_reports(shared, lent, (&finish.reports, &finish.lines), effect).await
}

fn of_state(record: &Record, state: State) -> Record {
    Record {
        state,
        ..record.clone()
    }
}

fn tell(
    shared: &Shared,
    effect: &mut Effect,
    record: &Record,
    ended: Option<Timestamp>,
    events: &[StoryEvent],
) {
    if shared.keeps_stories() {
        effect.changes.tell(record, ended, events);
    }
}

/// Removes a message. Without a history, nobody can find it any more.
pub(super) fn remove(shared: &Shared, changes: &mut Changes, id: MessageId, size: u64) {
    changes.remove(id, size);
    if !shared.keeps_stories() {
        changes.forget(id);
    }
}

/// If the message is a digest, removes the lines that were sent. Returns true if the digest has further lines.
pub(super) async fn has_more(lent: &Lent, last: &Record, sent: u64) -> Result<bool, SpoolError> {
    if last.origin != Origin::Digest {
        return Ok(false);
    }
    let (id, sent) = (last.id.to_i64(), i64::try_from(sent).unwrap_or(i64::MAX));
    lent.execute(REMOVE_LINES, &[&id, &sent]).await?;
    Ok(!lent.query(HAS_LINES, &[&id]).await?.is_empty())
}

async fn add_reports(
    shared: &Shared,
    lent: &Lent,
    (reports, lines): (&[NewMessage], &[DigestLines]),
    effect: &mut Effect,
) -> Result<(), SpoolError> {
    for report in reports {
        effect.offers.add(shared, &mut effect.changes, report);
    }
    for DigestLines { digest, lines } in lines {
        // Numbers of lines are given while the digest is locked, so that those that somebody has read are the lowest.
        let known = lent.query(LOCK_DIGEST, &[&digest.id.to_i64()]).await?;
        if known.is_empty() && !effect.changes.inserts(digest.id) {
            let content = Content::Memory(bytes::Bytes::new());
            let record = Record::clone(digest);
            let new = NewMessage { record, content };
            effect.offers.add(shared, &mut effect.changes, &new);
        }
        effect.changes.add_lines(digest.id, lines);
    }
    Ok(())
}

/// Notes that claims have ended, and when their messages are due again.
fn settle(shared: &Shared, batch: &[Finish], lost: &[Claim]) {
    let mut local = shared.local();
    for finish in batch {
        local.end(finish.claim);
        match &finish.fate {
            Fate::Later(record) if !lost.contains(&finish.claim) => {
                local.announce(&record.place(), record.due);
            }
            // A digest that got lines meanwhile is due again.
            Fate::Gone(record) if record.origin == Origin::Digest => {
                local.announce(&record.place(), record.due);
            }
            _ => {}
        }
    }
    drop(local);
    shared.announced();
}

/// Adds events to a story, and puts reports about it into the queue. Returns false if the story is not kept.
pub(super) async fn extend(shared: &Shared, addition: &Addition) -> Result<bool, SpoolError> {
    let _claiming = shared.claiming.read().await;
    let written = shared
        .database
        .within(write_addition(shared, addition))
        .await;
    let offers = shared.checked(written)?;
    let is_extended = offers.is_some();
    if let Some(offers) = offers {
        offers.settle(shared);
    }
    Ok(is_extended)
}

async fn write_addition(
    shared: &Shared,
    addition: &Addition,
) -> Result<Option<Offers>, SpoolError> {
    let lent = shared.database.lend().await?;
    lent.begin().await?;
    let (id, events) = (addition.id, listed(&addition.events));
    if lent.execute(EXTEND, &[&id.to_i64(), &events]).await? == 0 {
        return Ok(None);
    }
    let mut effect = Effect::new(shared.node());
    effect.changes.add_results(id, &addition.events);
    let reports = (&addition.reports[..], &addition.lines[..]);
    add_reports(shared, &lent, reports, &mut effect).await?;
    let Effect {
        changes, offers, ..
    } = effect;
    changes.write(&lent, false, offers.fence()).await?;
    lent.done();
    Ok(Some(offers))
}
