//! Looks after what waits long: whoever sent it is told that it is late, and in the end that it is
//! given up, also where its server is held and no attempt is made; and a report in the lane of a held
//! server finds another way.

use std::time::Duration;

use super::context::Context;
use super::notice::{About, sender};
use super::scheduler::CLAIM;
use super::settle::{give_up, warn};
use crate::base::{MessageId, Timestamp};
use crate::message::{Headers, Priority};
use crate::observe::maillog;
use crate::spool::{Claimed, Fate, Finish, Flow, Place, Record, SpoolError, Which, time};

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(60);

/// How often it is noted how late it is, for the next run.
const NOTED: Duration = Duration::from_secs(3_600);

/// Messages that one look goes through; the next goes on from there.
const MOST: usize = 4_096;

/// Messages read in one go.
const PAGE: usize = 256;

/// How often one look has the spool remove stories that need be kept no longer.
const PURGES: usize = 10;

/// What is to be done about a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    GiveUp,
    Warn,
}

/// See the module.
#[derive(Default)]
pub(super) struct Patrol {
    after: Option<MessageId>,
    next: Timestamp,
    noted: Timestamp,
    /// Whether a report would leave just now.
    can_report: bool,
}

impl Patrol {
    /// Takes a look, where it is time for one.
    pub(super) async fn look(&mut self, context: &Context) {
        let now = context.clock.now();
        if now < self.next {
            return;
        }
        self.next = now.after(EVERY);
        if now.since(self.noted) >= NOTED {
            match time::note(context.spool.as_ref(), &context.clock).await {
                Ok(()) => self.noted = now,
                Err(error) => return maillog::claim_failed("", &error),
            }
        }
        self.can_report = context.can_report();
        if let Err(error) = self.reroute_reports(context, now).await {
            return maillog::claim_failed("", &error);
        }
        for _ in 0..MOST / PAGE {
            match self.page(context, now).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return maillog::claim_failed("", &error),
            }
        }
        for _ in 0..PURGES {
            if !matches!(context.spool.purge(now).await, Ok(true)) {
                return;
            }
        }
    }

    /// Reports in the lanes of held servers are routed anew, where another can send them.
    async fn reroute_reports(&self, context: &Context, now: Timestamp) -> Result<(), SpoolError> {
        let held = context.settings.servers.iter();
        let held = held.filter(|server| self.can_report && !context.works(&server.name));
        for server in held {
            let place = Place {
                lane: server.name.clone(),
                flow: Flow::of_reports(),
            };
            let (which, until) = (Which::DueIn(place), now.after(CLAIM));
            for report in context.spool.claim(which, PAGE, now, until).await? {
                let record = Record {
                    lane: String::new(),
                    ..report.record
                };
                let later = Fate::Later(Box::new(record));
                context.finish(Finish::new(report.claim, later)).await;
            }
        }
        Ok(())
    }

    /// One page; whether there are more.
    async fn page(&mut self, context: &Context, now: Timestamp) -> Result<bool, SpoolError> {
        let before = now.before(shortest(context));
        let late = context.spool.late(self.after, before, PAGE).await?;
        let has_more = late.len() == PAGE;
        self.after = late.last().map(|last| last.id).filter(|_| has_more);
        let needy = late.iter();
        let needy = needy.filter(|record| self.need(context, record, now).is_some());
        let ids: Vec<MessageId> = needy.map(|record| record.id).collect();
        if !ids.is_empty() {
            let (which, until) = (Which::Named(ids), now.after(CLAIM));
            for message in context.spool.claim(which, PAGE, now, until).await? {
                self.care(context, message, now).await;
            }
        }
        Ok(has_more)
    }

    fn need(&self, context: &Context, record: &Record, now: Timestamp) -> Option<Need> {
        let settings = &context.settings;
        let age = now.since(record.received);
        if age >= settings.schedule.expires_after && context.has_tried() {
            return Some(Need::GiveUp);
        }
        let is_late = settings.warn_after.is_some_and(|after| age >= after);
        // A campaign takes its time, and a warning that waits itself helps nobody.
        let is_wanted = self.can_report && !record.warned && record.priority != Priority::Bulk;
        (is_late && is_wanted && sender(record).is_some()).then_some(Need::Warn)
    }

    /// Does what a message needs.
    async fn care(&self, context: &Context, message: Claimed, now: Timestamp) {
        let claimed = (message.claim, message.record.place());
        let finish = match self.need(context, &message.record, now) {
            Some(need) => told(context, &message, need).await,
            None => None,
        };
        match finish {
            Some(finish) => context.finish(finish).await,
            None => context.release_one(claimed),
        }
    }
}

/// The age from which a message may need something.
fn shortest(context: &Context) -> Duration {
    let settings = &context.settings;
    let expires_after = settings.schedule.expires_after;
    let warn_after = settings.warn_after.unwrap_or(expires_after);
    warn_after.min(expires_after)
}

async fn told(context: &Context, message: &Claimed, need: Need) -> Option<Finish> {
    let record = &message.record;
    let content = context.spool.content(record.id).await.ok()?;
    let head = content.head().await.ok()?;
    let end = Headers::parse(&head).end;
    let host = context.upstream_of(&record.lane);
    let about = About {
        claim: message.claim,
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
        Need::Warn => warn(context, &about, &last),
    }
}
