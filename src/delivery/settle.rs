//! After an attempt: the message's fate, the log of it, and the report that goes with it.

use super::attempt::{Ended, held};
use super::bounce::{self, Failed, Report};
use super::lane::Lane;
use super::outcome::Verdict;
use super::trouble::Word;
use crate::message::Address;
use crate::observe::maillog;
use crate::session::Reply;
use crate::spool::{Content, Fate, New, Origin, Record, State};

/// Turns a verdict into the message's fate, and a report where one is due. `reason` says why some are
/// to be tried again where no reply does.
pub(super) fn settle(
    lane: &Lane,
    mut record: Record,
    verdict: Verdict,
    reason: Option<String>,
    head: &[u8],
    word: Word,
) -> Ended {
    let server = lane.server.name.as_str();
    let now = lane.context.clock.now();
    let all = std::mem::take(&mut record.envelope.recipients);
    let at = |places: &[usize]| {
        places
            .iter()
            .map(|&place| all[place].clone())
            .collect::<Vec<_>>()
    };
    if let Some(answer) = &verdict.accepted {
        let to: Vec<&Address> = verdict
            .delivered
            .iter()
            .map(|&place| &all[place].address)
            .collect();
        maillog::delivered(
            record.id,
            server,
            &to,
            &answer.to_string(),
            now.since(record.received),
        );
    }
    // What goes on at once, and what was not the message's fault, is no failed attempt.
    let is_counted = verdict.is_counted() && verdict.next.is_empty();
    let by_upstream = |(place, reply): (usize, Reply)| Failed {
        recipient: all[place].clone(),
        reply,
        by_upstream: true,
    };
    let mut failed: Vec<Failed> = verdict.failed.into_iter().map(by_upstream).collect();
    record.attempts += u32::from(is_counted);
    let not_now = || verdict.not_now.as_ref().map(Reply::to_string);
    let last = reason.or_else(not_now).unwrap_or_default();
    let schedule = &lane.context.settings.schedule;
    let next = match is_counted {
        true => schedule.next(record.received, record.attempts, now, rand::random()),
        false => Some(now),
    };
    let waiting = at(&[verdict.deferred, verdict.next].concat());
    let fate = match next {
        _ if waiting.is_empty() => Fate::Gone,
        Some(due) => {
            if is_counted {
                maillog::deferred(
                    record.id,
                    server,
                    due,
                    record.attempts,
                    &last,
                    record.uncertain,
                );
            }
            let mut later = record.clone();
            later.envelope.recipients = waiting;
            later.due = due;
            later.last = Some(last).filter(|last| !last.is_empty()).or(later.last);
            later.lane = server.to_owned();
            Fate::Later(Box::new(later))
        }
        None => {
            let reply = Reply::new(
                554,
                "5.4.7",
                format!(
                    "Given up after {} attempts; the last ended with: {last}",
                    record.attempts
                ),
            );
            failed.extend(waiting.into_iter().map(|recipient| Failed {
                recipient,
                reply: reply.clone(),
                by_upstream: false,
            }));
            Fate::Gone
        }
    };
    failed
        .iter()
        .for_each(|f| maillog::failed(record.id, server, &f.recipient.address, &f.reply));
    failed_fate(lane, record, fate, failed, head, word)
}

/// Reports what failed; what nobody can be told of is held, so that it does not vanish.
fn failed_fate(
    lane: &Lane,
    mut record: Record,
    fate: Fate,
    failed: Vec<Failed>,
    head: &[u8],
    word: Word,
) -> Ended {
    let now = lane.context.clock.now();
    let id = record.id;
    let wanted: Vec<Failed> = failed
        .into_iter()
        .filter(|f| bounce::is_wanted(&f.recipient))
        .collect();
    if wanted.is_empty() {
        return Ended::with(id, fate, None, word);
    }
    let context = &lane.context;
    match (
        record.envelope.sender.address().cloned(),
        context.settings.policy.report_route(),
    ) {
        (Some(to), Some((route, from))) => {
            let report = Report {
                about: id,
                received: record.received,
                parameters: &record.envelope.parameters,
                head,
                failed: &wanted,
                upstream: &lane.server.upstream.host,
                host: &context.settings.host,
                from: &from,
                to: &to,
                id: context.spool.next_id(now),
                now,
            };
            let content = report.content();
            maillog::reported(id, report.id, &to);
            let record = Record {
                id: report.id,
                received: now,
                origin: Origin::Report(id),
                envelope: report.envelope(),
                size: content.len() as u64,
                lane: route.server,
                state: State::Queued,
                due: now,
                attempts: 0,
                last: None,
                uncertain: false,
            };
            let content = Content::Memory(content.into());
            Ended::with(id, fate, Some(New { record, content }), word)
        }
        _ => match fate {
            // Some recipients are still to be tried: the failed ones stay with them, to be judged again.
            Fate::Later(mut later) => {
                later
                    .envelope
                    .recipients
                    .extend(wanted.into_iter().map(|f| f.recipient));
                Ended::with(id, Fate::Later(later), None, word)
            }
            _ => {
                let reply = wanted[0].reply.to_string();
                record.envelope.recipients = wanted.into_iter().map(|f| f.recipient).collect();
                held(
                    record,
                    format!("failed, and it has no sender to be told: {reply}"),
                    word,
                )
            }
        },
    }
}
