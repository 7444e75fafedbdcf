//! Accepts messages: all waiting messages are written in one transaction.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};

use super::changes::Changes;
use super::shared::Shared;
use crate::base::Timestamp;
use crate::spool::fresh::FRESH_CLAIM;
use crate::spool::{Content, NewMessage, Place, SpoolError};

/// The maximum number of requests in one transaction.
const GROUP: usize = 512;

/// The maximum size (octets) of the contents of one transaction, besides the first one.
const GROUP_BYTES: usize = 16 * 1024 * 1024;

/// The maximum number of transactions at a time: others are written while the database waits for the disk in the first one.
const TRANSACTIONS: usize = 3;

/// A transaction costs as much as several messages. Another one begins beside the first only if so many requests wait; and if
/// fewer wait for the first, sessions that are ready may add theirs.
const FEW: usize = 5;

/// The number of turns that sessions get to add theirs. More turns gain nothing (`cargo bench --bench nodes`).
const TURNS: usize = 16;

/// The fencing number of a claim with which a message is inserted.
const FIRST_CLAIM: u64 = 1;

/// Messages to accept, and the caller that waits.
pub(super) struct Put {
    pub(super) messages: Vec<NewMessage>,
    pub(super) answer: oneshot::Sender<Result<(), SpoolError>>,
}

/// New messages, and what to do with them when they are committed.
pub(super) struct Offers {
    /// This node, while the messages are written.
    node: i64,
    /// Messages that this node has claimed, to send them at once.
    fresh: Vec<NewMessage>,
    /// The places of the other messages, and when they are due.
    waiting: Vec<(Place, Timestamp)>,
    /// Contents that the database has accepted.
    accepted: Vec<Content>,
}

impl Offers {
    pub(super) fn new(node: i64) -> Self {
        Self {
            node,
            fresh: Vec::new(),
            waiting: Vec::new(),
            accepted: Vec::new(),
        }
    }

    /// Returns this node, if it must still be one when the messages are written.
    pub(super) fn fence(&self) -> Option<i64> {
        let is_empty = self.fresh.is_empty() && self.waiting.is_empty();
        (!is_empty).then_some(self.node)
    }

    /// Adds a new message to `changes`. It is claimed at once if it is due and there is room in memory.
    pub(super) fn add(&mut self, shared: &Shared, changes: &mut Changes, new: &NewMessage) {
        let is_due = new.record.due <= new.record.received;
        let is_fresh = is_due && shared.local().fresh.has_room(&new.content);
        changes.insert(new, is_fresh.then_some(self.node));
        if is_fresh {
            self.fresh.push(new.clone());
        } else {
            self.waiting.push((new.record.place(), new.record.due));
            self.accepted.push(new.content.clone());
        }
    }

    /// Hands the messages to delivery, because they are committed now.
    pub(super) fn settle(self, shared: &Shared) {
        let mut local = shared.local();
        for NewMessage { record, content } in self.fresh {
            content.keep();
            let until = record.due.after(FRESH_CLAIM);
            let claimed = local.claimed(record, FIRST_CLAIM, Some(content), until, false);
            local.fresh.push(claimed);
        }
        for (place, due) in self.waiting {
            local.announce(&place, due);
        }
        drop(local);
        self.accepted.iter().for_each(Content::keep);
        shared.announced();
    }
}

/// Commits messages in groups until the spool is dropped.
pub(super) async fn commit(shared: Arc<Shared>, mut puts: mpsc::Receiver<Put>) {
    let (mut waiting, mut begun) = (VecDeque::new(), FuturesUnordered::new());
    loop {
        if begun.is_empty() && !waiting.is_empty() {
            gather(&mut puts, &mut waiting).await;
        }
        let enough = if begun.is_empty() { 1 } else { FEW };
        if waiting.len() >= enough && begun.len() < TRANSACTIONS {
            begun.push(commit_group(&shared, next_group(&mut waiting)));
        }
        tokio::select! {
            Some(put) = puts.recv(), if waiting.len() < GROUP => waiting.push_back(put),
            Some(()) = begun.next() => {}
            else => return,
        }
    }
}

/// Lets sessions that are ready add their requests.
async fn gather(puts: &mut mpsc::Receiver<Put>, waiting: &mut VecDeque<Put>) {
    for _ in 0..TURNS {
        if waiting.len() >= FEW {
            return;
        }
        tokio::task::yield_now().await;
        while waiting.len() < GROUP
            && let Ok(put) = puts.try_recv()
        {
            waiting.push_back(put);
        }
    }
}

fn next_group(waiting: &mut VecDeque<Put>) -> Vec<Put> {
    let mut octets = 0;
    let mut group = Vec::new();
    while octets < GROUP_BYTES
        && let Some(put) = waiting.pop_front()
    {
        octets += size(&put);
        group.push(put);
    }
    // Nobody waits for these any more.
    group.retain(|put| !put.answer.is_closed());
    group
}

fn size(put: &Put) -> usize {
    let contents = put.messages.iter().map(|new| &new.content);
    let in_memory = contents.filter_map(Content::in_memory);
    in_memory.map(|bytes| bytes.len()).sum()
}

/// Writes a group. If the database refuses it, writes each request alone, so that one does not fail the others.
async fn commit_group(shared: &Shared, group: Vec<Put>) {
    match write(shared, &group).await {
        Err(SpoolError::Database { .. }) if group.len() > 1 => {
            for put in group {
                let alone = [put];
                let written = write(shared, &alone).await;
                alone
                    .into_iter()
                    .for_each(|put| answer(shared, put, &written));
            }
        }
        written => group
            .into_iter()
            .for_each(|put| answer(shared, put, &written)),
    }
}

async fn write(shared: &Shared, group: &[Put]) -> Result<(), SpoolError> {
    let _claiming = shared.claiming.read().await;
    let (mut changes, mut offers) = (Changes::default(), Offers::new(shared.node()));
    for new in group.iter().flat_map(|put| &put.messages) {
        offers.add(shared, &mut changes, new);
    }
    let fence = offers.fence();
    let written = shared.database.within(async {
        let lent = shared.database.lend().await?;
        changes.write(&lent, true, fence).await?;
        lent.done();
        Ok(())
    });
    shared.checked(written.await)?;
    offers.settle(shared);
    Ok(())
}

/// Answers the caller. Messages that are not promised to anybody are removed, in case that they were stored.
fn answer(shared: &Shared, put: Put, written: &Result<(), SpoolError>) {
    let ids = put.messages.iter().map(|new| new.record.id);
    let is_unknown = matches!(written, Err(SpoolError::Away { .. }));
    let ids: Vec<_> = ids.collect();
    let is_told = put.answer.send(written.clone()).is_ok();
    if is_unknown || (written.is_ok() && !is_told) {
        shared.revoke(ids);
    }
}
