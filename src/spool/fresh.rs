//! Messages that this process has just accepted and already claimed for itself, with their contents in memory: most
//! messages are sent at once, and are never read from the database. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::{Claimed, Content};

/// The maximum size of all fresh messages' contents in memory (octets). Further messages are read from the
/// database when their turn comes.
const FRESH_BYTES: usize = 8 * 1024 * 1024;

/// The maximum number of fresh messages in memory, whatever their size. A higher maximum would gain little:
/// apps that send faster than delivery reach any maximum, and reading the further messages is cheap, because
/// the system has cached their pages.
const FRESH_MESSAGES: usize = 128;

/// The time for which a fresh message is claimed.
pub(super) const FRESH_CLAIM: Duration = Duration::from_secs(900);

/// The fresh messages, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    messages: VecDeque<Claimed>,
    bytes: usize,
}

impl Fresh {
    /// True if there is room for a message with this content.
    pub(super) fn has_room(&self, content: &Content) -> bool {
        self.messages.len() < FRESH_MESSAGES && self.bytes + in_memory(content) <= FRESH_BYTES
    }

    /// Adds a message.
    pub(super) fn push(&mut self, claimed: Claimed) {
        self.bytes += claimed.content.as_ref().map_or(0, in_memory);
        self.messages.push_back(claimed);
    }

    /// Takes at most `max` messages, oldest first.
    pub(super) fn take(&mut self, max: usize) -> Vec<Claimed> {
        let count = self.messages.len().min(max);
        let taken: Vec<Claimed> = self.messages.drain(..count).collect();
        let contents = taken.iter().filter_map(|it| it.content.as_ref());
        self.bytes -= contents.map(in_memory).sum::<usize>();
        taken
    }
}

fn in_memory(content: &Content) -> usize {
    content.in_memory().map_or(0, Bytes::len)
}
