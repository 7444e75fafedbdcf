//! The state in memory that the writer and the callers share: which messages are claimed, when the next
//! message of each place is due, and how many messages there are.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use super::counts::{CountedAs, QueueCounts};
use super::index::Unindexed;
use super::space::Space;
use crate::base::{MessageId, Timestamp};
use crate::routing::lane;
use crate::spool::{
    Claim, Claimed, Content, Entry, Fate, Finish, Flow, Lease, NewMessage, Owner, Place, Record,
    State,
};

/// The maximum size of all fresh messages' contents in memory (octets). Further messages are read from the
/// database when their turn comes.
const FRESH_BYTES: usize = 8 * 1024 * 1024;

/// The maximum number of fresh messages in memory, whatever their size. A higher maximum would gain little:
/// apps that send faster than delivery reach any maximum, and reading the further messages is cheap, because
/// the system has cached their pages.
const FRESH_MESSAGES: usize = 128;

/// The time for which a fresh message is claimed.
pub(super) const FRESH_CLAIM: Duration = Duration::from_secs(900);

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
    fresh: VecDeque<Claimed>,
    fresh_bytes: usize,
    pub(super) claims: HashMap<MessageId, OutstandingClaim>,
    /// The number of the last claim.
    last: u64,
    /// The count of claims released so far.
    released: u64,
    due: HashMap<String, BTreeMap<Flow, Timestamp>>,
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
    pub(super) fn due_at(&mut self, place: &Place, at: Timestamp) {
        let known = self
            .due
            .get_mut(&place.lane)
            .and_then(|flows| flows.get_mut(&place.flow));
        match known {
            Some(due) => *due = at.min(*due),
            None => self.set_due(place, Some(at)),
        }
    }

    pub(super) fn waiting(&self) -> Vec<(Place, Timestamp)> {
        let lanes = self.due.iter();
        let waiting = lanes.flat_map(|(lane, flows)| {
            flows.iter().map(|(flow, due)| {
                let (lane, flow) = (lane.clone(), flow.clone());
                (Place { lane, flow }, *due)
            })
        });
        waiting.collect()
    }

    fn set_due(&mut self, place: &Place, at: Option<Timestamp>) {
        let flows = self.due.entry(place.lane.clone()).or_default();
        match at {
            Some(at) => flows.insert(place.flow.clone(), at),
            None => flows.remove(&place.flow),
        };
        if flows.is_empty() {
            self.due.remove(&place.lane);
        }
    }

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
            self.released += 1;
            // The next call of `claim` finds out when exactly the message is due.
            self.due_at(place, Timestamp(0));
        }
    }

    pub(super) fn released(&self) -> u64 {
        self.released
    }

    /// Stores the result of a search: when the next message of a place is due. `released` is the count of
    /// released claims when the search began. If that count has changed, the search may have missed a
    /// message, so the place is searched again.
    pub(super) fn record_next_due(
        &mut self,
        place: &Place,
        next: Option<Timestamp>,
        released: u64,
    ) {
        let passed_by = self.released != released;
        self.set_due(place, if passed_by { Some(Timestamp(0)) } else { next });
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
        let in_memory = content.in_memory().map_or(0, Bytes::len);
        let fits = self.fresh.len() < FRESH_MESSAGES && self.fresh_bytes + in_memory <= FRESH_BYTES;
        let is_due = record.due <= record.received;
        if !fits || !is_due {
            return self.due_at(&record.place(), record.due);
        }
        self.fresh_bytes += in_memory;
        let until = record.due.after(FRESH_CLAIM);
        let claimed = self.claim(record, Some(content), until);
        self.fresh.push_back(claimed);
    }

    pub(super) fn take_fresh(&mut self, max: usize) -> Vec<Claimed> {
        let count = self.fresh.len().min(max);
        let taken: Vec<Claimed> = self.fresh.drain(..count).collect();
        let contents = taken.iter().filter_map(|it| it.content.as_ref());
        let in_memory = contents.filter_map(Content::in_memory).map(Bytes::len);
        self.fresh_bytes -= in_memory.sum::<usize>();
        taken
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
