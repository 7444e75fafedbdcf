//! Leases: which process is sending a message, and until when.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Record;
use crate::base::Timestamp;

/// The owner of a lease: one run of one process. After a restart, the process is a different owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Owner(Arc<str>);

/// A lease on a message: nobody except the owner gets the message before the lease ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The owner.
    pub owner: Owner,
    /// The time at which the lease ends unless it is renewed.
    pub until: Timestamp,
}

/// A message as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The message's record as it is stored.
    #[serde(flatten)]
    pub record: Record,
    /// The lease, while the message is being sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
}

/// A node whose last heartbeat is this old is dead. It may miss three.
pub(super) const DEAD: Duration = Duration::from_secs(8);

/// A node of those that share the spool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// The node, as a lease names it: host and process.
    pub name: String,
    /// The version of its program.
    pub version: String,
    /// The time at which it joined.
    pub since: Timestamp,
    /// The time (seconds) since its last heartbeat.
    pub silent: u64,
    /// The number of messages that it has claimed.
    pub claimed: usize,
    /// True if it is the node that has answered.
    #[serde(default)]
    pub is_this: bool,
    /// True if it is being taken out of service.
    #[serde(default)]
    pub is_draining: bool,
    /// True if it tells people of trouble and reads delivery reports for all nodes.
    pub leads: bool,
}

impl NodeRow {
    /// True if this node takes the work of others.
    pub fn takes_work(&self) -> bool {
        !self.is_draining && self.silent < DEAD.as_secs()
    }
}

/// The numbers of queued and held messages of one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// The server; empty for messages that are to be routed again.
    pub server: String,
    /// Messages that wait until they are due.
    pub queued: usize,
    /// Messages that wait for an operator.
    pub held: usize,
}

impl Owner {
    /// Creates the owner for the run of process `pid` on `host`; `random` distinguishes the run from an
    /// earlier run with the same pid.
    pub fn new(host: &str, pid: u32, random: u32) -> Self {
        Self(format!("{host}/{pid}-{random:08x}").into())
    }

    /// Creates the owner for this run of this process on `host`.
    pub fn this_process(host: &str) -> Self {
        Self::new(host, std::process::id(), rand::random())
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for Owner {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl From<Owner> for String {
    fn from(owner: Owner) -> Self {
        owner.0.as_ref().to_owned()
    }
}

/// Measurements of the spool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpoolMeasures {
    /// The time at which the oldest message of each server and state was accepted; the server is empty for
    /// messages that will be routed again.
    pub oldest: Vec<(String, super::State, Timestamp)>,
    /// The octets that the spool takes on the disk.
    pub used: u64,
    /// The octets that are free on the spool's disk, if the system reports them.
    pub free: Option<u64>,
}

impl SpoolMeasures {
    /// True if every server and state with messages has an oldest one.
    pub(super) fn has_all(&self, counts: &[Count]) -> bool {
        use super::State;
        let has = |server: &str, state: State| {
            let mut oldest = self.oldest.iter();
            oldest.any(|(its, of, _)| its == server && *of == state)
        };
        counts.iter().all(|count| {
            (count.queued == 0 || has(&count.server, State::Queued))
                && (count.held == 0 || has(&count.server, State::Held))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_runs_of_one_number_are_two_owners() {
        let (first, second) = (Owner::new("relay", 7, 1), Owner::new("relay", 7, 2));
        assert_ne!(first, second);
        assert_eq!(first.to_string(), "relay/7-00000001");
        assert_eq!(Owner::from(String::from(first.clone())), first);
    }
}
