//! Reports to a sender: decides whether to send a report, whether to send it separately or in a digest, and
//! through which server.

use bytes::Bytes;

use super::bounce::digest::{self, DigestLine};
use super::bounce::storm::{SENDERS, Told};
use super::bounce::{self, Failed, Report, ReportKind};
use super::fact::{self, Fact};
use super::plan::Plan;
use super::settle::{Settled, untold};
use super::world::World;
use crate::base::{MessageId, Timestamp};
use crate::message::{Address, Envelope};
use crate::spool::{Claim, Content, DigestLines, Finish, NewMessage, Origin, Record, SpoolError};

/// The message that a notice is about.
pub(super) struct About<'a> {
    pub(super) record: &'a Record,
    /// The message's header section.
    pub(super) head: &'a [u8],
    /// The whole message, if it is in memory.
    pub(super) whole: Option<Bytes>,
    /// The host that is named as the source of the reply.
    pub(super) upstream: &'a str,
    /// This host.
    pub(super) host: &'a str,
}

/// The form in which a report reaches a sender.
pub(super) enum Notice {
    /// A separate message.
    Report(Box<NewMessage>),
    /// Lines of a digest.
    Lines(DigestLines),
}

impl Notice {
    /// Adds the notice to the reports and lines that are written together with the fate of its message.
    pub(super) fn add_to(self, reports: &mut Vec<NewMessage>, lines: &mut Vec<DigestLines>) {
        match self {
            Self::Report(report) => reports.push(*report),
            Self::Lines(new) => lines.push(new),
        }
    }
}

/// Returns the address that can receive reports about a message, if there is one.
pub(super) fn sender(record: &Record) -> Option<&Address> {
    match record.origin {
        Origin::Client { .. } => record.envelope.sender.address(),
        // No report is ever sent about a report.
        Origin::Report(_) | Origin::Digest => None,
    }
}

/// Maximum octets of a server's text in one line of a digest.
const WORDS: usize = 400;

/// Prepares the notice that tells the sender about these recipients. Returns the notice and the fact, or
/// `None` if no notice can be sent.
pub(super) fn notice(
    world: &World,
    plan: &Plan,
    about: &About,
    kind: ReportKind,
    told_of: &[Failed],
) -> Option<(Notice, Fact)> {
    let to = sender(about.record)?;
    let (route, from) = plan.report_route()?;
    let now = world.clock.now();
    let new = world.spool.next_id(now);
    let most = plan.settings.options.reports_per_hour;
    let (report, notice) = match world.storms.tell(to, most, told_of.len(), new, now) {
        Told::TooMany => return None,
        Told::Report => {
            let written = written(world, about, kind, told_of, to, &from, new);
            let content = written.content();
            let envelope = bounce::envelope(to, &content);
            let origin = Origin::Report(about.record.id);
            let record = Record {
                size: content.len() as u64,
                ..ours(new, origin, envelope, route.server, now)
            };
            let content = Content::Memory(content.into());
            (
                new,
                Notice::Report(Box::new(NewMessage { record, content })),
            )
        }
        Told::Digest(digest) => {
            let lines = told_of
                .iter()
                .map(|failed| line(world, about, failed, kind));
            let lines: Vec<String> = lines.collect();
            // The digest is written later and may contain non-ASCII text, so its envelope announces 8-bit
            // content.
            let envelope = bounce::envelope(to, "\u{80}".as_bytes());
            let record = Record {
                due: digest.due,
                ..ours(digest.id, Origin::Digest, envelope, route.server, now)
            };
            let digest_record = Box::new(record);
            let lines = DigestLines {
                digest: digest_record,
                lines,
            };
            (digest.id, Notice::Lines(lines))
        }
    };
    let to = to.clone();
    Some((notice, Fact::Reported { report, to, kind }))
}

/// Publishes the decision about a message in the log and in the message's story, and prepares the reports
/// that the sender should receive. Returns the fate to write.
pub(super) fn conclude(
    world: &World,
    plan: &Plan,
    claim: Claim,
    about: &About,
    server: &str,
    mut settled: Settled,
) -> Finish {
    let mut notices = Vec::new();
    let wanted = |failed: &Failed| ReportKind::Failed.is_wanted(&failed.recipient);
    let failed: Vec<Failed> = settled.failed.drain(..).filter(wanted).collect();
    let relayed = std::mem::take(&mut settled.relayed);
    for (kind, told_of) in [(ReportKind::Relayed, relayed), (ReportKind::Failed, failed)] {
        if told_of.is_empty() {
            continue;
        }
        match notice(world, plan, about, kind, &told_of) {
            Some((notice, fact)) => {
                notices.push(notice);
                settled.facts.push(fact);
            }
            None if kind == ReportKind::Failed => {
                untold(&mut settled, told_of, &why_untold(about.record));
            }
            None => {}
        }
    }
    let mut finish = Finish::new(claim, settled.fate);
    finish.events = fact::tell(settled.facts, about.record.id, server, &world.clock);
    notices
        .into_iter()
        .for_each(|notice| notice.add_to(&mut finish.reports, &mut finish.lines));
    finish
}

pub(super) fn why_untold(record: &Record) -> String {
    match sender(record) {
        Some(to) => format!(
            "no report can be sent to {to}: no server can send reports, or {SENDERS} other senders received reports within the last hour"
        ),
        None => "the message has no sender".to_owned(),
    }
}

/// Returns the record of a message from this program that is due at once.
fn ours(id: MessageId, origin: Origin, envelope: Envelope, lane: String, now: Timestamp) -> Record {
    Record {
        lane,
        ..Record::new(id, now, origin, envelope)
    }
}

fn written<'a>(
    world: &'a World,
    about: &'a About,
    kind: ReportKind,
    told_of: &'a [Failed],
    to: &'a Address,
    from: &'a Address,
    id: MessageId,
) -> Report<'a> {
    let record = about.record;
    let wants_whole =
        kind == ReportKind::Failed && bounce::wants_whole(&record.envelope.parameters);
    Report {
        kind,
        about: record.id,
        received: world.clock.shown(record.received),
        parameters: &record.envelope.parameters,
        head: about.head,
        whole: about.whole.as_deref().filter(|_| wants_whole),
        failed: told_of,
        upstream: about.upstream,
        host: about.host,
        from,
        to,
        id,
        now: world.clock.wall(),
    }
}

fn line(world: &World, about: &About, failed: &Failed, kind: ReportKind) -> String {
    let host = about.host;
    let said = failed.said(about.upstream, host, WORDS);
    let line = DigestLine {
        about: about.record.id,
        received: world.clock.shown(about.record.received),
        recipient: &failed.recipient.address,
        said: match kind {
            ReportKind::Failed => format!("Could not be delivered; {said}"),
            ReportKind::Delayed(_) => format!("Not delivered yet; {said}"),
            ReportKind::Relayed => {
                format!("Passed on to a server that does not confirm delivery; {said}")
            }
        },
        host,
    };
    line.to_string()
}

/// Writes a digest, just before it is sent. Returns it as a message, with the number of its last line.
pub(super) async fn digest(
    world: &World,
    plan: &Plan,
    record: &Record,
) -> Result<(Content, u64), SpoolError> {
    let lines = world.spool.lines(record.id).await?;
    let last = lines.last().map_or(0, |(number, _)| *number);
    let lines: Vec<String> = lines.into_iter().map(|(_, line)| line).collect();
    let Some(to) = record.envelope.recipients.first() else {
        return Ok((Content::Memory(Bytes::new()), last));
    };
    // Without a route the digest is not sent, so any address will do.
    let route = plan.report_route();
    let from = route.map_or_else(|| to.address.clone(), |(_, from)| from);
    // If some lines were sent earlier, this is a different message and needs a different Message-ID.
    let name = format!("{}.{last}", record.id);
    let (host, now) = (&plan.settings.host, world.clock.wall());
    let content = digest::content(&from, &to.address, &name, host, now, &lines);
    Ok((Content::Memory(content.into()), last))
}
