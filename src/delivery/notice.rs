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
use crate::spool::{Claim, Content, Event, New, Origin, Record, State, What};

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

    /// Whether this message may leave; see [`Storm::leaves`].
    pub(super) fn leaves(&self, record: &Record) -> bool {
        let is_report = matches!(record.origin, Origin::Report(_));
        !is_report || self.storm().leaves(record.id, record.size)
    }
}

/// Who can be told about a message.
pub(super) fn sender(record: &Record) -> Option<&Address> {
    match record.origin {
        Origin::Client { .. } => record.envelope.sender.address(),
        // A report is never reported.
        Origin::Report(_) => None,
    }
}

/// Octets of a server's words in one line of a digest.
const WORDS: usize = 400;

/// Tells the sender of these recipients; gives the message that does and the event, or none where
/// nobody can be told.
pub(super) fn notice(
    context: &Context,
    about: &About,
    kind: Kind,
    told_of: &[Failed],
) -> Option<(New, Event)> {
    let to = sender(about.record)?;
    let works = |server: &str| context.works(server);
    let (route, from) = context.settings.policy.report_route(works)?;
    let written = written(context, about, kind, told_of, to, &from)?;
    let id = written.id;
    maillog::reported(about.record.id, id, to, kind.action());
    let (report, to) = (id, to.clone());
    let now = context.clock.now();
    let event = Event {
        at: now,
        what: match kind {
            Kind::Delayed(_) => What::Warned { report, to },
            Kind::Failed | Kind::Relayed => What::Reported { report, to },
        },
    };
    let record = Record {
        id,
        received: now,
        origin: Origin::Report(about.record.id),
        envelope: written.envelope,
        size: written.content.len() as u64,
        sum: None,
        lane: route.server,
        priority: Priority::Normal,
        state: State::Queued,
        due: written.due,
        attempts: 0,
        last: None,
        uncertain: false,
        warned: false,
        holds: 0,
        former_lane: None,
    };
    let content = Content::Memory(written.content.into());
    Some((New { record, content }, event))
}

struct Written {
    id: MessageId,
    due: Timestamp,
    envelope: Envelope,
    content: Vec<u8>,
}

/// A report, or where there were many of late a digest that tells of this as well.
fn written(
    context: &Context,
    about: &About,
    kind: Kind,
    told_of: &[Failed],
    to: &Address,
    from: &Address,
) -> Option<Written> {
    let now = context.clock.now();
    let host = &context.settings.host;
    let id = context.spool.next_id(now);
    let mut storm = context.notices.storm();
    let lines = told_of
        .iter()
        .map(|failed| line(context, about, failed, kind));
    let most = context.settings.reports_per_hour;
    match storm.tell(to, most, lines.collect(), id, now) {
        Told::Report => (),
        Told::TooMany => return None,
        Told::Digest(told) => {
            let shown = context.clock.shown(now);
            let content = digest::content(from, to, told.id, host, shown, &told.lines);
            told.size = content.len() as u64;
            return Some(Written {
                id: told.id,
                due: told.due,
                envelope: bounce::envelope(to, &content),
                content,
            });
        }
    }
    let record = about.record;
    let wants_whole = kind == Kind::Failed && bounce::wants_whole(&record.envelope.parameters);
    let report = Report {
        kind,
        about: record.id,
        received: context.clock.shown(record.received),
        parameters: &record.envelope.parameters,
        head: about.head,
        whole: about.whole.as_deref().filter(|_| wants_whole),
        failed: told_of,
        upstream: about.upstream,
        host,
        from,
        to,
        id,
        now: context.clock.shown(now),
    };
    let content = report.content();
    Some(Written {
        id,
        due: now,
        envelope: bounce::envelope(to, &content),
        content,
    })
}

fn line(context: &Context, about: &About, failed: &Failed, kind: Kind) -> Line {
    let host = &context.settings.host;
    let said = failed.said(about.upstream, host, WORDS);
    Line {
        about: about.record.id,
        received: context.clock.shown(about.record.received),
        recipient: failed.recipient.address.clone(),
        said: match kind {
            Kind::Failed => format!("Could not be delivered; {said}"),
            Kind::Delayed(_) => format!("Not delivered yet; {said}"),
            Kind::Relayed => {
                format!("Passed on to a server that does not confirm delivery; {said}")
            }
        },
    }
}
