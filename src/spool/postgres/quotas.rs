//! Limits of users and listeners over all nodes. A node that has taken more than it needs at once uses the rest without
//! asking the database, and gives back what it has not used after a while.

use super::database::Lent;
use super::local::{Advance, Advances};
use super::marks::LOCK;
use super::shared::Shared;
use crate::base::Timestamp;
use crate::observe::maillog;
use crate::spool::SpoolError;
use crate::spool::quota::{NoQuota, Quota};

const FORGET: &str = "DELETE FROM quota WHERE name = $1 AND at <= $2";
const USED: &str = "SELECT at, amount FROM quota WHERE name = $1 ORDER BY at";
const TAKE: &str = "
    INSERT INTO quota (name, node, at, amount) VALUES ($1, $2, $3, $4)
    ON CONFLICT (name, node, at) DO UPDATE SET amount = quota.amount + excluded.amount";
const GIVE_BACK: &str = "
    UPDATE quota q SET amount = q.amount - own.amount
    FROM unnest($2::text[], $3::bigint[], $4::bigint[]) AS own (name, at, amount)
    WHERE q.name = own.name AND q.node = $1 AND q.at = own.at";

/// Takes amounts of limits: all or none.
pub(super) async fn take(
    shared: &Shared,
    asked: &[Quota],
) -> Result<Result<(), NoQuota>, SpoolError> {
    let now = shared.clock.now();
    if take_here(&mut shared.local().advances, asked, now) {
        return Ok(Ok(()));
    }
    let database = &shared.database;
    let taken = database.within(async {
        let lent = database.lend().await?;
        lent.begin().await?;
        let mut order: Vec<usize> = (0..asked.len()).collect();
        // So that two nodes do not wait for each other.
        order.sort_by_key(|place| &asked[*place].name);
        let mut taken = Vec::new();
        for place in order {
            match take_one(shared, &lent, &asked[place], now).await? {
                Ok(amount) => taken.push((place, amount)),
                // The connection is dropped, which undoes the transaction.
                Err(wait) => return Ok(Err((place, wait))),
            }
        }
        lent.commit().await?;
        lent.done();
        Ok(Ok(taken))
    });
    let taken = match taken.await? {
        Ok(taken) => taken,
        Err(none) => return Ok(Err(none)),
    };
    let unused = {
        let mut local = shared.local();
        let kept = taken.into_iter().filter_map(|(place, amount)| {
            let quota = &asked[place];
            let advance = Advance {
                at: now,
                until: now.after(quota.valid_for()),
                left: amount - quota.amount,
            };
            let before = local.advances.insert(quota.name.clone(), advance)?;
            Some((quota.name.clone(), before))
        });
        kept.collect::<Vec<_>>()
    };
    local_rest(shared, unused);
    Ok(Ok(()))
}

/// Takes from what was taken in advance. Returns false if that is not enough for each limit.
fn take_here(advances: &mut Advances, asked: &[Quota], now: Timestamp) -> bool {
    let is_enough = asked.iter().all(|quota| {
        let advance = advances.get(&quota.name);
        advance.is_some_and(|advance| now < advance.until && advance.left >= quota.amount)
    });
    if is_enough {
        for quota in asked {
            if let Some(advance) = advances.get_mut(&quota.name) {
                advance.left -= quota.amount;
            }
        }
    }
    is_enough
}

async fn take_one(
    shared: &Shared,
    lent: &Lent,
    quota: &Quota,
    now: Timestamp,
) -> Result<Result<u64, std::time::Duration>, SpoolError> {
    let (name, begin, node) = (&quota.name, now.before(quota.period).0, shared.node());
    lent.execute(LOCK, &[name]).await?;
    lent.execute(FORGET, &[name, &begin]).await?;
    let rows = lent.query(USED, &[name]).await?;
    let used: Vec<(Timestamp, u64)> = rows
        .iter()
        .map(|row| (Timestamp(row.get(0)), row.get::<_, i64>(1).max(0) as u64))
        .collect();
    let taken = quota.take(&used, now);
    if let Ok(amount) = taken {
        let amount = amount as i64;
        lent.execute(TAKE, &[name, &node, &now.0, &amount]).await?;
    }
    Ok(taken)
}

/// Returns amounts that were just taken, because they are not used after all.
pub(super) fn give_back(shared: &Shared, taken: &[Quota]) {
    let mut local = shared.local();
    for quota in taken {
        if let Some(advance) = local.advances.get_mut(&quota.name) {
            advance.left += quota.amount;
        }
    }
}

/// Remembers what is to be given back to the other nodes soon.
fn local_rest(shared: &Shared, unused: Vec<(String, Advance)>) {
    let unused = unused.into_iter().filter(|(_, advance)| advance.left > 0);
    shared.local().unused.extend(unused);
}

/// Gives back what was taken in advance and not used in time; with `all`, what can still be used too.
pub(super) async fn return_unused(shared: &Shared, all: bool) {
    let now = shared.clock.now();
    let unused: Vec<(String, Advance)> = {
        let mut local = shared.local();
        let mut unused = std::mem::take(&mut local.unused);
        let over = local
            .advances
            .extract_if(|_, advance| all || advance.until <= now);
        unused.extend(over.filter(|(_, advance)| advance.left > 0));
        unused
    };
    if unused.is_empty() {
        return;
    }
    let names: Vec<&str> = unused.iter().map(|(name, _)| name.as_str()).collect();
    let times: Vec<i64> = unused.iter().map(|(_, advance)| advance.at.0).collect();
    let amounts: Vec<i64> = unused
        .iter()
        .map(|(_, advance)| advance.left as i64)
        .collect();
    let node = shared.node();
    let database = &shared.database;
    let returned = database
        .execute(GIVE_BACK, &[&node, &names, &times, &amounts])
        .await;
    if let Err(error) = returned {
        maillog::claim_failed("", &error);
        shared.local().unused.extend(unused);
    }
}
