//! The state in memory that the writer and the callers share: which messages are claimed, when the next
//! message of each place is due, and how many messages there are.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use tokio::sync::Notify;

use super::counts::{CountedAs, QueueCounts};
use super::index::Unindexed;
use super::space::Space;
use crate::base::{MessageId, Timestamp};
use crate::routing::lane;
use crate::spool::due::DuePlaces;
use crate::spool::fresh::{FRESH_CLAIM, Fresh};
use crate::spool::{
    Claim, Claimed, Content, Entry, Fate, Finish, Lease, NewMessage, Owner, Place, Record, State,
};

/// The state that the writer and the callers share.
#[derive(Debug)]
pub(super) struct SharedQueue {
    pub(super) owner: Owner,
    pub(super) queue: Mutex<Queue>,
    pub(super) changed: Notify,
    pub(super) space: Space,
    pub(super) unindexed: Unindexed,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) fresh: Fresh,
    pub(super) claims: HashMap<MessageId, OutstandingClaim>,
    /// The number of the last claim.
    last: u64,
    pub(super) due: DuePlaces,
    pub(super) counts: QueueCounts,
}

/// The claim on a message.
#[derive(Debug)]
pub(super) struct OutstandingClaim {
    pub(super) number: u64,
    counted: CountedAs,
    pub(super) until: Timestamp,
    pub(super) is_sending: bool,
}

impl SharedQueue {
    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Queue {
    pub(super) fn claim(
        &mut self,
        record: Record,
        content: Option<Content>,
        until: Timestamp,
    ) -> Claimed {
        self.last += 1;
        let (id, number) = (record.id, self.last);
        let out = OutstandingClaim {
            number,
            counted: (record.lane.clone(), State::Queued),
            until,
            is_sending: false,
        };
        self.claims.insert(id, out);
        Claimed {
            claim: Claim { id, number },
            until,
            record,
            content,
            may_have_arrived: false,
        }
    }

    pub(super) fn is_claimed(&self, id: MessageId, now: Timestamp) -> bool {
        self.claims.get(&id).is_some_and(|out| out.until > now)
    }

    /// Returns the claim, unless it has ended or was lost to a later claim.
    pub(super) fn outstanding(&mut self, claim: Claim) -> Option<&mut OutstandingClaim> {
        let out = self.claims.get_mut(&claim.id)?;
        (out.number == claim.number).then_some(out)
    }

    pub(super) fn has_lost(&self, claim: Claim) -> bool {
        let out = self.claims.get(&claim.id);
        out.is_none_or(|out| out.number != claim.number)
    }

    /// Releases a claim, if it has not been lost.
    pub(super) fn release(&mut self, claim: Claim, place: &Place) {
        if self.end(claim).is_some() {
            // The next call of `claim` finds out when exactly the message is due.
            self.due.announce(place, Timestamp(0));
        }
    }

    /// Ends a claim, if it has not been lost.
    fn end(&mut self, claim: Claim) -> Option<OutstandingClaim> {
        self.outstanding(claim)?;
        self.claims.remove(&claim.id)
    }

    /// Ends a claim, and updates the counts unless the message is kept unchanged. Returns false if the claim
    /// was lost.
    pub(super) fn finish(&mut self, finish: &Finish, is_kept: bool) -> bool {
        let Some(out) = self.end(finish.claim) else {
            return false;
        };
        let now = match &finish.fate {
            _ if is_kept => return true,
            Fate::Gone(_) => None,
            Fate::Later(record) => Some((record.lane.clone(), State::Queued)),
            Fate::Held(record) => Some((record.lane.clone(), State::Held)),
        };
        self.counts.moved(Some(&out.counted), now.as_ref());
        true
    }

    /// Applies a reroute to claimed messages: those whose lane is in `held` now count as held, and those
    /// whose lane is not in `lanes` now count as without a lane.
    pub(super) fn reroute(&mut self, lanes: &[String], held: &[(String, String)]) {
        for out in self.claims.values_mut() {
            let (lane, state) = &mut out.counted;
            if held.iter().any(|(held, _)| held == lane) {
                *state = State::Held;
            } else if !lanes.iter().any(|name| name == lane::server(lane)) {
                lane.clear();
            }
        }
    }

    /// Offers a new message to delivery at once if it is due and there is room in memory; otherwise stores
    /// only when it is due.
    pub(super) fn offer(&mut self, NewMessage { record, content }: NewMessage) {
        let is_due = record.due <= record.received;
        if !is_due || !self.fresh.has_room(&content) {
            return self.due.announce(&record.place(), record.due);
        }
        let until = record.due.after(FRESH_CLAIM);
        let claimed = self.claim(record, Some(content), until);
        self.fresh.push(claimed);
    }
}

impl SharedQueue {
    /// Returns a message as operators see it, with a lease if it is being sent.
    pub(super) fn entry(&self, record: Record) -> Entry {
        let queue = self.queue();
        let sending = queue.claims.get(&record.id).filter(|out| out.is_sending);
        let lease = sending.map(|out| Lease {
            owner: self.owner.clone(),
            until: out.until,
        });
        Entry { record, lease }
    }
}
