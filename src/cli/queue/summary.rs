//! `mailferry queue summary`: why messages wait, how many, and since when.

use std::collections::BTreeMap;

use super::reason;
use crate::base::Timestamp;
use crate::cli::common::plain;
use crate::spool::{Entry, State};

/// The number of characters of a reason in a row.
const REASON: usize = 400;

/// Messages that wait for the same server for the same reason.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    server: String,
    state: &'static str,
    reason: String,
}

/// How many messages there are in a group.
#[derive(Debug, Default, PartialEq, Eq, serde::Serialize)]
struct Amount {
    messages: usize,
    octets: u64,
    /// The time at which the oldest message was accepted.
    oldest: Option<Timestamp>,
}

/// Counts messages by the reason why they wait.
#[derive(Default)]
pub(super) struct Summary(BTreeMap<Group, Amount>);

impl Summary {
    /// Counts a message; `reason` is why it waits.
    pub(super) fn add(&mut self, entry: &Entry, reason: Option<String>) {
        let record = &entry.record;
        let state = match record.state {
            _ if entry.lease.is_some() => "active",
            State::Held => "held",
            State::Queued => "queued",
        };
        // The last reply tells more than nothing.
        let reason = reason.or(record.last.clone()).unwrap_or_default();
        let group = Group {
            server: record.lane.clone(),
            state,
            reason: plain(&reason).chars().take(REASON).collect(),
        };
        let amount = self.0.entry(group).or_default();
        amount.messages += 1;
        amount.octets += record.size;
        let oldest = amount
            .oldest
            .map_or(record.received, |known| known.min(record.received));
        amount.oldest = Some(oldest);
    }

    /// Prints the groups, the largest first.
    pub(super) fn print(&self, json: bool, now: Timestamp) {
        let mut groups: Vec<(&Group, &Amount)> = self.0.iter().collect();
        groups.sort_by_key(|(_, amount)| std::cmp::Reverse(amount.messages));
        if json {
            for (group, amount) in groups {
                let Group {
                    server,
                    state,
                    reason,
                } = group;
                let mut value = serde_json::json!(amount);
                value["server"] = server.clone().into();
                value["state"] = (*state).into();
                value["reason"] = reason.clone().into();
                println!("{value}");
            }
            return;
        }
        println!(
            "{:>8}  {:<7}  {:<12}  {:<16}  REASON",
            "MESSAGES", "STATE", "OLDEST", "SERVER"
        );
        for (group, amount) in &groups {
            let oldest = amount.oldest.map(|at| reason::from_now(at, now));
            let server = match group.server.as_str() {
                "" => "to be routed",
                server => server,
            };
            println!(
                "{:>8}  {:<7}  {:<12}  {server:<16}  {}",
                amount.messages,
                group.state,
                oldest.unwrap_or_default(),
                group.reason
            );
        }
        let messages: usize = groups.iter().map(|(_, amount)| amount.messages).sum();
        let octets: u64 = groups.iter().map(|(_, amount)| amount.octets).sum();
        println!("{messages} in the queue, {octets} octets");
    }
}
