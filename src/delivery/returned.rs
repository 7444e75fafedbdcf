//! A bounce: a server had accepted a message, and a report in the mailbox says that it did not reach a recipient.
//! The report is matched with the message's story.

use std::collections::BTreeMap;
use std::time::Duration;

use super::bounce::{Failed, ReportKind};
use super::fact::{self, Fact};
use super::plan::Plan;
use super::report::{About, notice, why_untold};
use super::world::World;
use crate::base::{Clock, Timestamp};
use crate::message::{Address, BouncedRecipient, DeliveryReport, Parameters, Recipient};
use crate::observe::maillog;
use crate::spool::{Addition, EventKind, SpoolError, Story, StoryFilter};
use crate::transport::smtp::reported;

/// The maximum number of stories that a report is compared with.
const STORIES: usize = 100;

/// The maximum difference between the time at which we sent a message, and the time at which the reporting
/// host received it, if the report does not name the message. Clocks differ, and hosts queue.
const SAME_TIME: Duration = Duration::from_secs(600);

/// The result of recording a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returned {
    /// The story of the message now says that the message bounced.
    Recorded,
    /// The bounce was already recorded from this report.
    Known,
    /// The bounce was already recorded from another report. This report may be about another
    /// message, with the same Message-ID, whose story is not written yet.
    KnownFromAnother,
    /// The bounce was recorded, but the app's sender could not be notified; the log says why.
    SenderNotNotified,
    /// This program wrote the report.
    Own,
    /// The report matches no message in the history.
    NotOurs,
}

/// A recipient for whom a server accepted a message.
struct Accepted<'a> {
    to: &'a Address,
    server: &'a str,
    /// The envelope sender in place of the app's, if it was rewritten.
    sent_as: Option<&'a Address>,
    at: Timestamp,
}

/// A recipient that a report and a story have in common.
struct Match<'a> {
    accepted: Accepted<'a>,
    /// What the report states about the recipient.
    said: &'a BouncedRecipient,
}

/// Records what a report says in the story of its message. If the app's envelope sender had been rewritten,
/// the server's report did not reach it, so mailferry sends it a report. `is_last_search` is true on the last
/// attempt, when the stories of all messages that were sent before the report have been written.
pub(super) async fn record(
    world: &World,
    report: &DeliveryReport,
    is_last_search: bool,
) -> Result<Returned, SpoolError> {
    let plan = world.plan();
    if is_own(report, &plan.settings.host) {
        return Ok(Returned::Own);
    }
    // Two mailboxes may receive the same report.
    let _one_at_a_time = world.returning.lock().await;
    let Some(story) = find(world, report, is_last_search).await? else {
        return Ok(Returned::NotOurs);
    };
    let is_new = |found: &Match| !is_bounced(&story, found.accepted.to);
    let new: Vec<Match> = matches(&story, report).into_iter().filter(is_new).collect();
    let Some(first) = new.first() else {
        return Ok(match is_recorded(&story, report) {
            true => Returned::Known,
            false => Returned::KnownFromAnother,
        });
    };
    let mut addition = Addition {
        id: story.record.id,
        events: Vec::new(),
        reports: Vec::new(),
        lines: Vec::new(),
    };
    let (mut facts, mut untold) = (Vec::new(), false);
    let mut to_report: BTreeMap<String, Vec<Failed>> = BTreeMap::new();
    for found in &new {
        let failed = failed(&plan, &story, found);
        facts.push(Fact::Bounced {
            to: failed.recipient.address.clone(),
            answer: failed.answer.clone(),
            remedy: failed.remedy.clone(),
            report: report.message_id.clone(),
        });
        if found.accepted.sent_as.is_some() && ReportKind::Failed.is_wanted(&failed.recipient) {
            let host = host(&plan, report, found);
            to_report.entry(host).or_default().push(failed);
        }
    }
    for (host, failed) in &to_report {
        let about = About {
            record: &story.record,
            head: &report.head,
            whole: None,
            upstream: host,
            host: &plan.settings.host,
        };
        match notice(world, &plan, &about, ReportKind::Failed, failed) {
            Some((notice, fact)) => {
                notice.add_to(&mut addition.reports, &mut addition.lines);
                facts.push(fact);
            }
            None => untold = true,
        }
    }
    let server = first.accepted.server;
    addition.events = fact::events(facts.clone(), server, world.clock.now());
    if !world.spool.extend_story(addition).await? {
        return Ok(Returned::NotOurs);
    }
    fact::tell(facts, story.record.id, server, &world.clock);
    if untold {
        maillog::bounce_not_reported(story.record.id, server, &why_untold(&story.record));
        return Ok(Returned::SenderNotNotified);
    }
    Ok(Returned::Recorded)
}

/// True if mailferry wrote the report: that failure is already recorded.
fn is_own(report: &DeliveryReport, host: &str) -> bool {
    report.reporter.eq_ignore_ascii_case(host) && report.message_id.ends_with(&format!("@{host}>"))
}

/// Returns the host that rejected the recipient.
fn host(plan: &Plan, report: &DeliveryReport, found: &Match) -> String {
    let remote = found.said.remote.clone();
    let reporter = Some(report.reporter.clone()).filter(|host| !host.is_empty());
    let server = || plan.host_of(found.accepted.server).to_owned();
    remote.or(reporter).unwrap_or_else(server)
}

/// Finds the message that a report is about: by a Message-ID, by the envelope ID, or else by recipient and
/// time.
async fn find(
    world: &World,
    report: &DeliveryReport,
    is_last_search: bool,
) -> Result<Option<Story>, SpoolError> {
    for id in &report.original_ids {
        let mut stories = find_sent(world, id).await?;
        stories.retain(|story| !accepted(story).is_empty());
        if let Some(story) = named(stories, report, is_last_search) {
            return Ok(Some(story));
        }
    }
    // By time only on the last attempt: earlier, another matching story may not be written yet.
    let is_unnamed = report.original_ids.is_empty() && report.arrival.is_some() && is_last_search;
    if !is_unnamed && report.envelope_id.is_none() {
        return Ok(None);
    }
    let mut sent = Vec::new();
    for address in report.failed.iter().flat_map(|failed| &failed.addresses) {
        sent.extend(find_sent(world, address.as_str()).await?);
    }
    sent.sort_by_key(|story| story.record.id);
    sent.dedup_by_key(|story| story.record.id);
    if let Some(id) = &report.envelope_id {
        let envelope_id = |story: &Story| story.record.envelope.parameters.get_xtext("ENVID");
        let is_same = |story: &Story| envelope_id(story).as_ref() == Some(id);
        // The parts of a split message share the id; the right one was sent to the recipient.
        let is_sent_to = |story: &Story| {
            let mut failed = report.failed.iter().flat_map(|it| &it.addresses);
            failed.any(|address| {
                accepted(story)
                    .iter()
                    .any(|it| it.to.as_str() == address.as_str())
            })
        };
        let best = sent.iter().position(|it| is_same(it) && is_sent_to(it));
        let place = best.or_else(|| sent.iter().position(is_same));
        if let Some(place) = place {
            return Ok(Some(sent.swap_remove(place)));
        }
    }
    // A report that names another message is not about ours.
    let Some(arrival) = report.arrival.filter(|_| is_unnamed) else {
        return Ok(None);
    };
    sent.retain(|story| was_sent_at(story, report, arrival, &world.clock));
    // A match counts only if it is the only one.
    Ok(sent.pop().filter(|_| sent.is_empty()))
}

/// Returns the newest stories with this Message-ID or address, oldest first.
async fn find_sent(world: &World, about: &str) -> Result<Vec<Story>, SpoolError> {
    let filter = StoryFilter::about(about);
    let mut stories = world.spool.stories(filter, STORIES).await?;
    stories.reverse();
    Ok(stories)
}

/// Chooses among stories with the Message-ID that a report names; several messages may have the same one. Prefers,
/// in this order: the message whose story already contains this report; a message to a recipient of the report
/// that has not bounced; any message to such a recipient; on the last search, the only message, if it matches. (Earlier,
/// another message with the same Message-ID may not be written yet.)
fn named(mut stories: Vec<Story>, report: &DeliveryReport, is_last_search: bool) -> Option<Story> {
    let is_exact = |story: &Story, is_new: bool| {
        let all = accepted(story).into_iter();
        let mut all = all.filter(|it| {
            report
                .failed
                .iter()
                .any(|said| said.addresses.contains(it.to))
        });
        all.any(|it| !is_new || !is_bounced(story, it.to))
    };
    let recorded = stories.iter().position(|story| is_recorded(story, report));
    let new = || stories.iter().position(|story| is_exact(story, true));
    let exact = || stories.iter().position(|story| is_exact(story, false));
    let is_only = is_last_search && stories.len() == 1;
    let only = || (is_only && !matches(&stories[0], report).is_empty()).then_some(0);
    let place = recorded.or_else(new).or_else(exact).or_else(only)?;
    Some(stories.swap_remove(place))
}

/// Returns the recipients that the report and the story have in common. If each names only one recipient, they
/// mean the same one, even if its address was changed on the way.
fn matches<'a>(story: &'a Story, report: &'a DeliveryReport) -> Vec<Match<'a>> {
    let is_only = story.recipients().len() == 1 && report.failed.len() == 1;
    let found = report.failed.iter().filter_map(|said| {
        let all = accepted(story).into_iter();
        let mut all = all.filter(|it| is_only || said.addresses.contains(it.to));
        Some(Match {
            accepted: all.next()?,
            said,
        })
    });
    found.collect()
}

/// Returns the recipients for whom a server accepted the message.
fn accepted(story: &Story) -> Vec<Accepted<'_>> {
    let mut all = Vec::new();
    for event in &story.events {
        let EventKind::Delivered {
            server,
            to,
            sent_as,
            ..
        } = &event.what
        else {
            continue;
        };
        all.extend(to.iter().map(|to| Accepted {
            to,
            server,
            sent_as: sent_as.as_ref(),
            at: event.at,
        }));
    }
    all
}

/// True if the message was sent to a recipient of the report at about this time.
fn was_sent_at(story: &Story, report: &DeliveryReport, arrival: Timestamp, clock: &Clock) -> bool {
    let is_named = |to: &Address| {
        report
            .failed
            .iter()
            .any(|failed| failed.addresses.contains(to))
    };
    accepted(story).iter().any(|it| {
        let at = clock.shown(it.at);
        is_named(it.to) && at.since(arrival).max(arrival.since(at)) <= SAME_TIME
    })
}

fn is_bounced(story: &Story, address: &Address) -> bool {
    let mut events = story.events.iter();
    events.any(|event| match &event.what {
        EventKind::Bounced { to, .. } => to.contains(address),
        _ => false,
    })
}

/// True if the story has events of this report.
fn is_recorded(story: &Story, report: &DeliveryReport) -> bool {
    let mut events = story.events.iter();
    events.any(|event| match &event.what {
        EventKind::Bounced { report: its, .. } => *its == report.message_id,
        _ => false,
    })
}

/// Returns the recipient with the report's words as a reply, and the remedy.
fn failed(plan: &Plan, story: &Story, found: &Match) -> Failed {
    let Accepted { to, sent_as, .. } = found.accepted;
    let sender = sent_as.or(story.record.envelope.sender.address());
    let upstream = plan.known(found.accepted.server);
    let upstream = upstream
        .as_ref()
        .map(|entry| entry.server.upstream.as_ref());
    let (answer, remedy) = reported(upstream, sender, found.said);
    let mut recipients = story.record.envelope.recipients.iter();
    let recipient = recipients.find(|it| it.address == *to).cloned();
    Failed {
        recipient: recipient.unwrap_or_else(|| Recipient {
            address: to.clone(),
            parameters: Parameters::default(),
        }),
        answer,
        by_upstream: true,
        remedy,
    }
}
