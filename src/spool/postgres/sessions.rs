//! The sessions at mailboxes, and those of users: each open session of a node has a slot in the database, so that the nodes
//! together have no more than the limit.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::database::Values;
use super::shared::Shared;
use crate::base::BoxFuture;
use crate::base::shared_sessions::SharedSessions;
use crate::spool::{SessionLease, SpoolError};

/// The sessions of users who may have more than this are counted on each node only: the search for a free slot looks at all.
const MOST_SHARED: usize = 10_000;

/// The prefix of the names of users' slots. No mailbox's name begins with it.
pub(super) const OF_USERS: &str = "user\u{1f}";

/// The sessions of users over all nodes.
pub(super) struct UserSessions(pub(super) Arc<Shared>);

/// Takes a free slot. If two nodes take the same, one of them finds it taken and asks again.
const LEASE: &str = "
    INSERT INTO slot (mailbox, number, node)
    SELECT $2, min(number), $1 FROM generate_series(1, $3) AS free (number)
    WHERE EXISTS (SELECT FROM node WHERE id = $1 FOR KEY SHARE)
        AND number NOT IN (SELECT number FROM slot WHERE mailbox = $2 AND (rests_until IS NULL OR rests_until > $4))
    HAVING min(number) IS NOT NULL
    ON CONFLICT (mailbox, number) DO UPDATE SET node = excluded.node, rests_until = NULL
        WHERE slot.rests_until <= $4";

const KEEP: &str = "
    DELETE FROM slot WHERE mailbox = $2 AND node = $1 AND number NOT IN
        (SELECT number FROM slot WHERE mailbox = $2 AND node = $1 ORDER BY number LIMIT $3)";

/// How often a node asks again if another one has taken the same slot at the same moment.
const TRIES: usize = 5;

/// Takes the right to one more session at a mailbox that may have `most`.
pub(super) async fn lease(
    shared: &Shared,
    mailbox: &str,
    most: usize,
) -> Result<SessionLease, SpoolError> {
    let (node, most) = (shared.node(), i32::try_from(most).unwrap_or(i32::MAX));
    for _ in 0..TRIES {
        let now = shared.clock.now();
        let values: Values = &[&node, &mailbox, &most, &now.0];
        if shared.database.execute(LEASE, values).await? > 0 {
            return Ok(SessionLease::Granted);
        }
    }
    Ok(SessionLease::None)
}

/// Gives back the rights to sessions, except this many.
pub(super) async fn keep(shared: &Shared, mailbox: &str, count: usize) -> Result<(), SpoolError> {
    let (node, count) = (shared.node(), count as i64);
    let values: Values = &[&node, &mailbox, &count];
    shared.database.execute(KEEP, values).await.map(drop)
}

impl SharedSessions for UserSessions {
    fn begin<'a>(&'a self, user: &'a str, most: usize) -> BoxFuture<'a, bool> {
        Box::pin(begin(&self.0, user, most))
    }

    fn end(&self, user: &str) {
        self.0.local().end_session(of_user(user));
        self.0.untended.notify_one();
    }
}

/// The name of a user's slots.
fn of_user(user: &str) -> String {
    format!("{OF_USERS}{user}")
}

async fn begin(shared: &Shared, user: &str, most: usize) -> bool {
    let name = of_user(user);
    let granted = shared.database.within(async {
        let _alone = shared.slots_of_users.lock().await;
        if most <= MOST_SHARED && shared.is_reached.load(Ordering::Acquire) {
            // An app may connect again at once.
            let is_ended = shared.local().ended_sessions.remove(&name);
            if is_ended {
                keep_open(shared, &name).await?;
            }
            if lease(shared, &name, most).await? == SessionLease::None {
                return Ok(false);
            }
        }
        shared.local().begin_session(&name);
        Ok(true)
    });
    granted.await.unwrap_or_else(|_| {
        shared.local().begin_session(&name);
        true
    })
}

/// Gives back the slots of users' sessions that have ended.
pub(super) async fn give_back(shared: &Shared) -> Result<(), SpoolError> {
    let _alone = shared.slots_of_users.lock().await;
    loop {
        let Some(name) = shared.local().ended_sessions.pop_first() else {
            return Ok(());
        };
        keep_open(shared, &name).await?;
    }
}

/// Gives back a user's slots, except those of open sessions.
async fn keep_open(shared: &Shared, name: &str) -> Result<(), SpoolError> {
    let open = shared.local().sessions_of(name);
    let kept = keep(shared, name, open).await;
    if kept.is_err() {
        shared.local().ended_sessions.insert(name.to_owned());
    }
    kept
}
