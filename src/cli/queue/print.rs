//! Messages and their stories as text.

use std::fmt::Display;

use crate::base::Timestamp;
use crate::cli::common::{plain, when};
use crate::cli::paint::painted;
use crate::message::Address;
use crate::operator::guide;
use crate::operator::reason::from_now;
use crate::operator::row::Light;
use crate::operator::story::{self, outcome, words};
use crate::spool::filter;
use crate::spool::{Entry, Origin, Record, State, Story, StoryEvent};

/// The number of recipients that a line shows; further ones are only counted.
const SHOWN: usize = 3;

/// The number of characters of a reason that a line shows; `queue show` prints the whole reason.
const REASON: usize = 200;

/// Returns the header of a list of messages; `width` is the length of the longest server name.
pub(super) fn header(width: usize) -> String {
    format!(
        "{:<13}  {:<11}  {:<15}  {:<width$}  FROM -> TO",
        "ID", "ACCEPTED", "STATE", "SERVER"
    )
}

/// Returns a line about a message, and a second one with the reason why it waits.
pub(super) fn line(
    Entry { record, lease }: &Entry,
    reason: Option<&str>,
    width: usize,
    now: Timestamp,
) -> String {
    let state = match record.state {
        _ if lease.is_some() => "active".to_owned(),
        State::Held => "held".to_owned(),
        State::Queued if record.attempts == 0 || record.due <= now => "queued".to_owned(),
        State::Queued => format!("next {}", from_now(record.due, now)),
    };
    let uncertain = if record.uncertain { " uncertain" } else { "" };
    let state = format!("{:<15}", state + uncertain);
    let state = match (record.state, record.last.is_some()) {
        (State::Held, _) => painted(Light::Red, &state),
        (State::Queued, true) => painted(Light::Amber, &state),
        (State::Queued, false) => state,
    };
    let to: Vec<&str> = record
        .envelope
        .recipients
        .iter()
        .map(|r| r.address.as_str())
        .collect();
    let reason = reason.map_or(String::new(), |reason| {
        format!("\n    {}", cut(&plain(reason), REASON))
    });
    format!(
        "{}  {:<11}  {state}  {:<width$}  <{}> -> {}  {} octets{reason}",
        record.id,
        from_now(record.received, now),
        lane(record, "-"),
        record.envelope.sender,
        shown(&to),
        record.size
    )
}

fn shown(to: &[&str]) -> String {
    let first = to[..to.len().min(SHOWN)].join(", ");
    match to.len().saturating_sub(SHOWN) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn lane<'a>(record: &'a Record, none: &'a str) -> &'a str {
    if record.lane.is_empty() {
        none
    } else {
        &record.lane
    }
}

fn row(name: &str, value: impl Display) {
    println!("{name:<12}{}", plain(&value.to_string()));
}

/// Prints everything that is known about a message in the queue, with the reasons why it waits.
pub(super) fn entry(entry: &Entry, story: &Story, reasons: &[String]) {
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
        None if record.due <= Timestamp::now() => row("next try", "as soon as its server takes it"),
        None => row("next try", when(record.due, Timestamp::now())),
    }
    row("attempts", record.attempts);
    row("last", record.last.as_deref().unwrap_or("-"));
    because(reasons);
    more(record, reasons);
    if record.uncertain {
        row(
            "uncertain",
            "an attempt ended before the final reply arrived: the message may already have been delivered",
        );
    }
    events(&story.events);
}

fn because(reasons: &[String]) {
    for (place, reason) in reasons.iter().enumerate() {
        row(if place == 0 { "waits" } else { "" }, reason);
    }
}

/// Prints where the guide explains what went wrong last.
fn more(record: &Record, reasons: &[String]) {
    let mut texts = reasons.iter().chain(&record.last);
    if let Some(place) = texts.find_map(|text| guide::explained(text)) {
        row("more", place);
    }
}

/// Prints a message's whole story, with the reasons why it still waits.
pub(in crate::cli) fn story(story: &Story, reasons: &[String]) {
    origin(story);
    let state = match (story.ended, story.record.state) {
        (Some(ended), _) if story.was_deleted() => {
            format!("deleted {}", when(ended, Timestamp::now()))
        }
        (Some(ended), _) => format!("ended {}", when(ended, Timestamp::now())),
        (None, State::Held) => "in the queue, held".to_owned(),
        (None, State::Queued) => "in the queue".to_owned(),
    };
    row("state", state);
    because(reasons);
    more(&story.record, reasons);
    events(&story.events);
}

/// Returns a line about a story, with the message's outcome for the recipients that match `whose`. If no
/// recipient matches, the outcome is for all recipients.
pub(in crate::cli) fn summary(story: &Story, whose: &str) -> String {
    let record = &story.record;
    let all = story.recipients();
    let theirs = all.iter().filter(|to| filter::is(whose, to.as_str()));
    let theirs: Vec<&Address> = theirs.copied().collect();
    let asked = if theirs.is_empty() { &all } else { &theirs };
    let to: Vec<&str> = all.iter().map(|to| to.as_str()).collect();
    format!(
        "{}  {}  <{}> -> {}  {}",
        record.id,
        record.received,
        record.envelope.sender,
        shown(&to),
        painted(story::light(story, asked), &plain(&outcome(story, asked)))
    )
}

fn origin(story: &Story) {
    let record = &story.record;
    row("id", record.id);
    row("received", when(record.received, Timestamp::now()));
    match &record.origin {
        Origin::Client {
            user,
            listener,
            peer,
            helo,
            protocol,
        } => {
            let there = if listener.is_empty() {
                String::new()
            } else {
                format!(", at {listener}")
            };
            row(
                "by",
                format!("user {user} from {helo} [{peer}], {protocol}{there}"),
            )
        }
        Origin::Digest => row("by", "mailferry, a digest of reports".to_owned()),
        Origin::Report(about) => row("by", format!("mailferry, a report about {about}")),
    }
    row("sender", format!("<{}>", record.envelope.sender));
    for recipient in story.recipients() {
        row("recipient", format!("<{recipient}>"));
    }
    row("size", format!("{} octets", record.size));
}

fn events(events: &[StoryEvent]) {
    for StoryEvent { at, what } in events {
        println!("  {at}  {}", plain(&words(what)));
    }
}
