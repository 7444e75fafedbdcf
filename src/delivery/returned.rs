//! A message that came back: a server had accepted it, and a report in the mailbox says that it did not reach
//! a recipient. The report is matched with the message's story.

use std::time::Duration;

use super::bounce::{Failed, ReportKind};
use super::fact::{self, Fact};
use super::plan::Plan;
use super::report::{About, notice};
use super::world::World;
use crate::base::{Clock, MessageId, Timestamp};
use crate::message::{Address, BouncedRecipient, DeliveryReport, Parameters, Recipient};
use crate::spool::{Addition, EventKind, SpoolError, Story};
use crate::transport::smtp::reported;

/// The maximum number of stories that a report is compared with.
const STORIES: usize = 100;

/// The maximum difference between the time at which we sent a message, and the time at which the reporting
/// host received it, if the report does not name the message. Clocks differ, and hosts queue.
const SAME_TIME: Duration = Duration::from_secs(600);

/// What a report meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Returned {
    /// The story of this message now says that the message bounced.
    Recorded(MessageId),
    /// The story of this message said so already.
    Known(MessageId),
    /// The report is about no message that we sent, or its story is no longer kept.
    NotOurs,
}

/// A recipient that a report and a story have in common.
#[derive(Debug, PartialEq, Eq)]
struct Match<'a> {
    /// The recipient as the app gave it.
    to: Address,
    /// The server that accepted the message for the recipient.
    server: String,
    /// The envelope sender in place of the app's, if it was rewritten.
    sent_as: Option<Address>,
    /// The words of the report.
    said: &'a BouncedRecipient,
}

/// Records what a report says in the story of its message. If the app's envelope sender had been rewritten,
/// so that the report did not reach it, passes the report on to the app's sender.
pub(super) async fn record(world: &World, report: &DeliveryReport) -> Result<Returned, SpoolError> {
    let Some(story) = find(world, report).await? else {
        return Ok(Returned::NotOurs);
    };
    let id = story.record.id;
    let is_new = |found: &Match| !is_bounced(&story, &found.to);
    let new: Vec<Match> = matches(&story, report).into_iter().filter(is_new).collect();
    let Some(first) = new.first() else {
        return Ok(Returned::Known(id));
    };
    let plan = world.plan();
    let failed: Vec<Failed> = new.iter().map(|it| failed(&plan, &story, it)).collect();
    let facts = failed.iter().map(|failed| Fact::Bounced {
        to: failed.recipient.address.clone(),
        answer: failed.answer.clone(),
        remedy: failed.remedy.clone(),
        report: report.message_id.clone(),
    });
    let mut facts: Vec<Fact> = facts.collect();
    let mut addition = Addition {
        id,
        events: Vec::new(),
        reports: Vec::new(),
        lines: Vec::new(),
    };
    let wanted = |failed: &&Failed| ReportKind::Failed.is_wanted(&failed.recipient);
    let told_of: Vec<Failed> = failed.iter().filter(wanted).cloned().collect();
    if first.sent_as.is_some() && !told_of.is_empty() {
        let about = About {
            record: &story.record,
            head: &report.head,
            whole: None,
            upstream: first.said.remote.as_deref().unwrap_or(&report.reporter),
            host: &plan.settings.host,
        };
        if let Some((notice, fact)) = notice(world, &plan, &about, ReportKind::Failed, &told_of) {
            notice.add_to(&mut addition.reports, &mut addition.lines);
            facts.push(fact);
        }
    }
    let server = first.server.clone();
    addition.events = fact::events(facts.clone(), &server, world.clock.now());
    world.spool.extend_story(addition).await?;
    fact::tell(facts, id, &server, &world.clock);
    Ok(Returned::Recorded(id))
}

/// Finds the message that a report is about: by a Message-ID, by the envelope ID, or else by recipient and
/// time.
async fn find(world: &World, report: &DeliveryReport) -> Result<Option<Story>, SpoolError> {
    for id in &report.original_ids {
        let stories = world.spool.stories(id, STORIES).await?;
        let mut named = stories.into_iter().rev();
        if let Some(story) = named.find(|story| !matches(story, report).is_empty()) {
            return Ok(Some(story));
        }
    }
    let mut sent = Vec::new();
    for address in report.failed.iter().flat_map(|failed| &failed.addresses) {
        let stories = world.spool.stories(address.as_str(), STORIES).await?;
        sent.extend(
            stories
                .into_iter()
                .filter(|story| names_recipient(story, report)),
        );
    }
    sent.sort_by_key(|story| story.record.id);
    sent.dedup_by_key(|story| story.record.id);
    if let Some(id) = &report.envelope_id {
        let is_it = |story: &Story| {
            story.record.envelope.parameters.get_xtext("ENVID").as_ref() == Some(id)
        };
        if let Some(place) = sent.iter().position(is_it) {
            return Ok(Some(sent.swap_remove(place)));
        }
    }
    // A report that names a message which we did not send is not about ours.
    let Some(arrival) = report.arrival.filter(|_| report.original_ids.is_empty()) else {
        return Ok(None);
    };
    sent.retain(|story| was_sent_at(story, report, arrival, &world.clock));
    // Only if there is no doubt.
    Ok(sent.pop().filter(|_| sent.is_empty()))
}

/// Returns the recipients that the report and the story have in common. If each names only one recipient, they
/// mean the same one, even if its address was changed on the way.
fn matches<'a>(story: &Story, report: &'a DeliveryReport) -> Vec<Match<'a>> {
    let all = delivered(story);
    let only = match (all.as_slice(), report.failed.as_slice()) {
        ([only], [_]) => Some(only.0),
        _ => None,
    };
    let found = report.failed.iter().filter_map(|said| {
        let named = all
            .iter()
            .find(|(to, ..)| said.addresses.contains(to))
            .map(|(to, ..)| *to);
        let to = named.or(only)?;
        let (_, server, sent_as, _) = all.iter().find(|(its, ..)| *its == to)?;
        Some(Match {
            to: to.clone(),
            server: (*server).to_owned(),
            sent_as: sent_as.cloned(),
            said,
        })
    });
    found.collect()
}

/// Returns the recipients for whom a server accepted the message: the server, the sender if it was rewritten,
/// and the time.
fn delivered(story: &Story) -> Vec<(&Address, &str, Option<&Address>, Timestamp)> {
    let events = story.events.iter().flat_map(|event| match &event.what {
        EventKind::Delivered {
            server,
            to,
            sent_as,
            ..
        } => {
            let to = to.iter();
            to.map(|to| (to, server.as_str(), sent_as.as_ref(), event.at))
                .collect()
        }
        _ => Vec::new(),
    });
    events.collect()
}

/// True if the message was sent to a recipient of the report.
fn names_recipient(story: &Story, report: &DeliveryReport) -> bool {
    let mut failed = report.failed.iter().flat_map(|failed| &failed.addresses);
    let all = delivered(story);
    failed.any(|address| all.iter().any(|(to, ..)| *to == address))
}

/// True if the message was sent to a recipient of the report at about this time.
fn was_sent_at(story: &Story, report: &DeliveryReport, arrival: Timestamp, clock: &Clock) -> bool {
    let mut all = delivered(story).into_iter();
    all.any(|(to, .., at)| {
        let at = clock.shown(at);
        let is_named = report
            .failed
            .iter()
            .any(|failed| failed.addresses.contains(to));
        is_named && at.since(arrival).max(arrival.since(at)) <= SAME_TIME
    })
}

fn is_bounced(story: &Story, address: &Address) -> bool {
    let mut events = story.events.iter();
    events.any(|event| match &event.what {
        EventKind::Bounced { to, .. } => to.contains(address),
        _ => false,
    })
}

/// Returns the recipient with the report's words as a reply, and the remedy.
fn failed(plan: &Plan, story: &Story, found: &Match) -> Failed {
    let own = story.record.envelope.sender.address();
    let sender = found.sent_as.as_ref().or(own);
    let upstream = plan
        .entry(&found.server)
        .map(|entry| entry.server.upstream.as_ref());
    let (answer, remedy) = reported(upstream, sender, found.said);
    let mut recipients = story.record.envelope.recipients.iter();
    let recipient = recipients.find(|it| it.address == found.to).cloned();
    Failed {
        recipient: recipient.unwrap_or_else(|| Recipient {
            address: found.to.clone(),
            parameters: Parameters::default(),
        }),
        answer,
        by_upstream: true,
        remedy,
    }
}
