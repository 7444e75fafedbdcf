//! The number of messages by server and state, updated with every change, so that a request need not count
//! them. Pure.

use std::collections::HashMap;

use crate::spool::{Count, State};

/// The number of messages by server and state.
#[derive(Debug, Default)]
pub(super) struct QueueCounts(HashMap<String, [usize; 2]>);

/// The server and the state under which a message is counted.
pub(super) type CountedAs = (String, State);

impl QueueCounts {
    /// Creates counts with these initial numbers.
    pub(super) fn of(counted: impl IntoIterator<Item = (CountedAs, usize)>) -> Self {
        let mut counts = Self::default();
        for ((server, state), count) in counted {
            *counts.count(&server, state) += count;
        }
        counts
    }

    /// Counts a message that was added (no `from`), removed (no `to`), or changed its server or state.
    pub(super) fn moved(&mut self, from: Option<&CountedAs>, to: Option<&CountedAs>) {
        if let Some((server, state)) = to {
            self.came(server, *state);
        }
        if let Some((server, state)) = from {
            let count = self.count(server, *state);
            *count = count.saturating_sub(1);
        }
    }

    /// Counts a message that was added.
    pub(super) fn came(&mut self, server: &str, state: State) {
        *self.count(server, state) += 1;
    }

    fn count(&mut self, server: &str, state: State) -> &mut usize {
        if !self.0.contains_key(server) {
            self.0.insert(server.to_owned(), [0, 0]);
        }
        let counts = self.0.get_mut(server).expect("it was put there");
        match state {
            State::Queued => &mut counts[0],
            State::Held => &mut counts[1],
        }
    }

    /// Returns the counts that are not zero, sorted by the servers' names.
    pub(super) fn all(&self) -> Vec<Count> {
        let counts = self.0.iter().filter(|(_, counts)| **counts != [0, 0]);
        let count = |(server, [queued, held]): (&String, &[usize; 2])| Count {
            server: server.clone(),
            queued: *queued,
            held: *held,
        };
        let mut all: Vec<Count> = counts.map(count).collect();
        all.sort_by(|one, other| one.server.cmp(&other.server));
        all
    }
}
