//! Marks messages as being sent, and counts them towards the limits of their mailboxes, over all nodes: as many as wait
//! with one transaction.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::database::{Database, Lent, Values};
use super::rows;
use super::shared::Shared;
use crate::base::{MessageId, Timestamp};
use crate::delivery::usage::{COUNTED, Usage};
use crate::spool::{Claim, Permission, Spending, SpoolError, Used};

/// The maximum number of messages that are marked with one transaction.
const GROUP: usize = 512;

/// How long a reservation is looked at for the limit per minute: longer than delivery counts it.
const MINUTE: Duration = Duration::from_secs(120);

/// How long recipients are looked at for the limit per day: longer than delivery counts them.
const DAY: Duration = Duration::from_secs(24 * 3_600 + 600);

/// Locks a mailbox until the transaction ends, so that nodes count one after the other.
pub(super) const LOCK: &str = "
    INSERT INTO mailbox (name) VALUES ($1) ON CONFLICT (name) DO UPDATE SET name = excluded.name";

/// The usage by all nodes. It is one statement, because a message that ends at this moment moves its recipients from
/// one table to the other.
const USAGE: &str = "
    SELECT at, messages, recipients FROM reserved WHERE mailbox = $1 AND (at > $2 OR recipients > 0)
    UNION ALL SELECT began, 0, recipients FROM used WHERE mailbox = $1 AND began > $3 ORDER BY 1";

/// The usage of all mailboxes by all nodes: the recipients since `$3` together, and each message since `$2`.
const USAGE_OF_ALL: &str = "
    SELECT mailbox, $1::bigint, $1, 0::bigint, sum(recipients)::bigint FROM (
        SELECT mailbox, recipients FROM reserved WHERE at > $3
        UNION ALL SELECT mailbox, recipients FROM used WHERE began > $3) AS day GROUP BY mailbox
    UNION ALL SELECT mailbox, at, at, messages, 0 FROM reserved WHERE at > $2 ORDER BY 1, 2";

/// The usage of all mailboxes is reused for this time, or for a hundred times as long as reading it took.
const REUSED: Duration = Duration::from_secs(1);

/// Marks the messages whose claims are still this node's, and stores what they use.
const MARK: &str = "
    WITH marked AS (
        UPDATE message m SET sending = true FROM unnest($2::bigint[], $3::bigint[]) AS own (id, claim)
        WHERE m.id = own.id AND m.claim = own.claim AND m.node = $1 RETURNING m.id, m.claim
    ), spent AS (
        INSERT INTO reserved (message, claim, mailbox, at, messages, recipients)
        SELECT new.message, new.claim, new.mailbox, new.at, 1, new.recipients
        FROM unnest($4::bigint[], $5::bigint[], $6::text[], $7::bigint[], $8::bigint[])
            AS new (message, claim, mailbox, at, recipients)
        JOIN marked ON marked.id = new.message AND marked.claim = new.claim
        ON CONFLICT (message, claim) DO UPDATE SET at = excluded.at, messages = 1, recipients = excluded.recipients
    )
    SELECT id FROM marked";

const RESERVE: &str = "
    INSERT INTO reserved (message, claim, mailbox, at, messages, recipients) VALUES ($1, 0, $2, $3, $4, $5)
    ON CONFLICT (message, claim) DO UPDATE SET messages = excluded.messages";

/// A request to mark a message as being sent.
pub(super) struct Mark {
    pub(super) claim: Claim,
    pub(super) spending: Option<Spending>,
    pub(super) now: Timestamp,
    pub(super) answer: oneshot::Sender<Result<Permission, SpoolError>>,
}

/// Marks messages until the spool is dropped.
pub(super) async fn mark(shared: Arc<Shared>, mut marks: mpsc::Receiver<Mark>) {
    let mut group = Vec::new();
    while marks.recv_many(&mut group, GROUP).await > 0 {
        group.retain(|mark| !mark.answer.is_closed());
        let marked = shared.database.within(mark_all(&shared, &group)).await;
        for (place, mark) in group.drain(..).enumerate() {
            let answer = marked.as_ref().map(|all| all[place]);
            let _ = mark.answer.send(answer.map_err(Clone::clone));
        }
    }
}

async fn mark_all(shared: &Shared, group: &[Mark]) -> Result<Vec<Permission>, SpoolError> {
    let lent = shared.database.lend().await?;
    let mut usages = BTreeMap::new();
    let limited = group
        .iter()
        .filter_map(|mark| Some((mark.spending.as_ref()?, mark.now)));
    for (Spending { mailbox, .. }, now) in limited {
        usages
            .entry(mailbox.as_str())
            .or_insert((now, Usage::default()));
    }
    let is_limited = !usages.is_empty();
    if is_limited {
        lent.begin().await?;
    }
    // In the order of the names, so that two nodes do not wait for each other.
    for (mailbox, (now, usage)) in &mut usages {
        *usage = read_usage(&lent, mailbox, *now).await?;
    }
    let permitted = group.iter().map(|mark| match &mark.spending {
        Some(spending) => usages
            .get_mut(spending.mailbox.as_str())
            .map_or(Ok(()), |(_, usage)| {
                usage.admit(&spending.limits, spending.recipients, mark.now)
            }),
        None => Ok(()),
    });
    let permitted: Vec<Result<(), Timestamp>> = permitted.collect();
    let marked = write(shared, &lent, group, &permitted).await?;
    if is_limited {
        lent.commit().await?;
    }
    lent.done();
    let answers = group
        .iter()
        .zip(permitted)
        .map(|(mark, permitted)| match permitted {
            Err(until) => Permission::UsedUp(until),
            Ok(()) if marked.contains(&mark.claim.id) => Permission::Granted,
            Ok(()) => Permission::Lost,
        });
    Ok(answers.collect())
}

/// Locks a mailbox, and reads what all nodes have used of it.
async fn read_usage(lent: &Lent, mailbox: &str, now: Timestamp) -> Result<Usage, SpoolError> {
    let (minute, day) = (now.before(MINUTE).0, now.before(DAY).0);
    let (of_lock, of_usage): (Values, Values) = (&[&mailbox], &[&mailbox, &minute, &day]);
    let (locked, rows) = tokio::join!(
        biased;
        lent.execute(LOCK, of_lock),
        lent.query(USAGE, of_usage),
    );
    locked?;
    let mut usage = Usage::default();
    for row in rows? {
        let (at, messages) = (Timestamp(row.get(0)), row.get::<_, i64>(1));
        usage.restore(messages as u64, row.get::<_, i64>(2) as u64, at, at);
    }
    Ok(usage)
}

/// Marks the permitted messages. Returns those whose claims are still this node's.
async fn write(
    shared: &Shared,
    lent: &Lent,
    group: &[Mark],
    permitted: &[Result<(), Timestamp>],
) -> Result<Vec<MessageId>, SpoolError> {
    let marks = group.iter().zip(permitted);
    let marks: Vec<&Mark> = marks
        .filter(|(_, it)| it.is_ok())
        .map(|(mark, _)| mark)
        .collect();
    let claims = |marks: &[&Mark]| -> (Vec<i64>, Vec<i64>) {
        let claims = marks.iter().map(|mark| mark.claim);
        claims.map(|it| (it.id.to_i64(), it.number as i64)).unzip()
    };
    let (ids, numbers) = claims(&marks);
    let limited: Vec<&Mark> = marks
        .into_iter()
        .filter(|it| it.spending.is_some())
        .collect();
    let (limited_ids, limited_numbers) = claims(&limited);
    let spendings = limited.iter().filter_map(|mark| mark.spending.as_ref());
    let (mailboxes, recipients): (Vec<&str>, Vec<i64>) = spendings
        .map(|it| (it.mailbox.as_str(), it.recipients as i64))
        .unzip();
    let at: Vec<i64> = limited.iter().map(|mark| mark.now.0).collect();
    let node = shared.node();
    let values: Values = &[
        &node,
        &ids,
        &numbers,
        &limited_ids,
        &limited_numbers,
        &mailboxes,
        &at,
        &recipients,
    ];
    Ok(lent
        .query(MARK, values)
        .await?
        .iter()
        .map(rows::id)
        .collect())
}

/// Counts a message that is not in the queue towards the limits of its mailbox. Returns the time at which it may go if
/// they are used up.
pub(super) async fn reserve(
    database: &Database,
    id: MessageId,
    spending: &Spending,
    now: Timestamp,
) -> Result<Permission, SpoolError> {
    let reserved = database.within(async {
        let lent = database.lend().await?;
        lent.begin().await?;
        let mut usage = read_usage(&lent, &spending.mailbox, now).await?;
        if let Err(until) = usage.admit(&spending.limits, spending.recipients, now) {
            return Ok(Permission::UsedUp(until));
        }
        let (id, recipients) = (id.to_i64(), spending.recipients as i64);
        let values: Values = &[&id, &spending.mailbox, &now.0, &1i64, &recipients];
        lent.execute(RESERVE, values).await?;
        lent.commit().await?;
        lent.done();
        Ok(Permission::Granted)
    });
    reserved.await
}

/// Returns what all nodes have used of the mailboxes' limits, or a recent result.
pub(super) async fn used_by_all(
    shared: &Shared,
    now: Timestamp,
) -> Result<Arc<[Used]>, SpoolError> {
    let mut last = shared.used.lock().await;
    if let Some((until, used)) = &*last
        && Instant::now() < *until
    {
        return Ok(used.clone());
    }
    let begun = Instant::now();
    let (minute, day) = (now.before(MINUTE).0, now.before(COUNTED).0);
    let rows = shared
        .database
        .query(USAGE_OF_ALL, &[&now.0, &minute, &day])
        .await?;
    let used: Arc<[Used]> = rows.iter().map(rows::used).collect();
    let until = Instant::now() + REUSED.max(begun.elapsed() * 100);
    *last = Some((until, used.clone()));
    Ok(used)
}

/// Uses up the limit per minute, because the server says that the mailbox was too fast.
pub(super) async fn exhaust(
    database: &Database,
    id: MessageId,
    mailbox: &str,
    messages: usize,
    now: Timestamp,
) -> Result<(), SpoolError> {
    let (id, messages) = (id.to_i64(), messages as i64);
    let values: Values = &[&id, &mailbox, &now.0, &messages, &0i64];
    database.execute(RESERVE, values).await.map(drop)
}
