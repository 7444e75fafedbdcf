//! A report about the mail of a period, from the history: how much, for whom, what failed and how long it
//! took. Pure.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::cause::cause;
use super::story::decided;
use crate::base::Timestamp;
use crate::message::Address;
use crate::spool::{EventKind, Origin, Story, StoryEvent};

/// The maximum number of users, of domains and of reasons in a report. Further users and domains are summed up.
const MOST: usize = 20;

/// The maximum number of characters in a key of a table, such as a domain from an address.
const KEY: usize = 80;

/// A report about the mail that was accepted or refused in a period.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The beginning of the period.
    pub since: Timestamp,
    /// The end of the period.
    pub until: Timestamp,
    /// The messages that apps sent and that were accepted.
    pub accepted: u64,
    /// The messages that were refused at their end. At most 1,000 of an hour are in the history.
    pub refused: u64,
    /// The octets of the accepted messages.
    pub octets: u64,
    /// The outcomes for all recipients.
    pub total: Outcomes,
    /// The outcomes by server; the server is empty if the message has none yet.
    pub servers: Vec<(String, Outcomes)>,
    /// The outcomes by user.
    pub users: Vec<(String, Outcomes)>,
    /// The outcomes by the recipient's domain.
    pub domains: Vec<(String, Outcomes)>,
    /// The most frequent reasons of deferrals, failures, bounces and refusals.
    pub reasons: Vec<Reason>,
    /// The time from acceptance to delivery; `None` if nothing was delivered.
    pub delay: Option<Delay>,
}

/// The number of recipients with each outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcomes {
    /// Recipients that a server accepted the message for.
    pub delivered: u64,
    /// Recipients for whom the message failed.
    pub failed: u64,
    /// Recipients for whom the message bounced.
    pub bounced: u64,
    /// Recipients that still wait.
    pub waiting: u64,
    /// Recipients for whom an operator deleted the message.
    pub deleted: u64,
    /// Attempts that were deferred.
    pub deferred: u64,
}

/// A reason, and how often it occurred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reason {
    /// The number of occurrences.
    pub count: u64,
    /// The event: `deferred`, `failed`, `bounced` or `refused`.
    pub event: String,
    /// The server; empty for a refusal.
    pub server: String,
    /// The text that all occurrences have in common.
    pub cause: String,
    /// The whole text of the last occurrence, with its remedy.
    pub last: String,
    /// The time of the first occurrence.
    pub first_at: Timestamp,
    /// The time of the last occurrence.
    pub last_at: Timestamp,
    /// The id of a message with this reason: the newest.
    pub id: String,
}

/// Percentiles of the time (seconds) from acceptance to delivery.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Delay {
    /// Half of the deliveries took at most this time.
    pub half: f64,
    /// 90 % of the deliveries took at most this time.
    pub most: f64,
    /// 95 % of the deliveries took at most this time.
    pub p95: f64,
    /// 99 % of the deliveries took at most this time.
    pub p99: f64,
    /// The longest time.
    pub longest: f64,
}

/// Collects stories for a report.
#[derive(Default)]
pub(crate) struct Collected {
    report: Report,
    servers: HashMap<String, Outcomes>,
    users: HashMap<String, Outcomes>,
    domains: HashMap<String, Outcomes>,
    reasons: HashMap<(&'static str, String, String), Reason>,
    /// In milliseconds.
    delays: Vec<u64>,
    /// The messages that are parts of others, and their octets.
    parts: u64,
    octets_of_parts: u64,
}

impl Collected {
    /// Adds a story.
    pub(crate) fn add(&mut self, story: &Story) {
        let record = &story.record;
        let Origin::Client { user, .. } = &record.origin else {
            return;
        };
        for event in &story.events {
            self.add_event(story, event);
        }
        if story.was_refused() {
            self.report.refused += 1;
            return;
        }
        // The parts of a message that was split are in the queue as messages of their own.
        let parts = story.events.iter().filter(|event| is_split(event)).count() as u64;
        self.parts += parts;
        self.octets_of_parts += parts * record.size;
        self.report.accepted += 1;
        self.report.octets += record.size;
        for to in story.recipients() {
            let outcome = Outcomes::of(story, to);
            let server = server_of(story, to).to_owned();
            self.report.total.add(&outcome);
            self.servers.entry(server).or_default().add(&outcome);
            self.users.entry(key(user)).or_default().add(&outcome);
            let domain = to.as_str().rsplit('@').next().unwrap_or_default();
            let domain = key(&domain.to_lowercase());
            self.domains.entry(domain).or_default().add(&outcome);
        }
    }

    fn add_event(&mut self, story: &Story, StoryEvent { at, what }: &StoryEvent) {
        let (event, server, text) = match what {
            EventKind::Delivered { .. } => {
                let delay = at.since(story.record.received);
                return self.delays.push(delay.as_millis() as u64);
            }
            EventKind::Deferred { server, reason, .. } => {
                let deferred = Outcomes {
                    deferred: 1,
                    ..Outcomes::default()
                };
                self.report.total.add(&deferred);
                self.servers
                    .entry(server.clone())
                    .or_default()
                    .add(&deferred);
                ("deferred", server.as_str(), reason)
            }
            EventKind::Failed { server, reply, .. } => ("failed", server.as_str(), reply),
            EventKind::Bounced { server, reply, .. } => ("bounced", server.as_str(), reply),
            EventKind::Refused { reply } => ("refused", "", reply),
            _ => return,
        };
        let id = story.record.id.to_string();
        let entry = (event, server.to_owned(), cause(text));
        let reason = self
            .reasons
            .entry(entry)
            .or_insert_with_key(|(_, _, cause)| Reason {
                count: 0,
                event: event.to_owned(),
                server: server.to_owned(),
                cause: cause.clone(),
                last: text.clone(),
                first_at: *at,
                last_at: *at,
                id: id.clone(),
            });
        reason.count += 1;
        reason.first_at = reason.first_at.min(*at);
        if *at >= reason.last_at {
            (reason.last_at, reason.last, reason.id) = (*at, text.clone(), id);
        }
    }

    /// Returns the report about the added stories.
    pub(crate) fn report(mut self, since: Timestamp, until: Timestamp) -> Report {
        let mut reasons: Vec<Reason> = self.reasons.into_values().collect();
        reasons.sort_by(|one, other| {
            let by_count = other.count.cmp(&one.count);
            by_count.then(other.last_at.cmp(&one.last_at))
        });
        reasons.truncate(MOST);
        let mut servers: Vec<(String, Outcomes)> = self.servers.into_iter().collect();
        servers.sort_by(|(one, _), (other, _)| one.cmp(other));
        Report {
            since,
            until,
            servers,
            users: top(self.users),
            domains: top(self.domains),
            reasons,
            delay: delay(&mut self.delays),
            accepted: self.report.accepted.saturating_sub(self.parts),
            octets: self.report.octets.saturating_sub(self.octets_of_parts),
            ..self.report
        }
    }
}

fn is_split(event: &StoryEvent) -> bool {
    matches!(event.what, EventKind::Split { .. })
}

impl Outcomes {
    fn of(story: &Story, to: &Address) -> Self {
        let mut outcome = Self::default();
        match decided(story, to) {
            Some(EventKind::Delivered { .. }) => outcome.delivered = 1,
            Some(EventKind::Bounced { .. }) => outcome.bounced = 1,
            Some(EventKind::Failed { .. }) => outcome.failed = 1,
            _ if story.ended.is_none() => outcome.waiting = 1,
            _ if story.was_deleted() => outcome.deleted = 1,
            _ => outcome.failed = 1,
        }
        outcome
    }

    fn add(&mut self, other: &Self) {
        self.delivered += other.delivered;
        self.failed += other.failed;
        self.bounced += other.bounced;
        self.waiting += other.waiting;
        self.deleted += other.deleted;
        self.deferred += other.deferred;
    }

    /// Returns the number of recipients.
    pub(crate) fn recipients(&self) -> u64 {
        self.delivered + self.failed + self.bounced + self.waiting + self.deleted
    }
}

/// Returns the server that decided about a recipient, or that the message waits for.
fn server_of<'a>(story: &'a Story, to: &Address) -> &'a str {
    match decided(story, to) {
        Some(
            EventKind::Delivered { server, .. }
            | EventKind::Bounced { server, .. }
            | EventKind::Failed { server, .. },
        ) => server,
        _ => &story.record.lane,
    }
}

fn key(text: &str) -> String {
    text.chars().take(KEY).collect()
}

/// Returns the rows with the most recipients, and a row `(others)` for the rest.
fn top(rows: HashMap<String, Outcomes>) -> Vec<(String, Outcomes)> {
    let mut rows: Vec<(String, Outcomes)> = rows.into_iter().collect();
    rows.sort_by(|(one, first), (other, second)| {
        let by_count = second.recipients().cmp(&first.recipients());
        by_count.then(one.cmp(other))
    });
    if rows.len() > MOST {
        let mut others = Outcomes::default();
        rows.drain(MOST..).for_each(|(_, row)| others.add(&row));
        rows.push(("(others)".to_owned(), others));
    }
    rows
}

/// Returns percentiles of delays in milliseconds.
fn delay(delays: &mut [u64]) -> Option<Delay> {
    delays.sort_unstable();
    let longest = *delays.last()?;
    let at = |percent: usize| delays[(delays.len() * percent).div_ceil(100).max(1) - 1];
    let seconds = |milliseconds: u64| milliseconds as f64 / 1_000.0;
    Some(Delay {
        half: seconds(at(50)),
        most: seconds(at(90)),
        p95: seconds(at(95)),
        p99: seconds(at(99)),
        longest: seconds(longest),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_deliveries() {
        assert_eq!(delay(&mut []), None);
        let one = delay(&mut [1_000]).unwrap();
        assert_eq!((one.half, one.longest), (1.0, 1.0));
        let mut hundred: Vec<u64> = (1..=100).rev().map(|n| n * 1_000).collect();
        let hundred = delay(&mut hundred).unwrap();
        assert_eq!(
            [
                hundred.half,
                hundred.most,
                hundred.p95,
                hundred.p99,
                hundred.longest
            ],
            [50.0, 90.0, 95.0, 99.0, 100.0]
        );
    }

    #[test]
    fn rows_beyond_the_top_are_summed_up() {
        let rows = (0..30).map(|number| {
            let delivered = 100 - number;
            let outcomes = Outcomes {
                delivered,
                ..Outcomes::default()
            };
            (format!("d{number}.example"), outcomes)
        });
        let top = top(rows.collect());
        assert_eq!(top.len(), MOST + 1);
        assert_eq!(top[0].0, "d0.example");
        assert_eq!(
            top[MOST],
            (
                "(others)".to_owned(),
                Outcomes {
                    delivered: (71..=80).sum(),
                    ..Outcomes::default()
                }
            )
        );
    }
}
