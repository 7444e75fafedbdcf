//! Facts: the events that can happen to a message in delivery. Only this file turns a fact into a log line
//! and into an event of the message's story. The metrics count the log lines.

use std::time::Duration;

use super::bounce::ReportKind;
use crate::base::{Clock, MessageId, Timestamp};
use crate::message::Address;
use crate::observe::maillog;
use crate::spool::{EventKind, StoryEvent};
use crate::transport::Answer;

/// Something that happened to a message in delivery.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fact {
    /// The upstream accepted the message for these recipients.
    Delivered {
        to: Vec<Address>,
        answer: Answer,
        message_id: String,
        /// The envelope sender in place of the app's, if it was rewritten.
        sent_as: Option<Address>,
        waited: Duration,
    },
    /// The upstream had accepted the message, but a report says that it did not reach this recipient.
    Bounced {
        to: Address,
        answer: Answer,
        remedy: String,
        /// The report's Message-ID.
        report: String,
    },
    /// The message failed permanently for this recipient.
    Failed {
        to: Address,
        answer: Answer,
        remedy: String,
    },
    /// The message will be tried again.
    Deferred {
        until: Timestamp,
        attempts: u32,
        reason: String,
        may_have_arrived: bool,
    },
    /// The message's content could not be read. The message will be tried again.
    Unread {
        until: Timestamp,
        attempts: u32,
        reason: String,
    },
    /// The message is held for an operator.
    Held { reason: String },
    /// The message goes through another server because the configuration has changed.
    Rerouted { from: String, to: String },
    /// The route depends on the recipients: these ones take another route, as a message of their own.
    Split {
        part: MessageId,
        /// The server of the part; empty if there is none.
        server: String,
        to: Vec<Address>,
    },
    /// A report about the message was put into the queue.
    Reported {
        report: MessageId,
        to: Address,
        kind: ReportKind,
    },
}

/// Logs facts about a message at a server, and returns them as events of the message's story.
pub(super) fn tell(
    facts: Vec<Fact>,
    id: MessageId,
    server: &str,
    clock: &Clock,
) -> Vec<StoryEvent> {
    facts.iter().for_each(|fact| fact.log(id, server, clock));
    events(facts, server, clock.now())
}

/// Converts facts to events without logging them.
pub(super) fn events(facts: Vec<Fact>, server: &str, at: Timestamp) -> Vec<StoryEvent> {
    let events = facts.into_iter().filter_map(|fact| fact.what(server));
    events.map(|what| StoryEvent { at, what }).collect()
}

fn with_remedy(answer: &Answer, remedy: &str) -> String {
    match remedy {
        "" => answer.to_string(),
        remedy => format!("{answer}; {remedy}"),
    }
}

impl Fact {
    fn log(&self, id: MessageId, server: &str, clock: &Clock) {
        match self {
            Self::Delivered {
                to, answer, waited, ..
            } => maillog::delivered(id, server, to, answer, *waited),
            Self::Failed { to, answer, remedy } => maillog::failed(id, server, to, answer, remedy),
            Self::Bounced {
                to,
                answer,
                remedy,
                report,
            } => maillog::bounced(id, server, to, answer, remedy, report),
            Self::Deferred {
                until,
                attempts,
                reason,
                may_have_arrived,
            } => {
                let until = clock.shown(*until);
                maillog::deferred(id, server, until, *attempts, reason, *may_have_arrived);
            }
            Self::Unread {
                until,
                attempts,
                reason,
            } => maillog::deferred(id, server, clock.shown(*until), *attempts, reason, false),
            Self::Held { reason } => maillog::held(id, reason),
            Self::Rerouted { from, to } => maillog::rerouted(id, from, to),
            Self::Split { part, server, to } => maillog::split(id, *part, server, to),
            Self::Reported { report, to, kind } => {
                maillog::reported(id, *report, to, kind.action());
            }
        }
    }

    fn what(self, server: &str) -> Option<EventKind> {
        let server = server.to_owned();
        Some(match self {
            Self::Delivered {
                to,
                answer,
                message_id,
                sent_as,
                ..
            } => EventKind::Delivered {
                server,
                to,
                reply: answer.to_string(),
                message_id,
                sent_as,
            },
            Self::Bounced {
                to,
                answer,
                remedy,
                report,
            } => EventKind::Bounced {
                server,
                to: vec![to],
                reply: with_remedy(&answer, &remedy),
                report,
            },
            Self::Failed { to, answer, remedy } => EventKind::Failed {
                server,
                to: vec![to],
                reply: with_remedy(&answer, &remedy),
            },
            Self::Deferred {
                until,
                reason,
                may_have_arrived,
                ..
            } => EventKind::Deferred {
                server,
                until,
                reason,
                uncertain: may_have_arrived,
            },
            Self::Held { reason } => EventKind::Held { reason },
            Self::Split { part, server, to } => EventKind::Split { part, server, to },
            Self::Reported { report, to, kind } => match kind {
                ReportKind::Delayed(_) => EventKind::Warned { report, to },
                ReportKind::Failed | ReportKind::Relayed => EventKind::Reported { report, to },
            },
            Self::Unread { .. } | Self::Rerouted { .. } => return None,
        })
    }
}
