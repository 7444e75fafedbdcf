//! Who has a message, and until when.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Record;
use crate::base::Timestamp;

/// Who holds a lease: one run of one process, so that a process started anew is another owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Owner(Arc<str>);

/// A message is its owner's until the lease ends: nobody else gets it before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Who has it.
    pub owner: Owner,
    /// When it ends, unless it is renewed.
    pub until: Timestamp,
}

/// A message as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// As it is stored.
    #[serde(flatten)]
    pub record: Record,
    /// Who has it, while delivery does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
}

/// How many messages wait for a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// The server; empty for those that are to be routed anew.
    pub server: String,
    /// Those that wait for their time.
    pub queued: usize,
    /// Those that wait for a person.
    pub held: usize,
}

impl Owner {
    /// The run of process `pid` on `host`; `random` keeps it apart from a former run of that number.
    pub fn new(host: &str, pid: u32, random: u32) -> Self {
        Self(format!("{host}/{pid}-{random:08x}").into())
    }

    /// This process.
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
