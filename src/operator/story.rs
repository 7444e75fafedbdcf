//! The story of a message in words, for the commands and for the page. Pure.

use super::row::Light;
use crate::base::MessageId;
use crate::message::Address;
use crate::spool::{EventKind, Record, Story};

/// Returns the event that decided about a recipient: the last delivery, bounce or failure.
pub(crate) fn decided<'a>(story: &'a Story, to: &Address) -> Option<&'a EventKind> {
    let mut events = story.events.iter().rev().map(|event| &event.what);
    events.find(|what| match what {
        EventKind::Delivered { to: all, .. }
        | EventKind::Bounced { to: all, .. }
        | EventKind::Failed { to: all, .. } => all.contains(to),
        _ => false,
    })
}

/// Returns the ids of the parts into which a message was split.
pub(crate) fn parts(story: &Story) -> Vec<MessageId> {
    let parts = story.events.iter().filter_map(|event| match event.what {
        EventKind::Split { part, .. } => Some(part),
        _ => None,
    });
    parts.collect()
}

/// Returns the story of a message together with that of one of its parts. It goes on as long as the message or the
/// part is in the queue.
pub(crate) fn joined(mut whole: Story, part: Story) -> Story {
    let mut waiting = std::mem::take(&mut whole.record.envelope.recipients);
    waiting.extend(part.record.envelope.recipients.iter().cloned());
    if whole.ended.is_some() && part.ended.is_none() {
        whole.record = Record {
            id: whole.record.id,
            ..part.record
        };
    }
    whole.record.envelope.recipients = waiting;
    whole.ended = whole
        .ended
        .zip(part.ended)
        .map(|(one, other)| one.max(other));
    whole.events.extend(part.events);
    whole.events.sort_by_key(|event| event.at);
    whole
}

/// Describes the outcome of a message for these recipients.
pub(crate) fn outcome(story: &Story, asked: &[&Address]) -> String {
    let fates: Vec<Option<&EventKind>> = asked.iter().map(|to| decided(story, to)).collect();
    if let [fate] = fates[..] {
        let last = fate.or(story.events.last().map(|event| &event.what));
        return last.map_or("queued".to_owned(), words);
    }
    let is_delivered =
        |fate: &&Option<&EventKind>| matches!(fate, Some(EventKind::Delivered { .. }));
    let is_bounced = |fate: &&Option<&EventKind>| matches!(fate, Some(EventKind::Bounced { .. }));
    let delivered = fates.iter().filter(is_delivered).count();
    let bounced = fates.iter().filter(is_bounced).count();
    let failed = fates.iter().flatten().count() - delivered - bounced;
    let waiting = fates.len() - delivered - bounced - failed;
    let counts = [
        (delivered, "delivered"),
        (bounced, "bounced"),
        (failed, "failed"),
        (
            waiting,
            if story.ended.is_some() {
                "given up"
            } else {
                "waiting"
            },
        ),
    ];
    let counts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    counts.join(", ")
}

/// Returns the outcome of a message for these recipients at a glance: red if the message failed for one of them.
pub(crate) fn light(story: &Story, asked: &[&Address]) -> Light {
    let fates = asked.iter().map(|to| decided(story, to));
    let is_bad = |fate: Option<&EventKind>| match fate {
        Some(EventKind::Failed { .. } | EventKind::Bounced { .. }) => true,
        _ => story.was_refused(),
    };
    match story.ended {
        _ if fates.clone().any(is_bad) => Light::Red,
        Some(_) if !story.was_deleted() => Light::Green,
        _ => Light::Amber,
    }
}

/// Describes the outcome of a message for these recipients in a few words.
pub(crate) fn brief(story: &Story, asked: &[&Address]) -> String {
    let [to] = asked else {
        return outcome(story, asked);
    };
    let last = || story.events.last().map(|event| &event.what);
    match decided(story, to).or_else(last) {
        _ if story.was_deleted() => "deleted by an operator".to_owned(),
        None => "waits".to_owned(),
        Some(EventKind::Delivered { server, .. }) => format!("delivered by {server}"),
        Some(EventKind::Failed { reply, .. }) => format!("failed: {reply}"),
        Some(EventKind::Bounced { reply, .. }) => format!("bounced: {reply}"),
        Some(EventKind::Refused { reply }) => format!("refused: {reply}"),
        Some(EventKind::Deferred { reason, .. }) => format!("waits: {reason}"),
        Some(other) => words(other),
    }
}

/// Describes an event of a story.
pub(crate) fn words(what: &EventKind) -> String {
    let list = |to: &[Address]| {
        let all: Vec<&str> = to.iter().map(|address| address.as_str()).collect();
        all.join(", ")
    };
    match what {
        EventKind::Delivered {
            server,
            to,
            reply,
            message_id,
            sent_as,
        } => {
            let to = list(to);
            let sent_as = sent_as.as_ref().map(|sender| format!(" as {sender}"));
            let sent_as = sent_as.unwrap_or_default();
            format!("delivered by {server}{sent_as} to {to}: {reply}; Message-ID {message_id}")
        }
        EventKind::Bounced {
            server, to, reply, ..
        } => {
            let to = list(to);
            format!("bounced: {server} accepted it, but it did not reach {to}: {reply}")
        }
        EventKind::Failed { server, to, reply } => {
            format!("failed at {server} for {}: {reply}", list(to))
        }
        EventKind::Deferred {
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
        EventKind::Split { part, server, to } => {
            format!("to {}: through {server}, as {part}", list(to))
        }
        EventKind::Refused { reply } => format!("refused: {reply}"),
        EventKind::Held { reason } => format!("held: {reason}"),
        EventKind::Reported { report, to } => format!("reported to {to} by {report}"),
        EventKind::Warned { report, to } => format!("delay notice {report} sent to {to}"),
        EventKind::Retried => "retry requested by an operator".to_owned(),
        EventKind::Deleted => "deleted by an operator".to_owned(),
    }
}
