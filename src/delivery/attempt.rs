//! One attempt to send one message of the queue: it is routed, rewritten, sent and settled.

use std::borrow::Cow;
use std::time::Duration;

use super::fact::{self, Fact};
use super::lanes;
use super::plan::{Plan, ServerEntry};
use super::report::{About, conclude, digest};
use super::sending::{NotSent, Sendable};
use super::sessions::SessionSlot;
use super::settle::{Circumstances, Tried, settle};
use super::world::World;
use crate::base::Timestamp;
use crate::message::rewrite::{self, Composed};
use crate::message::{Address, Envelope, Headers, ReversePath, Trace};
use crate::routing::{Reason, Route};
use crate::spool::{
    Claim, Claimed, Content, Fate, Fingerprint, Finish, Origin, Record, SpoolError,
};
use crate::transport::{Finding, Interruption, Outcome, Progress};

/// After this many attempts, a message whose content cannot be read is held.
const MOST_READS: u32 = 5;

/// The wait between two attempts to read a message's content.
const READ_AGAIN: Duration = Duration::from_secs(60);

/// The result of an attempt.
#[derive(Default)]
pub(super) struct Ended {
    /// The message's fate. `None` if the message returns to the spool unchanged.
    pub(super) finish: Option<Box<Finish>>,
    /// The attempt's finding about the mailbox.
    pub(super) finding: Option<Finding>,
    /// True if the server accepted the message for at least one recipient.
    pub(super) was_accepted: bool,
    /// The number of recipients that may have got the message. Only they count towards the mailbox's
    /// limits.
    pub(super) reached: usize,
}

impl Ended {
    fn with(finish: Finish) -> Self {
        Self {
            finish: Some(Box::new(finish)),
            ..Self::default()
        }
    }
}

/// The message to send, and its context.
struct Attempt<'a> {
    world: &'a World,
    plan: &'a Plan,
    entry: &'a ServerEntry,
    claim: Claim,
}

/// Returns the number of the message's recipients that fit into one transaction with the server.
pub(super) fn recipients_at_once(entry: &ServerEntry, record: &Record) -> usize {
    let most = entry.desk.limits().recipients;
    record.envelope.recipients.len().min(most)
}

/// Makes one attempt at a message of the queue.
pub(super) async fn run(
    world: &World,
    plan: &Plan,
    entry: &ServerEntry,
    seat: &mut SessionSlot,
    message: Claimed,
) -> Ended {
    let Claimed {
        claim,
        record,
        content,
        ..
    } = message;
    let attempt = Attempt {
        world,
        plan,
        entry,
        claim,
    };
    match attempt.loaded(&record, content).await {
        Ok(loaded) => attempt.send(seat, record, loaded).await,
        Err(error) => attempt.unreadable(record, &error),
    }
}

/// Message content that was read.
struct Loaded {
    content: Content,
    head: bytes::Bytes,
    /// For a digest, the number of its last line.
    sent_lines: u64,
}

impl Attempt<'_> {
    fn now(&self) -> Timestamp {
        self.world.clock.now()
    }

    /// Sends a message whose content is loaded.
    async fn send(&self, seat: &mut SessionSlot, mut record: Record, loaded: Loaded) -> Ended {
        let headers = Headers::parse(&loaded.head);
        let route = match self.routed(&record, &headers, &loaded.content).await {
            Ok(Ok(route)) => route,
            Ok(Err(finish)) => return Ended::with(*finish),
            Err(error) => return self.unreadable(record, &error),
        };
        let mut at_once = recipients_at_once(self.entry, &record);
        let (tenant, now) = (self.entry.tenant(), self.now());
        if let Some((until, reason)) = self.world.desks.external_hold(tenant, now) {
            at_once = at_once.min(external_last(self.plan, &mut record));
            if at_once == 0 {
                return Ended::with(waits(self.claim, record, until, reason));
            }
        }
        let composed = compose(self.world, self.plan, &record, &headers, &route);
        let envelope = first(&record.envelope, at_once);
        let author = route.plan.from.as_ref().map(|mailbox| &mailbox.address);
        let letter = Sendable {
            sender: &route.plan.envelope_sender,
            author,
            envelope: &envelope,
            composed: &composed,
            content: &loaded.content,
            all_or_none: false,
        };
        let sent = self.world.sender.send(self.entry, seat, &letter).await;
        drop(envelope);
        let host = &self.plan.settings.host;
        let sent_as = sent_as(&route.plan.envelope_sender, &record.envelope.sender);
        let tried = Tried {
            message_id: message_id(&record, &headers, host),
            sent_as,
            record,
            outcome: Outcome::default(),
            interruption: None,
            may_have_arrived: false,
        };
        match sent {
            Ok(outcome) => self.judged(tried, outcome, at_once, &loaded, headers.end),
            Err(NotSent::Interrupted(interruption)) => {
                self.interrupted(tried, interruption, at_once, &loaded, headers.end)
            }
            Err(NotSent::Spool(error)) => self.unreadable(tried.record, &error),
        }
    }

    /// Judges the upstream's reply. If the message was not delivered to any recipient, did not fail for any,
    /// and is not to blame, it returns to the spool unchanged.
    fn judged(
        &self,
        mut tried: Tried,
        mut outcome: Outcome,
        at_once: usize,
        loaded: &Loaded,
        head: usize,
    ) -> Ended {
        let all = tried.record.envelope.recipients.len();
        outcome.next.extend(at_once..all);
        let finding = outcome.finding.clone();
        let is_token = matches!(finding, Some(Finding::TokenRefused(_)));
        let is_untouched = outcome.delivered.is_empty() && outcome.failed.is_empty();
        let is_innocent = !outcome.is_counted() && (is_token || outcome.holds_for().is_none());
        let was_accepted = outcome.accepted.is_some();
        if is_untouched && is_innocent {
            return Ended {
                finding,
                ..Ended::default()
            };
        }
        tried.outcome = outcome;
        Ended {
            finding,
            was_accepted,
            ..self.settled(&tried, at_once, loaded, head)
        }
    }

    /// Judges an interruption: the session ended early, or could not be opened. If the mailbox caused the
    /// interruption, the message is not to blame and returns to the spool unchanged.
    fn interrupted(
        &self,
        mut tried: Tried,
        interruption: Interruption,
        at_once: usize,
        loaded: &Loaded,
        head: usize,
    ) -> Ended {
        if interruption.finding.is_some() {
            return Ended {
                finding: interruption.finding,
                ..Ended::default()
            };
        }
        tried.may_have_arrived = interruption.progress == Progress::MayHaveArrived;
        tried.interruption = Some(interruption.reason);
        tried.outcome = Outcome {
            deferred: (0..tried.record.envelope.recipients.len()).collect(),
            confirms: true,
            ..Outcome::default()
        };
        self.settled(&tried, at_once, loaded, head)
    }

    /// Decides the message's fate, and publishes it in the log, the story and reports.
    fn settled(&self, tried: &Tried, at_once: usize, loaded: &Loaded, head: usize) -> Ended {
        let (settings, now) = (&self.plan.settings, self.now());
        let given = Circumstances {
            server: self.entry.name(),
            options: &settings.options,
            may_give_up: self.world.has_tried(settings.options.expire_after),
            now,
            random: rand::random(),
        };
        let settled = settle(&given, tried);
        let about = About {
            record: &tried.record,
            head: &loaded.head[..head],
            whole: loaded.content.in_memory().cloned(),
            upstream: &self.entry.server.upstream.smtp.remote.host,
            host: &settings.host,
        };
        let mut finish = conclude(
            self.world,
            self.plan,
            self.claim,
            &about,
            self.entry.name(),
            settled,
        );
        let reached = tried.reached(at_once);
        finish.used = self.entry.desk.used(reached, now);
        finish.sent_lines = loaded.sent_lines;
        Ended {
            reached,
            ..Ended::with(finish)
        }
    }

    /// Loads the message's content, from the spool if the content is not in memory. Fails if the content does
    /// not match the size and checksum in the record.
    async fn loaded(
        &self,
        record: &Record,
        at_hand: Option<Content>,
    ) -> Result<Loaded, SpoolError> {
        let (content, sent_lines) = match (&record.origin, at_hand) {
            (Origin::Digest, _) => digest(self.world, self.plan, record).await?,
            (_, Some(content)) => (content, 0),
            (_, None) => (self.world.spool.content(record.id).await?, 0),
        };
        if let Some(sum) = record.sum {
            let size = record.size;
            content.check(Fingerprint { size, sum }).await?;
        }
        Ok(Loaded {
            head: content.head().await?,
            content,
            sent_lines,
        })
    }

    /// Holds a message whose content is missing or damaged, so that an operator can look at the message. A
    /// failed read is retried first, because the next read may succeed.
    fn unreadable(&self, record: Record, error: &SpoolError) -> Ended {
        let now = self.now();
        let reason = format!("its content cannot be read: {error}");
        let is_gone = |source: &std::io::Error| source.kind() == std::io::ErrorKind::NotFound;
        match error {
            SpoolError::Missing(_) | SpoolError::Closed => Ended::default(),
            SpoolError::Io { source, .. } if !is_gone(source) && record.attempts < MOST_READS => {
                let (until, attempts) = (now.after(READ_AGAIN), record.attempts + 1);
                let fact = Fact::Unread {
                    until,
                    attempts,
                    reason: reason.clone(),
                };
                fact::tell(vec![fact], record.id, &record.lane, &self.world.clock);
                let tried = Record { attempts, ..record };
                Ended::with(waits(self.claim, tried, until, reason))
            }
            _ => Ended::with(lanes::held(self.world, self.claim, record, reason)),
        }
    }

    /// Finds the message's route under the current configuration. If the route leads to another server, or if the
    /// recipients take different routes, this attempt ends and the message moves to the right lanes. The
    /// inner error is the message's fate then.
    async fn routed(
        &self,
        record: &Record,
        headers: &Headers<'_>,
        content: &Content,
    ) -> Result<Result<Route, Box<Finish>>, SpoolError> {
        let ways = lanes::ways(self.plan, record, headers, self.now());
        if let [
            lanes::Way {
                route: Ok(route), ..
            },
        ] = &ways[..]
            && route.server == self.entry.name()
        {
            return Ok(Ok(route.clone()));
        }
        let message = (self.claim, record.clone());
        let finish = lanes::assigned(self.world, message, content, ways).await?;
        Ok(Err(Box::new(finish)))
    }
}

/// Moves the recipients in our own domains to the front, and returns their number. Used while the tenant's
/// mail to external recipients waits.
fn external_last(plan: &Plan, record: &mut Record) -> usize {
    let recipients = &mut record.envelope.recipients;
    let (own, external): (Vec<_>, Vec<_>) = std::mem::take(recipients)
        .into_iter()
        .partition(|recipient| plan.is_own_domain(&recipient.address));
    let count = own.len();
    *recipients = own.into_iter().chain(external).collect();
    count
}

/// Returns the Message-ID that recipients see. Parts of one message share it.
pub(super) fn message_id(record: &Record, headers: &Headers, host: &str) -> String {
    let known = record.message_id.clone();
    known.unwrap_or_else(|| rewrite::message_id(headers, record.id, host))
}

/// Returns the envelope sender that a message is sent with, if it is not the app's own.
pub(super) fn sent_as(sent: &ReversePath, own: &ReversePath) -> Option<Address> {
    sent.address().filter(|_| sent != own).cloned()
}

/// Returns the envelope with only its first `count` recipients.
fn first(envelope: &Envelope, count: usize) -> Cow<'_, Envelope> {
    if count == envelope.recipients.len() {
        return Cow::Borrowed(envelope);
    }
    Cow::Owned(Envelope {
        recipients: envelope.recipients[..count].to_vec(),
        ..envelope.clone()
    })
}

/// Returns the fate of a message that stays queued until the given time, for this reason.
fn waits(claim: Claim, record: Record, until: Timestamp, reason: String) -> Finish {
    let later = Record {
        due: until,
        last: Some(reason),
        ..record
    };
    Finish::new(claim, Fate::Later(Box::new(later)))
}

/// Composes the header section that is sent.
pub(super) fn compose(
    world: &World,
    plan: &Plan,
    record: &Record,
    headers: &Headers,
    route: &Route,
) -> Composed {
    let (host, shown) = (&plan.settings.host, plan.settings.received);
    if let (Reason::Report, Some(from)) = (&route.reason, &route.plan.from) {
        return rewrite::written_by(headers, from);
    }
    let (helo, peer, protocol) = match &record.origin {
        Origin::Client {
            helo,
            peer,
            protocol,
            ..
        } => (helo.as_str(), peer.as_str(), protocol.as_str()),
        Origin::Report(_) | Origin::Digest => ("localhost", "127.0.0.1", "ESMTP"),
    };
    let trace = Trace {
        id: record.id,
        message_id: record.message_id.as_deref(),
        received: world.clock.shown(record.received),
        helo,
        peer,
        protocol,
        host,
        shown,
    };
    rewrite::compose(headers, &record.envelope, &route.plan, &trace)
}
