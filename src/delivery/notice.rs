//! What a sender is told: whether, by which message, and through which server.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::bounce::digest::{self, Line};
use super::bounce::storm::{Storm, Told};
use super::bounce::{self, Failed, Kind, Report};
use super::context::Context;
use crate::base::{MessageId, Timestamp};
use crate::message::{Address, Envelope, Priority};
use crate::observe::maillog;
use crate::spool::{
    Claim, Content, Event, Finish, Lines, New, Origin, Record, SpoolError, State, What,
};

/// The message that a notice is about.
pub(super) struct About<'a> {
    pub(super) claim: Claim,
    pub(super) record: &'a Record,
    /// Its header section.
    pub(super) head: &'a [u8],
    /// All of it, where it is at hand.
    pub(super) whole: Option<Bytes>,
    /// The host that is to answer for it.
    pub(super) upstream: &'a str,
}

/// What every sender was told of late.
#[derive(Default)]
pub(super) struct Notices(Mutex<Storm>);

impl Notices {
    fn storm(&self) -> MutexGuard<'_, Storm> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message leaves; see [`Storm::leaves`].
    pub(super) fn leaves(&self, record: &Record) {
        if record.origin == Origin::Digest {
            self.storm().leaves(record.id);
        }
    }
}

/// What tells a sender.
pub(super) enum Notice {
    /// A message of its own.
    Report(Box<New>),
    /// Lines of a digest.
    Lines(Lines),
}

impl Notice {
    /// Has it put with the fate of the message that it is about.
    pub(super) fn add_to(self, finish: &mut Finish) {
        match self {
            Self::Report(report) => finish.reports.push(*report),
            Self::Lines(lines) => finish.lines.push(lines),
        }
    }
}

/// Who can be told about a message.
pub(super) fn sender(record: &Record) -> Option<&Address> {
    match record.origin {
        Origin::Client { .. } => record.envelope.sender.address(),
        // A report is never reported.
        Origin::Report(_) | Origin::Digest => None,
    }
}

/// Octets of a server's words in one line of a digest.
const WORDS: usize = 400;

/// Tells the sender of these recipients; gives what does and the event, or none if nobody can be told.
pub(super) fn notice(
    context: &Context,
    about: &About,
    kind: Kind,
    told_of: &[Failed],
) -> Option<(Notice, Event)> {
    let to = sender(about.record)?;
    let works = |server: &str| context.works(server);
    let (route, from) = context.settings.policy.report_route(works)?;
    let now = context.clock.now();
    let new = context.spool.next_id(now);
    let most = context.settings.reports_per_hour;
    let told = context
        .notices
        .storm()
        .tell(to, most, told_of.len(), new, now);
    let (id, notice) = match told {
        Told::TooMany => return None,
        Told::Report => {
            let content = report(context, about, kind, told_of, to, &from, new).content();
            let record = Record {
                size: content.len() as u64,
                ..ours(
                    new,
                    Origin::Report(about.record.id),
                    bounce::envelope(to, &content),
                    route.server,
                    now,
                )
            };
            let content = Content::Memory(content.into());
            (new, Notice::Report(Box::new(New { record, content })))
        }
        Told::Digest(digest) => {
            let lines = told_of
                .iter()
                .map(|failed| line(context, about, failed, kind));
            let lines: Vec<String> = lines.collect();
            // Whether it is ASCII is not known before it is written.
            let envelope = bounce::envelope(to, "\u{80}".as_bytes());
            let record = Record {
                due: digest.due,
                ..ours(digest.id, Origin::Digest, envelope, route.server, now)
            };
            let digest = Box::new(record);
            (digest.id, Notice::Lines(Lines { digest, lines }))
        }
    };
    maillog::reported(about.record.id, id, to, kind.action());
    let (report, to) = (id, to.clone());
    let what = match kind {
        Kind::Delayed(_) => What::Warned { report, to },
        Kind::Failed | Kind::Relayed => What::Reported { report, to },
    };
    Some((notice, Event { at: now, what }))
}

/// A message of ours, due at once.
fn ours(id: MessageId, origin: Origin, envelope: Envelope, lane: String, now: Timestamp) -> Record {
    Record {
        id,
        received: now,
        origin,
        envelope,
        size: 0,
        sum: None,
        lane,
        priority: Priority::Normal,
        state: State::Queued,
        due: now,
        attempts: 0,
        last: None,
        uncertain: false,
        warned: false,
        holds: 0,
        former_lane: None,
    }
}

fn report<'a>(
    context: &'a Context,
    about: &'a About,
    kind: Kind,
    told_of: &'a [Failed],
    to: &'a Address,
    from: &'a Address,
    id: MessageId,
) -> Report<'a> {
    let record = about.record;
    let wants_whole = kind == Kind::Failed && bounce::wants_whole(&record.envelope.parameters);
    Report {
        kind,
        about: record.id,
        received: context.clock.shown(record.received),
        parameters: &record.envelope.parameters,
        head: about.head,
        whole: about.whole.as_deref().filter(|_| wants_whole),
        failed: told_of,
        upstream: about.upstream,
        host: &context.settings.host,
        from,
        to,
        id,
        now: context.clock.wall(),
    }
}

fn line(context: &Context, about: &About, failed: &Failed, kind: Kind) -> String {
    let host = &context.settings.host;
    let said = failed.said(about.upstream, host, WORDS);
    let line = Line {
        about: about.record.id,
        received: context.clock.shown(about.record.received),
        recipient: &failed.recipient.address,
        said: match kind {
            Kind::Failed => format!("Could not be delivered; {said}"),
            Kind::Delayed(_) => format!("Not delivered yet; {said}"),
            Kind::Relayed => {
                format!("Passed on to a server that does not confirm delivery; {said}")
            }
        },
        host,
    };
    line.to_string()
}

/// A digest as a message, with the number of its last line: it is written when it is sent.
pub(super) async fn digest(
    context: &Context,
    record: &Record,
) -> Result<(Content, u64), SpoolError> {
    let lines = context.spool.lines(record.id).await?;
    let last = lines.last().map_or(0, |(number, _)| *number);
    let lines: Vec<String> = lines.into_iter().map(|(_, line)| line).collect();
    let route = context
        .settings
        .policy
        .report_route(|server| context.works(server));
    let Some(to) = record.envelope.recipients.first() else {
        return Ok((Content::Memory(Bytes::new()), last));
    };
    // Without a route it is not sent.
    let from = route.map_or_else(|| to.address.clone(), |(_, from)| from);
    // Another message by another name, if some of its lines have gone before.
    let name = format!("{}.{last}", record.id);
    let (host, now) = (&context.settings.host, context.clock.wall());
    let content = digest::content(&from, &to.address, &name, host, now, &lines);
    Ok((Content::Memory(content.into()), last))
}
