//! Takes care of messages that have waited long. The sender is warned that a message is late, and finally
//! receives a report that the message is given up, even if its server is held and no attempt is made. A
//! report in the lane of a held server is routed again.

use std::time::Duration;

use super::bounce::{Failed, ReportKind};
use super::fact;
use super::orphans;
use super::plan::Plan;
use super::report::{About, conclude, notice, sender};
use super::settle::give_up;
use super::world::{CLAIM, World};
use crate::base::{MessageId, Timestamp};
use crate::message::{Headers, Priority};
use crate::observe::maillog;
use crate::spool::{Claim, ClaimFrom, Claimed, Fate, Finish, Flow, Place, Record, SpoolError};
use crate::transport::Answer;

/// The time from one check to the next.
const EVERY: Duration = Duration::from_secs(60);

/// How often the current time is recorded for the next run.
const NOTED: Duration = Duration::from_secs(3_600);

/// The maximum number of messages that one check goes through; the next check continues from there.
const MOST: usize = 4_096;

/// The number of messages that are read at once.
const PAGE: usize = 256;

/// The maximum number of times that one check tells the spool to remove expired stories.
const PURGES: usize = 10;

/// The action that a late message needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LateAction {
    GiveUp,
    Warn,
}

/// The regular check of messages that have waited long.
#[derive(Default)]
pub(super) struct Patrol {
    after: Option<MessageId>,
    next: Timestamp,
    noted: Timestamp,
    /// True if a report could be sent now.
    can_report: bool,
}

impl Patrol {
    /// Makes a check, if it is time for one.
    pub(super) async fn look(&mut self, world: &World) {
        let now = world.clock.now();
        if now < self.next {
            return;
        }
        self.next = now.after(EVERY);
        if now.since(self.noted) >= NOTED {
            match world.spool.note_time(&world.clock).await {
                Ok(()) => self.noted = now,
                Err(error) => return maillog::claim_failed("", &error),
            }
        }
        let plan = world.plan();
        plan.forget_idle(now);
        world.desks.sweep();
        self.can_report = plan.can_report();
        if let Err(error) = self.reroute_reports(world, &plan, now).await {
            return maillog::claim_failed("", &error);
        }
        for _ in 0..MOST / PAGE {
            match self.page(world, &plan, now).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return maillog::claim_failed("", &error),
            }
        }
        for _ in 0..PURGES {
            if !matches!(world.spool.purge(now).await, Ok(true)) {
                return;
            }
        }
    }

    /// Routes reports in the lanes of held servers again, if another server can send them.
    async fn reroute_reports(
        &self,
        world: &World,
        plan: &Plan,
        now: Timestamp,
    ) -> Result<(), SpoolError> {
        let held = plan.entries().into_iter();
        let held = held.filter(|entry| self.can_report && !plan.works(entry.name()));
        for entry in held {
            let place = Place {
                lane: entry.name().to_owned(),
                flow: Flow::of_reports(),
            };
            let (which, until) = (ClaimFrom::DueIn(place), now.after(CLAIM));
            for report in orphans::claim(world, which, PAGE, now, until).await? {
                let record = Record {
                    lane: String::new(),
                    ..report.record
                };
                let later = Fate::Later(Box::new(record));
                world.finish(Finish::new(report.claim, later)).await;
            }
        }
        Ok(())
    }

    /// Handles one page of late messages. Returns true if there may be more.
    async fn page(
        &mut self,
        world: &World,
        plan: &Plan,
        now: Timestamp,
    ) -> Result<bool, SpoolError> {
        let before = now.before(shortest(plan));
        let late = world.spool.late(self.after, before, PAGE).await?;
        let has_more = late.len() == PAGE;
        self.after = late.last().map(|last| last.id).filter(|_| has_more);
        let needy = late.iter();
        let needy = needy.filter(|record| self.need(world, plan, record, now).is_some());
        let ids: Vec<MessageId> = needy.map(|record| record.id).collect();
        if !ids.is_empty() {
            let (which, until) = (ClaimFrom::Named(ids), now.after(CLAIM));
            for message in orphans::claim(world, which, PAGE, now, until).await? {
                self.care(world, plan, message, now).await;
            }
        }
        Ok(has_more)
    }

    fn need(
        &self,
        world: &World,
        plan: &Plan,
        record: &Record,
        now: Timestamp,
    ) -> Option<LateAction> {
        let settings = &plan.settings;
        let age = now.since(record.received);
        if age >= settings.options.expire_after && world.has_tried(settings.options.expire_after) {
            return Some(LateAction::GiveUp);
        }
        let is_late = settings
            .options
            .warns_after()
            .is_some_and(|after| age >= after);
        // Bulk mail is expected to take long, and a warning helps nobody if it cannot be sent either.
        let is_wanted = self.can_report && !record.warned && record.priority != Priority::Bulk;
        (is_late && is_wanted && sender(record).is_some()).then_some(LateAction::Warn)
    }

    /// Takes the action that a message needs.
    async fn care(&self, world: &World, plan: &Plan, message: Claimed, now: Timestamp) {
        let claimed = (message.claim, message.record.place());
        let finish = match self.need(world, plan, &message.record, now) {
            Some(need) => told(world, plan, &message, need).await,
            None => None,
        };
        match finish {
            Some(finish) => world.finish(finish).await,
            None => world.release_one(claimed),
        }
    }
}

/// Returns the age from which a message may need an action.
fn shortest(plan: &Plan) -> Duration {
    let settings = &plan.settings;
    let expires_after = settings.options.expire_after;
    let warn_after = settings.options.warns_after().unwrap_or(expires_after);
    warn_after.min(expires_after)
}

async fn told(world: &World, plan: &Plan, message: &Claimed, need: LateAction) -> Option<Finish> {
    let record = &message.record;
    let content = world.spool.content(record.id).await.ok()?;
    let head = content.head().await.ok()?;
    let end = Headers::parse(&head).end;
    let about = About {
        record,
        head: &head[..end],
        whole: None,
        upstream: plan.host_of(&record.lane),
        host: &plan.settings.host,
    };
    let held = plan.reason_of(&record.lane);
    let last = held.map(|reason| format!("the server is held: {reason}"));
    let last = last.or(record.last.clone());
    let last = last.unwrap_or_else(|| "it is still waiting for its turn".to_owned());
    match need {
        LateAction::GiveUp => {
            let settled = give_up(record, &last);
            Some(conclude(
                world,
                plan,
                message.claim,
                &about,
                &record.lane,
                settled,
            ))
        }
        LateAction::Warn => warn(world, plan, message.claim, &about, &last),
    }
}

/// Warns the sender that a message is late, and says until when it will be retried.
fn warn(world: &World, plan: &Plan, claim: Claim, about: &About, last: &str) -> Option<Finish> {
    let record = about.record;
    let expires = plan.settings.options.expire_after;
    // A run that has just begun does not give anything up yet.
    let given_up = world.clock.now().after(world.tries_for(expires));
    let until = record.received.after(expires).max(given_up);
    let kind = ReportKind::Delayed(world.clock.shown(until));
    let recipients = record.envelope.recipients.iter();
    let late = recipients.filter(|recipient| kind.is_wanted(recipient));
    let late = late.map(|recipient| Failed {
        recipient: recipient.clone(),
        answer: Answer::new(451, "4.4.7", format!("Delayed: {last}")),
        by_upstream: false,
        remedy: String::new(),
    });
    let late: Vec<Failed> = late.collect();
    if late.is_empty() {
        return None;
    }
    let (report, told) = notice(world, plan, about, kind, &late)?;
    let warned = Record {
        warned: true,
        ..record.clone()
    };
    let mut finish = Finish::new(claim, Fate::Later(Box::new(warned)));
    report.add_to(&mut finish.reports, &mut finish.lines);
    finish.events = fact::tell(vec![told], record.id, &record.lane, &world.clock);
    Some(finish)
}
