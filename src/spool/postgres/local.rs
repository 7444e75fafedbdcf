//! The state in this node's memory: its claims, the messages that it has just accepted, and the places where messages wait. Pure.

use std::collections::{BTreeSet, HashMap};

use crate::base::{MessageId, Timestamp};
use crate::spool::due::DuePlaces;
use crate::spool::fresh::Fresh;
use crate::spool::{Claim, Claimed, Content, Place, Record};

/// The state in this node's memory.
#[derive(Debug, Default)]
pub(super) struct Local {
    pub(super) fresh: Fresh,
    pub(super) due: DuePlaces,
    claims: HashMap<MessageId, Held>,
    /// Claims that are to be released in the database.
    pub(super) released: Vec<Released>,
    /// Messages whose contents never were accepted: their pieces are to be removed.
    pub(super) abandoned: Vec<MessageId>,
    /// Messages that were answered with 451 and may be stored nevertheless: they are to be removed.
    pub(super) revoked: Vec<MessageId>,
    /// Batches of ended claims of which it is not known whether they are stored, by their first claims.
    pub(super) doubts: HashMap<Claim, Doubt>,
    /// The number of the last batch of ended claims, and those that are being written or in doubt.
    serial: i64,
    open: BTreeSet<i64>,
    /// What this node has taken in advance of limits that all nodes share.
    pub(super) advances: Advances,
    /// What it has not used of that, to be given back.
    pub(super) unused: Vec<(String, Advance)>,
    /// The open sessions of users, by the names of their slots.
    user_sessions: HashMap<String, usize>,
    /// The slots of users whose sessions have ended, to be given back.
    pub(super) ended_sessions: BTreeSet<String>,
    /// Places that the other nodes are to be told of, with the time at which a message is due there.
    pub(super) announced: HashMap<Place, Timestamp>,
}

/// What this node has taken in advance of a limit.
#[derive(Debug)]
pub(super) struct Advance {
    /// The time at which it was taken, from which on it counts.
    pub(super) at: Timestamp,
    pub(super) until: Timestamp,
    pub(super) left: u64,
}

/// What this node has taken in advance, by the names of the limits.
pub(super) type Advances = HashMap<String, Advance>;

/// A transaction that ended claims, or not: the connection broke before the answer came.
#[derive(Debug, Clone)]
pub(super) struct Doubt {
    /// The node, and the number of the batch among those of the node: the transaction stores them.
    pub(super) node: i64,
    pub(super) serial: i64,
    /// The claims that were lost, if it was.
    pub(super) lost: Vec<Claim>,
}

/// A claim of this node.
#[derive(Debug)]
struct Held {
    number: u64,
    until: Timestamp,
    /// True if a node that has died may have sent the message.
    may_have_arrived: bool,
}

/// A claim that is to be released in the database, and the place where its message waits then.
#[derive(Debug)]
pub(super) struct Released {
    pub(super) claim: Claim,
    pub(super) place: Place,
    /// False if a node that has died may have sent the message.
    pub(super) is_unsent: bool,
}

impl Local {
    /// Counts one more session under the name of its user's slots.
    pub(super) fn begin_session(&mut self, name: &str) {
        *self.user_sessions.entry(name.to_owned()).or_default() += 1;
    }

    /// Counts one session less. Its slot is to be given back.
    pub(super) fn end_session(&mut self, name: String) {
        if let Some(count) = self.user_sessions.get_mut(&name) {
            *count = count.saturating_sub(1);
        }
        self.user_sessions.retain(|_, count| *count > 0);
        self.ended_sessions.insert(name);
    }

    /// The number of open sessions under this name.
    pub(super) fn sessions_of(&self, name: &str) -> usize {
        self.user_sessions.get(name).copied().unwrap_or(0)
    }

    /// Notes that a message of a place is due, for this node and the others.
    pub(super) fn announce(&mut self, place: &Place, at: Timestamp) {
        self.due.announce(place, at);
        let known = self.announced.entry(place.clone()).or_insert(at);
        *known = at.min(*known);
    }

    /// Notes a claim that the database has given to this node.
    pub(super) fn claimed(
        &mut self,
        record: Record,
        number: u64,
        content: Option<Content>,
        until: Timestamp,
        may_have_arrived: bool,
    ) -> Claimed {
        let id = record.id;
        let held = Held {
            number,
            until,
            may_have_arrived,
        };
        self.claims.insert(id, held);
        Claimed {
            claim: Claim { id, number },
            until,
            record,
            content,
            may_have_arrived,
        }
    }

    /// True if this node has the claim.
    pub(super) fn has(&self, claim: Claim) -> bool {
        let known = self.claims.get(&claim.id);
        known.is_some_and(|held| held.number == claim.number)
    }

    /// Returns the number of a new batch of ended claims.
    pub(super) fn next_serial(&mut self) -> i64 {
        self.serial += 1;
        self.open.insert(self.serial);
        self.serial
    }

    /// Notes that it is known whether a batch, which begins with this claim, is stored.
    pub(super) fn resolve(&mut self, first: &Claim, serial: i64) {
        self.doubts.remove(first);
        self.open.remove(&serial);
    }

    /// Returns the number of the oldest batch that is being written or in doubt.
    pub(super) fn oldest_open(&self) -> i64 {
        self.open.first().copied().unwrap_or(self.serial)
    }

    /// The number of this node's claims.
    pub(super) fn claims(&self) -> usize {
        self.claims.len()
    }

    /// Extends a claim. Returns false if this node does not have it.
    pub(super) fn renew(&mut self, claim: Claim, until: Timestamp) -> bool {
        match self.claims.get_mut(&claim.id) {
            Some(held) if held.number == claim.number => {
                held.until = until;
                true
            }
            _ => false,
        }
    }

    /// Ends a claim, if this node has it.
    pub(super) fn end(&mut self, claim: Claim) {
        if self.has(claim) {
            self.claims.remove(&claim.id);
        }
    }

    /// Ends a claim, if this node has it, and leaves its message in a place unchanged.
    pub(super) fn release(&mut self, claim: Claim, place: Place) {
        if !self.has(claim) {
            return;
        }
        if let Some(held) = self.claims.remove(&claim.id) {
            self.released.push(Released {
                claim,
                place,
                is_unsent: !held.may_have_arrived,
            });
        }
    }

    /// Returns the time until which this node has claimed a message.
    pub(super) fn until(&self, id: MessageId) -> Option<Timestamp> {
        self.claims.get(&id).map(|held| held.until)
    }

    /// Ends the claims whose time has passed, and returns them.
    pub(super) fn expired(&mut self, now: Timestamp) -> Vec<Claim> {
        let over = self.claims.iter().filter(|(_, held)| held.until <= now);
        let over = over.map(|(id, held)| Claim {
            id: *id,
            number: held.number,
        });
        let over: Vec<Claim> = over.collect();
        self.claims.retain(|_, held| held.until > now);
        over
    }

    /// Forgets all claims, because the other nodes have taken over from this one.
    pub(super) fn forget_claims(&mut self) {
        self.claims.clear();
        self.released.clear();
        self.fresh = Fresh::default();
    }
}
