//! One attempt at one message: routed, rewritten, sent, judged.

use std::borrow::Cow;
use std::time::Duration;

use super::context::Context;
use super::lane::Lane;
use super::notice::digest;
use super::outcome::{self, Verdict, table};
use super::settle::{Tried, settle};
use super::transmit::transmit;
use super::trouble::{Trouble, Word};
use crate::base::{Clock, Timestamp};
use crate::message::rewrite::{self, Composed};
use crate::message::{Address, Envelope, Headers, Trace};
use crate::observe::maillog;
use crate::routing::{Decision, Reason, Route};
use crate::session::{Reply, Stage};
use crate::spool::{
    Claim, Claimed, Content, Event, Fate, Finish, Origin, Record, Shape, SpoolError, Story, What,
};
use crate::upstream::{Link, Transcript};

/// Attempts at a message whose content cannot be read; then it is held.
const MOST_READS: u32 = 5;

/// The pause after a content could not be read.
const READ_AGAIN: Duration = Duration::from_secs(60);

/// How an attempt ended.
pub(super) struct Ended {
    /// The message's fate; none where it goes back as it was.
    pub(super) finish: Option<Box<Finish>>,
    /// What it has shown of the mailbox.
    pub(super) word: Word,
    /// Recipients that may have got the message: only they count to the mailbox's limits.
    pub(super) reached: usize,
}

impl Ended {
    fn released(word: Word) -> Self {
        Self {
            finish: None,
            word,
            reached: 0,
        }
    }

    /// With a fate, and nobody reached.
    pub(super) fn with(finish: Finish, word: Word) -> Self {
        Self {
            finish: Some(Box::new(finish)),
            word,
            reached: 0,
        }
    }
}

/// How many of a message's recipients go in one transaction.
pub(super) fn recipients_at_once(lane: &Lane, record: &Record) -> usize {
    let most = lane.mailbox.limits().recipients;
    record.envelope.recipients.len().min(most)
}

/// Where the tenant's mail to external recipients waits: the recipients that are not external first, and
/// how many those are.
fn without_external(lane: &Lane, record: &mut Record) -> usize {
    let recipients = &mut record.envelope.recipients;
    let (own, external): (Vec<_>, Vec<_>) = std::mem::take(recipients)
        .into_iter()
        .partition(|recipient| lane.context.is_own_domain(&recipient.address));
    let count = own.len();
    *recipients = own.into_iter().chain(external).collect();
    count
}

/// Attempts a message of the queue.
pub(super) async fn run(
    lane: &Lane,
    session: &mut Option<Box<dyn Link>>,
    message: Claimed,
) -> Ended {
    let Claimed {
        claim,
        record,
        content,
        ..
    } = message;
    let loaded = loaded(lane, &record, content).await;
    let head = match &loaded {
        Ok((content, _)) => content.head().await,
        Err(error) => Err(error.clone()),
    };
    let ((content, sent_lines), head) = match (loaded, head) {
        (Ok(content), Ok(head)) => (content, head),
        (Err(error), _) | (_, Err(error)) => {
            return unreadable(claim, record, &error, &lane.context.clock);
        }
    };
    let headers = Headers::parse(&head);
    let route = match route(&lane.context, &record, &headers) {
        Ok(route) if route.server == lane.server.name => route,
        Ok(route) => {
            maillog::rerouted(record.id, &lane.server.name, &route.server);
            let finish = moved(claim, record, route.server, lane.context.clock.now());
            return Ended::with(finish, Word::Nothing);
        }
        Err(reason) => {
            let finish = held(claim, record, reason, lane.context.clock.now());
            return Ended::with(finish, Word::Nothing);
        }
    };
    let mut record = record;
    let count = record.envelope.recipients.len();
    let mut at_once = recipients_at_once(lane, &record);
    if let Some((until, reason)) = lane.external_hold() {
        at_once = at_once.min(without_external(lane, &mut record));
        if at_once == 0 {
            return Ended::with(waits(claim, record, until, reason), Word::Nothing);
        }
    }
    let composed = compose(lane, &record, &headers, &route);
    let sender = route.plan.envelope_sender.address();
    let author = route.plan.from.as_ref().map(|mailbox| &mailbox.address);
    let now = lane.context.clock.now();
    let mut tried = Tried {
        claim,
        message_id: rewrite::message_id(&headers, record.id, &lane.context.settings.host),
        record,
        sent_lines,
        verdict: Verdict::default(),
        reason: None,
        is_uncertain: false,
        confirms: true,
        head: &head[..headers.end],
        whole: content.in_memory().cloned(),
        sender: sender.or(author).cloned(),
    };
    if let Some(reply) = sender.and_then(|sender| lane.mailbox.refuses(sender, now)) {
        let row = table::row(lane.server.upstream.service, Stage::FinalDot, &reply);
        let all = (0..count).map(|place| (place, reply.clone(), row));
        tried.verdict.failed = all.collect();
        return Ended::with(settle(lane, tried), Word::Nothing);
    }
    let envelope = if at_once == count {
        Cow::Borrowed(&tried.record.envelope)
    } else {
        Cow::Owned(Envelope {
            recipients: tried.record.envelope.recipients[..at_once].to_vec(),
            ..tried.record.envelope.clone()
        })
    };
    let sent = transmit(lane, session, &envelope, &route, &composed, &content, false).await;
    match sent {
        Ok(transcript) => {
            tried.verdict = judged(lane, at_once, &transcript);
            tried.verdict.next.extend(at_once..count);
            tried.confirms = transcript.offers_dsn;
            let word = match &tried.verdict.mailbox {
                Some((row, reply)) => Word::of(lane, row, reply, &reply.to_string(), sender),
                None => tried.verdict.accepted.as_ref().map(|_| Word::Well),
            };
            let word = word.unwrap_or(Word::Nothing);
            let Verdict {
                delivered, failed, ..
            } = &tried.verdict;
            let nothing_happened = delivered.is_empty() && failed.is_empty();
            let is_innocent = !tried.verdict.is_counted() && tried.verdict.holds_for().is_none();
            if nothing_happened && is_innocent {
                return Ended::released(word);
            }
            let reached = tried.reached(at_once);
            Ended {
                reached,
                ..Ended::with(settle(lane, tried), word)
            }
        }
        Err(Trouble::Mailbox { word, .. }) => Ended::released(word),
        Err(Trouble::Spool(error)) => unreadable(claim, tried.record, &error, &lane.context.clock),
        Err(Trouble::Passing {
            reason, uncertain, ..
        }) => {
            tried.verdict.deferred = (0..count).collect();
            tried.is_uncertain = uncertain;
            tried.reason = Some(reason);
            let reached = tried.reached(at_once);
            Ended {
                reached,
                ..Ended::with(settle(lane, tried), Word::Nothing)
            }
        }
    }
}

/// The verdict on a transcript; what the table does not know is told, so that it can grow.
fn judged(lane: &Lane, count: usize, transcript: &Transcript) -> Verdict {
    let Transcript {
        mail,
        recipients,
        message,
        ..
    } = transcript;
    let service = lane.server.upstream.service;
    let verdict = outcome::judge(service, count, mail, recipients, message.as_ref());
    let news = verdict.unclassified.iter();
    for reply in news.filter(|reply| lane.is_news(reply)) {
        maillog::unclassified(&lane.server.name, reply);
    }
    verdict
}

/// Sends one message at once and gives the upstream's own answer; for `direct` servers. Nothing is
/// sent unless every recipient is accepted.
pub(super) async fn direct(lane: &Lane, record: &Record, content: &Content) -> Reply {
    if let Some(hold) = lane.held() {
        return temporary(None, hold.reason);
    }
    let head = match content.head().await {
        Ok(head) => head,
        Err(_) => return Reply::try_again(),
    };
    let headers = Headers::parse(&head);
    let Origin::Client { user, listener, .. } = &record.origin else {
        return Reply::try_again();
    };
    let policy = &lane.context.settings.policy;
    let route = match policy.decide(
        &record.envelope.sender,
        &headers.author(),
        policy.caller(user, listener),
    ) {
        Decision::Route(route) => route,
        Decision::Refused(refusal) => return refusal.reply,
    };
    let sender = route.plan.envelope_sender.address();
    let now = lane.context.clock.now();
    if let Some(reply) = sender.and_then(|sender| lane.mailbox.refuses(sender, now)) {
        return reply;
    }
    let composed = compose(lane, record, &headers, &route);
    let count = record.envelope.recipients.len();
    if lane.mailbox.admit(count, now).is_err() {
        let reason = "the mailbox has reached its limit for now";
        return temporary(None, reason.to_owned());
    }
    let mut seat = lane.mailbox.session().await;
    let sent = transmit(
        lane,
        &mut seat.session,
        &record.envelope,
        &route,
        &composed,
        content,
        true,
    )
    .await;
    lane.mailbox.park(seat, lane.context.clock.now());
    lane.mailbox.settle(count, reached(&sent, count), now);
    match sent {
        Ok(transcript) => {
            let host = &lane.context.settings.host;
            let message_id = rewrite::message_id(&headers, record.id, host);
            direct_answer(lane, record, &route, transcript, message_id)
        }
        Err(Trouble::Passing { reason, reply, .. }) => temporary(reply, reason),
        Err(Trouble::Mailbox { word, reply }) => {
            let reason = word.reason();
            lane.note(word);
            temporary(reply, reason)
        }
        Err(Trouble::Spool(_)) => Reply::try_again(),
    }
}

/// How many of the recipients of a message that is sent to all or none may have got it.
fn reached(sent: &Result<Transcript, Trouble>, count: usize) -> usize {
    let may_have = match sent {
        Ok(transcript) => {
            let last = transcript.message.as_ref();
            last.is_some_and(|(_, reply)| reply.is_completion())
        }
        Err(Trouble::Passing { uncertain, .. }) => *uncertain,
        Err(_) => false,
    };
    if may_have { count } else { 0 }
}

/// The mailbox's trouble is not the message's fault; else what the upstream said.
fn direct_answer(
    lane: &Lane,
    record: &Record,
    route: &Route,
    transcript: Transcript,
    message_id: String,
) -> Reply {
    let verdict = judged(lane, record.envelope.recipients.len(), &transcript);
    let Some((row, reply)) = verdict.mailbox.as_ref() else {
        lane.note(Word::Well);
        let (_, reply) = transcript.decisive();
        tell_direct(lane, record, &reply, message_id);
        return reply;
    };
    let sender = route.plan.envelope_sender.address();
    if let Some(word) = Word::of(lane, row, reply, &reply.to_string(), sender) {
        lane.note(word);
    }
    if verdict.is_counted() {
        transcript.decisive().1
    } else {
        temporary(Some(reply.clone()), reply.to_string())
    }
}

/// What was sent at once has a story too. The app does not wait for it.
fn tell_direct(lane: &Lane, record: &Record, reply: &Reply, message_id: String) {
    let at = lane.context.clock.now();
    let recipients = record.envelope.recipients.iter();
    let to: Vec<Address> = recipients
        .map(|recipient| recipient.address.clone())
        .collect();
    let (server, words, count) = (record.lane.clone(), reply.to_string(), to.len());
    let what = match reply.is_completion() {
        true => What::Delivered {
            server,
            to,
            reply: words,
            message_id,
        },
        false => What::Failed {
            server,
            to,
            reply: words,
        },
    };
    let story = Story {
        record: record.clone(),
        ended: Some(at),
        events: vec![Event { at, what }],
    };
    let used = lane.used(count, at).filter(|_| reply.is_completion());
    let spool = lane.context.spool.clone();
    tokio::spawn(async move { spool.tell(story, used).await });
}

/// Trouble with the server is not the message's fault: never 5yz, whatever the server said.
fn temporary(reply: Option<Reply>, reason: String) -> Reply {
    match reply {
        Some(reply) if (400..500).contains(&reply.code) && reply.code != 421 => reply,
        _ => Reply::new(
            451,
            "4.4.1",
            format!("Upstream trouble, try again later: {reason}"),
        ),
    }
}

/// The content, from the spool if it is not at hand, and only if it is what was put; of a digest, with the
/// number of its last line.
async fn loaded(
    lane: &Lane,
    record: &Record,
    at_hand: Option<Content>,
) -> Result<(Content, u64), SpoolError> {
    if record.origin == Origin::Digest {
        return digest(&lane.context, record).await;
    }
    let content = match at_hand {
        Some(content) => content,
        None => lane.context.spool.content(record.id).await?,
    };
    if let Some(sum) = record.sum {
        let size = record.size;
        content.check(Shape { size, sum }).await?;
    }
    Ok((content, 0))
}

/// A content that is gone or broken: held, so that a person sees it. A read that failed is tried again
/// first: a disk may do better the next time.
fn unreadable(claim: Claim, record: Record, error: &SpoolError, clock: &Clock) -> Ended {
    let now = clock.now();
    let reason = format!("its content cannot be read: {error}");
    let is_gone = |source: &std::io::Error| source.kind() == std::io::ErrorKind::NotFound;
    match error {
        SpoolError::Missing(_) | SpoolError::Closed => Ended::released(Word::Nothing),
        SpoolError::Io { source, .. } if !is_gone(source) && record.attempts < MOST_READS => {
            let (id, until) = (record.id, now.after(READ_AGAIN));
            let attempts = record.attempts + 1;
            maillog::deferred(
                id,
                &record.lane,
                clock.shown(until),
                attempts,
                &reason,
                false,
            );
            let tried = Record { attempts, ..record };
            Ended::with(waits(claim, tried, until, reason), Word::Nothing)
        }
        _ => Ended::with(held(claim, record, reason, now), Word::Nothing),
    }
}

/// Queued until then, with the reason.
fn waits(claim: Claim, record: Record, until: Timestamp, reason: String) -> Finish {
    let later = Record {
        due: until,
        last: Some(reason),
        ..record
    };
    Finish::new(claim, Fate::Later(Box::new(later)))
}

/// For a person to decide.
fn held(claim: Claim, mut record: Record, reason: String, now: Timestamp) -> Finish {
    maillog::held(record.id, &reason);
    record.last = Some(reason.clone());
    let event = Event {
        at: now,
        what: What::Held { reason },
    };
    Finish {
        events: vec![event],
        ..Finish::new(claim, Fate::Held(Box::new(record)))
    }
}

/// Gives a message without a lane the one that it takes by the configuration of now; none if its content
/// cannot be read just now.
pub(super) async fn assign(context: &Context, message: Claimed) -> Option<Finish> {
    let Claimed { claim, record, .. } = message;
    let head = match context.spool.content(record.id).await {
        Ok(content) => content.head().await,
        Err(error) => Err(error),
    };
    let head = head.ok()?;
    let now = context.clock.now();
    match route(context, &record, &Headers::parse(&head)) {
        Ok(route) => {
            if let Some(former) = record
                .former_lane
                .as_ref()
                .filter(|it| **it != route.server)
            {
                maillog::rerouted(record.id, former, &route.server);
            }
            Some(moved(claim, record, route.server, now))
        }
        Err(reason) => Some(held(claim, record, reason, now)),
    }
}

fn moved(claim: Claim, record: Record, lane: String, now: Timestamp) -> Finish {
    let moved = Record {
        lane,
        former_lane: None,
        due: now,
        ..record
    };
    Finish::new(claim, Fate::Later(Box::new(moved)))
}

/// The way of a queued message by the configuration of now, or why it has none.
fn route(context: &Context, record: &Record, headers: &Headers) -> Result<Route, String> {
    let policy = &context.settings.policy;
    let Origin::Client { user, listener, .. } = &record.origin else {
        let route = policy.report_route(|server| context.works(server));
        let route = route.map(|(route, _)| route);
        return route.ok_or("no server can send reports: set default_from".into());
    };
    match policy.decide(
        &record.envelope.sender,
        &headers.author(),
        policy.caller(user, listener),
    ) {
        Decision::Route(route) => Ok(route),
        Decision::Refused(refusal) => Err(format!(
            "the configuration refuses it now: {}",
            refusal.reply
        )),
    }
}

fn compose(lane: &Lane, record: &Record, headers: &Headers, route: &Route) -> Composed {
    let (host, shown) = (&lane.context.settings.host, lane.context.settings.received);
    if let (Reason::Report, Some(from)) = (&route.reason, &route.plan.from) {
        return rewrite::spoken_by(headers, from);
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
        received: lane.context.clock.shown(record.received),
        helo,
        peer,
        protocol,
        host,
        shown,
    };
    rewrite::compose(headers, &record.envelope, &route.plan, &trace)
}
