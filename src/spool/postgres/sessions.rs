//! The sessions of mailboxes: each open session of a node has a slot in the database, so that the nodes together open
//! no more than a mailbox's limit.

use super::database::Values;
use super::shared::Shared;
use crate::spool::{SessionLease, SpoolError};

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
