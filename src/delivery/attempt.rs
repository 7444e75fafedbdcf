//! One attempt at one message: routed, rewritten, sent, judged.

use std::borrow::Cow;

use super::lane::Lane;
use super::outcome::{self, Verdict};
use super::scheduler::Context;
use super::settle::settle;
use super::transmit::transmit;
use super::trouble::{Trouble, Word};
use crate::base::{MessageId, Timestamp};
use crate::message::rewrite::{self, Composed};
use crate::message::{Envelope, Headers, Trace};
use crate::observe::maillog;
use crate::routing::{Decision, Reason, Route};
use crate::session::Reply;
use crate::spool::{Content, Fate, Finish, Leased, New, Origin, Record, SpoolError};
use crate::upstream::{Session, Transcript};

/// How an attempt ended.
pub(super) struct Ended {
    /// The message's fate; none where it goes back as it was.
    pub(super) finish: Option<Box<Finish>>,
    /// What it has shown of the mailbox.
    pub(super) word: Word,
}

impl Ended {
    fn released(word: Word) -> Self {
        Self { finish: None, word }
    }

    /// With a fate.
    pub(super) fn with(id: MessageId, fate: Fate, report: Option<New>, word: Word) -> Self {
        let finish = Some(Box::new(Finish { id, fate, report }));
        Self { finish, word }
    }
}

/// How many of a message's recipients go in one transaction.
pub(super) fn recipients_at_once(lane: &Lane, record: &Record) -> usize {
    let most = lane.mailbox.limits().recipients;
    record.envelope.recipients.len().min(most)
}

/// Attempts a message of the queue.
pub(super) async fn run(lane: &Lane, session: &mut Option<Session>, message: Leased) -> Ended {
    let Leased {
        record, content, ..
    } = message;
    let loaded = match content {
        Some(content) => Ok(content),
        None => lane.context.spool.content(record.id).await,
    };
    let head = match &loaded {
        Ok(content) => content.head().await,
        Err(error) => Err(error.clone()),
    };
    let (content, head) = match (loaded, head) {
        (Ok(content), Ok(head)) => (content, head),
        (Err(error), _) | (_, Err(error)) => return unreadable(record, &error),
    };
    let headers = Headers::parse(&head);
    let route = match route(&lane.context, &record, &headers) {
        Ok(route) if route.server == lane.server.name => route,
        Ok(route) => {
            maillog::rerouted(record.id, &lane.server.name, &route.server);
            let finish = moved(record, route.server, lane.context.clock.now());
            return Ended::with(finish.id, finish.fate, finish.report, Word::Nothing);
        }
        Err(reason) => return held(record, reason, Word::Nothing),
    };
    let composed = compose(lane, &record, &headers, &route);
    let count = record.envelope.recipients.len();
    let at_once = recipients_at_once(lane, &record);
    let sender = route.plan.envelope_sender.address();
    let now = lane.context.clock.now();
    if let Some(reply) = sender.and_then(|sender| lane.mailbox.refuses(sender, now)) {
        let failed = (0..count).map(|place| (place, reply.clone())).collect();
        let verdict = Verdict {
            failed,
            ..Verdict::default()
        };
        return settle(
            lane,
            record,
            verdict,
            None,
            &head[..headers.end],
            Word::Nothing,
        );
    }
    let envelope = match at_once == count {
        true => Cow::Borrowed(&record.envelope),
        false => Cow::Owned(Envelope {
            recipients: record.envelope.recipients[..at_once].to_vec(),
            ..record.envelope.clone()
        }),
    };
    let sent = transmit(lane, session, &envelope, &route, &composed, &content, false).await;
    match sent {
        Ok(transcript) => {
            let mut verdict = judged(lane, at_once, &transcript);
            verdict.next.extend(at_once..count);
            let word = match &verdict.mailbox {
                Some((row, reply)) => Word::of(lane, row, reply, &reply.to_string(), sender),
                None => verdict.accepted.as_ref().map(|_| Word::Well),
            };
            let word = word.unwrap_or(Word::Nothing);
            let nothing_happened = verdict.delivered.is_empty() && verdict.failed.is_empty();
            if nothing_happened && !verdict.is_counted() {
                return Ended::released(word);
            }
            settle(lane, record, verdict, None, &head[..headers.end], word)
        }
        Err(Trouble::Mailbox { word, .. }) => Ended::released(word),
        Err(Trouble::Spool(error)) => unreadable(record, &error),
        Err(Trouble::Passing {
            reason, uncertain, ..
        }) => {
            let verdict = Verdict {
                deferred: (0..count).collect(),
                ..Verdict::default()
            };
            let record = Record {
                uncertain: record.uncertain || uncertain,
                ..record
            };
            let head = &head[..headers.end];
            settle(lane, record, verdict, Some(reason), head, Word::Nothing)
        }
    }
}

/// The verdict on a transcript; what the table does not know is told, so that it can grow.
fn judged(lane: &Lane, count: usize, transcript: &Transcript) -> Verdict {
    let Transcript {
        mail,
        recipients,
        message,
    } = transcript;
    let verdict = outcome::judge(count, mail, recipients, message.as_ref());
    for reply in &verdict.unclassified {
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
    let Origin::Client { user, .. } = &record.origin else {
        return Reply::try_again();
    };
    let policy = &lane.context.settings.policy;
    let route = match policy.decide(
        &record.envelope.sender,
        &headers.author(),
        policy.caller(user),
    ) {
        Decision::Route(route) => route,
        Decision::Refused(refusal) => return refusal.reply,
    };
    let composed = compose(lane, record, &headers, &route);
    let now = lane.context.clock.now();
    if lane
        .mailbox
        .admit(record.envelope.recipients.len(), now)
        .is_err()
    {
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
    match sent {
        Ok(transcript) => direct_answer(lane, record, &route, transcript),
        Err(Trouble::Passing { reason, reply, .. }) => temporary(reply, reason),
        Err(Trouble::Mailbox { word, reply }) => {
            let reason = word.reason();
            lane.note(word);
            temporary(reply, reason)
        }
        Err(Trouble::Spool(_)) => Reply::try_again(),
    }
}

/// The mailbox's trouble is not the message's fault; else what the upstream said.
fn direct_answer(lane: &Lane, record: &Record, route: &Route, transcript: Transcript) -> Reply {
    let verdict = judged(lane, record.envelope.recipients.len(), &transcript);
    let Some((row, reply)) = verdict.mailbox.as_ref() else {
        lane.note(Word::Well);
        return answer_of(transcript);
    };
    let sender = route.plan.envelope_sender.address();
    if let Some(word) = Word::of(lane, row, reply, &reply.to_string(), sender) {
        lane.note(word);
    }
    match verdict.is_counted() {
        true => answer_of(transcript),
        false => temporary(Some(reply.clone()), reply.to_string()),
    }
}

/// What an app of a `direct` server hears: the first refusal, else the answer to the final dot.
fn answer_of(transcript: Transcript) -> Reply {
    let refused = transcript
        .recipients
        .into_iter()
        .find(|reply| !reply.is_positive());
    match (transcript.mail.is_positive(), refused, transcript.message) {
        (false, ..) => transcript.mail,
        (_, Some(refused), _) => refused,
        (_, _, Some((_, reply))) => reply,
        (_, _, None) => Reply::try_again(),
    }
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

/// A content that is gone or broken: held, so that a person sees it.
fn unreadable(record: Record, error: &SpoolError) -> Ended {
    match error {
        SpoolError::Missing(_) | SpoolError::Closed => Ended::released(Word::Nothing),
        error => {
            let reason = format!("its content cannot be read: {error}");
            held(record, reason, Word::Nothing)
        }
    }
}

pub(super) fn held(mut record: Record, reason: String, word: Word) -> Ended {
    maillog::held(record.id, &reason);
    record.last = Some(reason);
    Ended::with(record.id, Fate::Held(Box::new(record)), None, word)
}

/// Gives a message without a lane the one that it takes by the configuration of now; its lease comes
/// back where its content cannot be read just now.
pub(super) async fn assign(
    context: &Context,
    record: Record,
) -> Result<Finish, (MessageId, String)> {
    let head = match context.spool.content(record.id).await {
        Ok(content) => content.head().await,
        Err(error) => Err(error),
    };
    let Ok(head) = head else {
        return Err((record.id, record.lane));
    };
    match route(context, &record, &Headers::parse(&head)) {
        Ok(route) => Ok(moved(record, route.server, context.clock.now())),
        Err(reason) => {
            maillog::held(record.id, &reason);
            let held = Record {
                last: Some(reason),
                ..record
            };
            Ok(Finish {
                id: held.id,
                fate: Fate::Held(Box::new(held)),
                report: None,
            })
        }
    }
}

fn moved(record: Record, lane: String, now: Timestamp) -> Finish {
    let moved = Record {
        lane,
        due: now,
        ..record
    };
    Finish {
        id: moved.id,
        fate: Fate::Later(Box::new(moved)),
        report: None,
    }
}

/// The way of a queued message by the configuration of now, or why it has none.
fn route(context: &Context, record: &Record, headers: &Headers) -> Result<Route, String> {
    let policy = &context.settings.policy;
    let Origin::Client { user, .. } = &record.origin else {
        let route = policy.report_route().map(|(route, _)| route);
        return route.ok_or("no server can send reports: set default_from".into());
    };
    match policy.decide(
        &record.envelope.sender,
        &headers.author(),
        policy.caller(user),
    ) {
        Decision::Route(route) => Ok(route),
        Decision::Refused(refusal) => Err(format!(
            "the configuration refuses it now: {}",
            refusal.reply
        )),
    }
}

fn compose(lane: &Lane, record: &Record, headers: &Headers, route: &Route) -> Composed {
    let host = &lane.context.settings.host;
    if route.reason == Reason::Report {
        // Written by us, complete.
        let head = headers.slice(&(0..headers.body)).to_vec();
        return Composed {
            head,
            body: headers.body,
        };
    }
    let (helo, peer, protocol) = match &record.origin {
        Origin::Client {
            helo,
            peer,
            protocol,
            ..
        } => (helo.as_str(), peer.as_str(), protocol.as_str()),
        Origin::Report(_) => ("localhost", "127.0.0.1", "ESMTP"),
    };
    let trace = Trace {
        id: record.id,
        received: record.received,
        helo,
        peer,
        protocol,
        host,
    };
    rewrite::compose(headers, &record.envelope, &route.plan, &trace)
}
