//! Looks after what waits long: whoever sent it is told that it is late, and in the end that it is
//! given up, also where its server is held and no attempt is made; and a report in the lane of a held
//! server finds another way.

use std::time::Duration;

use super::notice::{About, sender};
use super::scheduler::{Context, LEASE};
use super::settle::{give_up, warn};
use crate::base::{MessageId, Timestamp};
use crate::message::{Headers, Priority};
use crate::observe::maillog;
use crate::spool::{Entry, Fate, Filter, Finish, Leased, Origin, Page, Record, SpoolError, Wanted};

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(60);

/// Messages that one look goes through; the next goes on from there.
const MOST: usize = 4_096;

/// Messages read in one go.
const PAGE: usize = 256;

/// A report that waits so long for a held server looks for another.
const REPORT_WAITS: Duration = Duration::from_secs(60);

/// What is to be done about a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    GiveUp,
    Warn,
    Reroute,
}

/// See the module.
#[derive(Default)]
pub(super) struct Patrol {
    after: Option<MessageId>,
    next: Timestamp,
}

impl Patrol {
    /// Takes a look, where it is time for one.
    pub(super) async fn look(&mut self, context: &Context) {
        let now = context.clock.now();
        if now < self.next && self.next < now.after(2 * EVERY) {
            return;
        }
        self.next = now.after(EVERY);
        for _ in 0..MOST / PAGE {
            match self.page(context, now).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return maillog::claim_failed("", &error),
            }
        }
        while let Ok(true) = context.spool.purge(now).await {}
    }

    /// One page; whether there are more.
    async fn page(&mut self, context: &Context, now: Timestamp) -> Result<bool, SpoolError> {
        let page = Page {
            after: self.after,
            limit: PAGE,
            filter: Filter {
                state: Some(Wanted::Queued),
                before: Some(now.before(shortest(context))),
                ..Filter::default()
            },
        };
        let entries = context.spool.list(page).await?;
        let has_more = entries.len() == PAGE;
        let last = entries.last().map(|entry| entry.record.id);
        self.after = last.filter(|_| has_more);
        let needy = entries.iter();
        let needy = needy.filter(|Entry { record, .. }| need(context, record, now).is_some());
        let ids: Vec<MessageId> = needy.map(|entry| entry.record.id).collect();
        if !ids.is_empty() {
            let leased = context.spool.lease(ids, now, now.after(LEASE)).await?;
            for message in leased {
                care(context, message, now).await;
            }
        }
        Ok(has_more)
    }
}

/// The age from which a message may need something.
fn shortest(context: &Context) -> Duration {
    let settings = &context.settings;
    let warn_after = settings
        .warn_after
        .unwrap_or(settings.schedule.expires_after);
    warn_after
        .min(settings.schedule.expires_after)
        .min(REPORT_WAITS)
}

fn need(context: &Context, record: &Record, now: Timestamp) -> Option<Need> {
    let settings = &context.settings;
    let age = now.since(record.received);
    if age >= settings.schedule.expires_after {
        return Some(Need::GiveUp);
    }
    if let Origin::Report(_) = record.origin {
        let elsewhere = || {
            let works = |server: &str| context.works(server);
            let route = settings.policy.report_route(works);
            route.is_some_and(|(route, _)| route.server != record.lane && works(&route.server))
        };
        let waits = !record.lane.is_empty() && !context.works(&record.lane);
        return (waits && elsewhere()).then_some(Need::Reroute);
    }
    let is_late = settings.warn_after.is_some_and(|after| age >= after);
    // A campaign takes its time, and a warning that waits itself helps nobody.
    let is_wanted = !record.warned && record.priority != Priority::Bulk;
    (is_late && is_wanted && sender(record).is_some() && context.can_report()).then_some(Need::Warn)
}

/// Does what a message needs.
async fn care(context: &Context, message: Leased, now: Timestamp) {
    let record = message.record;
    let (id, place) = (record.id, record.place());
    let finish = match need(context, &record, now) {
        Some(Need::Reroute) => {
            let record = Record {
                lane: String::new(),
                due: now,
                ..record
            };
            Some(Finish::new(id, Fate::Later(Box::new(record))))
        }
        Some(need) => told(context, &record, need).await,
        None => None,
    };
    match finish {
        Some(finish) => context.finish(finish).await,
        None => context.release_one((id, place)),
    }
}

async fn told(context: &Context, record: &Record, need: Need) -> Option<Finish> {
    let content = context.spool.content(record.id).await.ok()?;
    let head = content.head().await.ok()?;
    let end = Headers::parse(&head).end;
    let host = context.upstream_of(&record.lane);
    let about = About {
        record,
        head: &head[..end],
        whole: None,
        upstream: host.unwrap_or(&record.lane),
    };
    let held = context.reason_of(&record.lane);
    let last = held.map(|reason| format!("the server is held: {reason}"));
    let last = last.or(record.last.clone());
    let last = last.unwrap_or_else(|| "it has not been its turn".to_owned());
    match need {
        Need::GiveUp => Some(give_up(context, &record.lane, &about, &last)),
        Need::Warn | Need::Reroute => warn(context, &about, &last),
    }
}
