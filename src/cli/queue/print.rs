//! Messages and their stories in words.

use std::fmt::Display;

use crate::cli::plain;
use crate::spool::filter;
use crate::spool::{Entry, Event, Origin, Record, State, Story, What};

/// A message in a line.
pub(super) fn line(Entry { record, lease }: &Entry) -> String {
    let state = match record.state {
        _ if lease.is_some() => "active".to_owned(),
        State::Held => "held".to_owned(),
        State::Queued if record.attempts == 0 => "new".to_owned(),
        State::Queued => format!("next {}", record.due),
    };
    let uncertain = if record.uncertain { " uncertain" } else { "" };
    let to: Vec<&str> = record
        .envelope
        .recipients
        .iter()
        .map(|r| r.address.as_str())
        .collect();
    format!(
        "{}  {}  {state}{uncertain}  {}  <{}> -> {}  {} octets",
        record.id,
        record.received,
        lane(record, "-"),
        record.envelope.sender,
        to.join(", "),
        record.size
    )
}

fn lane<'a>(record: &'a Record, none: &'a str) -> &'a str {
    match record.lane.is_empty() {
        true => none,
        false => &record.lane,
    }
}

fn row(name: &str, value: impl Display) {
    println!("{name:<12}{}", plain(&value.to_string()));
}

/// All that is known of a message in the queue.
pub(super) fn entry(entry: &Entry, story: &Story) {
    let Entry { record, lease } = entry;
    origin(story);
    row("server", lane(record, "to be routed"));
    let state = match record.state {
        State::Held => "held",
        State::Queued => "queued",
    };
    row("state", state);
    let priority = format!("{:?}", record.priority).to_lowercase();
    row("priority", priority);
    match lease {
        Some(lease) => row("active", format!("{} until {}", lease.owner, lease.until)),
        None if record.state == State::Held => row("next try", "when it is released"),
        None => row("next try", record.due),
    }
    row("attempts", record.attempts);
    row("last", record.last.as_deref().unwrap_or("-"));
    if record.uncertain {
        row(
            "uncertain",
            "the connection was lost when it may have arrived already",
        );
    }
    events(&story.events);
}

/// A message's whole story.
pub(in crate::cli) fn story(story: &Story) {
    origin(story);
    let state = match (story.ended, story.record.state) {
        (Some(ended), _) => format!("ended {ended}"),
        (None, State::Held) => "in the queue, held".to_owned(),
        (None, State::Queued) => "in the queue".to_owned(),
    };
    row("state", state);
    events(&story.events);
}

/// A story in a line: what became of it last for whom it is about, or at all.
pub(in crate::cli) fn summary(story: &Story, whose: &str) -> String {
    let record = &story.record;
    let is_theirs = |event: &&Event| match &event.what {
        What::Delivered { to, .. } | What::Failed { to, .. } => {
            to.iter().any(|to| filter::is(whose, to.as_str()))
        }
        _ => false,
    };
    let theirs = story.events.iter().rev().find(is_theirs);
    let last = theirs.or(story.events.last());
    let last = last.map_or("queued".to_owned(), |event| words(&event.what));
    let to: Vec<&str> = story.recipients().iter().map(|to| to.as_str()).collect();
    format!(
        "{}  {}  <{}> -> {}  {}",
        record.id,
        record.received,
        record.envelope.sender,
        to.join(", "),
        plain(&last)
    )
}

fn origin(story: &Story) {
    let record = &story.record;
    row("id", record.id);
    row("received", record.received);
    match &record.origin {
        Origin::Client {
            user,
            listener,
            peer,
            helo,
            protocol,
        } => {
            let there = match listener.is_empty() {
                true => String::new(),
                false => format!(", at {listener}"),
            };
            row(
                "by",
                format!("user {user} from {helo} [{peer}], {protocol}{there}"),
            )
        }
        Origin::Report(about) => row("by", format!("mailferry, a report about {about}")),
    }
    row("sender", format!("<{}>", record.envelope.sender));
    for recipient in story.recipients() {
        row("recipient", format!("<{recipient}>"));
    }
    row("size", format!("{} octets", record.size));
}

fn events(events: &[Event]) {
    for Event { at, what } in events {
        println!("  {at}  {}", plain(&words(what)));
    }
}

fn words(what: &What) -> String {
    let list = |to: &[crate::message::Address]| {
        let all: Vec<&str> = to.iter().map(|address| address.as_str()).collect();
        all.join(", ")
    };
    match what {
        What::Delivered {
            server,
            to,
            reply,
            message_id,
        } => {
            let to = list(to);
            format!("delivered by {server} to {to}: {reply}; Message-ID {message_id}")
        }
        What::Failed { server, to, reply } => {
            format!("failed at {server} for {}: {reply}", list(to))
        }
        What::Deferred {
            server,
            until,
            reason,
            uncertain,
        } => {
            let uncertain = if *uncertain {
                " (it may have arrived)"
            } else {
                ""
            };
            format!("deferred by {server} until {until}{uncertain}: {reason}")
        }
        What::Held { reason } => format!("held: {reason}"),
        What::Reported { report, to } => format!("reported to {to} by {report}"),
        What::Warned { report, to } => format!("{to} told that it is late, by {report}"),
        What::Retried => "to be tried at once, by hand".to_owned(),
        What::Deleted => "deleted by hand".to_owned(),
    }
}
