//! The places where messages wait, each with the time at which its next unclaimed message is due, as far as this
//! process knows. Pure.

use std::collections::{BTreeMap, HashMap};

use super::{Flow, Place};
use crate::base::Timestamp;

/// When the next message of each place is due.
#[derive(Debug, Default)]
pub(super) struct DuePlaces {
    lanes: HashMap<String, BTreeMap<Flow, Timestamp>>,
    /// How often a message was announced.
    announced: u64,
}

impl DuePlaces {
    /// Notes that a message of this place is due at `at`.
    pub(super) fn announce(&mut self, place: &Place, at: Timestamp) {
        self.announced += 1;
        let flows = self.lanes.get_mut(&place.lane);
        match flows.and_then(|flows| flows.get_mut(&place.flow)) {
            Some(due) => *due = at.min(*due),
            None => self.set(place, Some(at)),
        }
    }

    /// How often a message was announced so far. A search notes this before it begins.
    pub(super) fn announced(&self) -> u64 {
        self.announced
    }

    /// Stores the result of a search: when the next message of a place is due. `announced` is the number of
    /// announcements when the search began. If there were more meanwhile, the search may have missed a message, so
    /// the place is searched again.
    pub(super) fn record_next(&mut self, place: &Place, next: Option<Timestamp>, announced: u64) {
        let passed_by = self.announced != announced;
        self.set(place, if passed_by { Some(Timestamp(0)) } else { next });
    }

    /// Returns all places, each with the time at which its next message is due.
    pub(super) fn all(&self) -> Vec<(Place, Timestamp)> {
        let places = self.lanes.iter().flat_map(|(lane, flows)| {
            flows.iter().map(|(flow, due)| {
                let (lane, flow) = (lane.clone(), flow.clone());
                (Place { lane, flow }, *due)
            })
        });
        places.collect()
    }

    fn set(&mut self, place: &Place, at: Option<Timestamp>) {
        let flows = self.lanes.entry(place.lane.clone()).or_default();
        match at {
            Some(at) => flows.insert(place.flow.clone(), at),
            None => flows.remove(&place.flow),
        };
        if flows.is_empty() {
            self.lanes.remove(&place.lane);
        }
    }
}
