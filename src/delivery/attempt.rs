//! One attempt at one message: routed, rewritten, sent, judged.

use bytes::Bytes;
use tokio::io::AsyncSeekExt;

use super::lane::Lane;
use super::outcome::{self, Reaction, Verdict};
use super::scheduler::Context;
use super::settle::settle;
use super::trouble::{Trouble, passing, reaction, server_trouble, signing_in, token_trouble};
use crate::base::{MessageId, Timestamp};
use crate::message::rewrite::{self, Composed};
use crate::message::{Envelope, Headers, Trace};
use crate::observe::maillog;
use crate::routing::{Decision, Reason, Route};
use crate::session::{Reply, Stage};
use crate::spool::{Content, Fate, Finish, Leased, New, Origin, Record, SpoolError};
use crate::upstream::{Outgoing, Session, Transcript};

/// How an attempt ended.
pub(super) enum Ended {
    /// The message has a fate.
    Finished(Box<Finish>),
    /// Nothing happened to it: it goes back as it was.
    Released,
    /// The server needs a person; the message goes back as it was.
    ServerHeld(String),
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
            let now = lane.context.clock.now();
            return Ended::Finished(Box::new(moved(record, route.server, now)));
        }
        Err(reason) => return held(record, reason),
    };
    let composed = compose(lane, &record, &headers, &route);
    let sent = transmit(
        lane,
        session,
        &record.envelope,
        &route,
        &composed,
        &content,
        false,
    )
    .await;
    match sent {
        Ok(transcript) => {
            let count = record.envelope.recipients.len();
            let Transcript {
                mail,
                recipients,
                message,
            } = &transcript;
            let verdict = outcome::judge(count, mail, recipients, message.as_ref());
            settle(lane, record, verdict, None, &head[..headers.end])
        }
        Err(Trouble::Server { reason, .. }) => Ended::ServerHeld(reason),
        Err(Trouble::Spool(error)) => unreadable(record, &error),
        Err(Trouble::Passing {
            reason, uncertain, ..
        }) => {
            let everyone = (0..record.envelope.recipients.len()).collect();
            let verdict = Verdict {
                deferred: everyone,
                ..Verdict::default()
            };
            let record = Record {
                uncertain: record.uncertain || uncertain,
                ..record
            };
            settle(lane, record, verdict, Some(reason), &head[..headers.end])
        }
    }
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
    let epoch = lane.epoch();
    let (_permit, mut session) = lane.session().await;
    let sent = transmit(
        lane,
        &mut session,
        &record.envelope,
        &route,
        &composed,
        content,
        true,
    )
    .await;
    lane.park(session, epoch);
    match sent {
        Ok(transcript) => answer_of(transcript),
        Err(Trouble::Passing { reason, reply, .. }) => temporary(reply, reason),
        Err(Trouble::Server { reason, reply }) => {
            lane.hold(reason.clone());
            temporary(reply, reason)
        }
        Err(Trouble::Spool(_)) => Reply::try_again(),
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
        SpoolError::Missing(_) | SpoolError::Closed => Ended::Released,
        error => held(record, format!("its content cannot be read: {error}")),
    }
}

pub(super) fn held(mut record: Record, reason: String) -> Ended {
    maillog::held(record.id, &reason);
    record.last = Some(reason);
    finished(record.id, Fate::Held(Box::new(record)), None)
}

pub(super) fn finished(id: MessageId, fate: Fate, report: Option<New>) -> Ended {
    Ended::Finished(Box::new(Finish { id, fate, report }))
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

/// Sends over the session at hand or a new one. A kept session that proves dead before anything was
/// said, and one that the server does not take for signed in, are each replaced once.
async fn transmit(
    lane: &Lane,
    session: &mut Option<Session>,
    envelope: &Envelope,
    route: &Route,
    composed: &Composed,
    content: &Content,
    all_or_none: bool,
) -> Result<Transcript, Trouble> {
    let (mut was_kept, mut fresh_token) = (session.is_some(), false);
    loop {
        let mut current = match session.take() {
            Some(current) => current,
            None => open(lane, fresh_token).await?,
        };
        let outgoing = Outgoing {
            sender: &route.plan.envelope_sender,
            envelope,
            head: &composed.head,
            body: body(content, composed.body).await.map_err(Trouble::Spool)?,
            utf8_header: !composed.head.is_ascii(),
            all_or_none,
        };
        match current.send(outgoing).await {
            Ok(transcript) => {
                let not_signed_in =
                    outcome::of_reply(Stage::Mail, &transcript.mail) == Reaction::FreshToken;
                if !not_signed_in {
                    // A server that is too busy for a message is relieved of the session as well.
                    let is_busy = transcript
                        .message
                        .as_ref()
                        .is_some_and(|(_, reply)| reply.is_transient());
                    match is_busy || current.is_spent() {
                        true => current.quit().await,
                        false => *session = Some(current),
                    }
                    return Ok(transcript);
                }
                if std::mem::replace(&mut fresh_token, true) {
                    return Err(server_trouble(lane, &transcript.mail, None));
                }
            }
            Err(failure) if was_kept && failure.stage() == Stage::Mail => {}
            Err(failure) => return Err(passing(&failure)),
        }
        was_kept = false;
    }
}

async fn body(
    content: &Content,
    from: usize,
) -> Result<crate::upstream::session::Body, SpoolError> {
    use crate::upstream::session::Body;
    match content {
        Content::Memory(bytes) => Ok(Body::Memory(Bytes::slice(bytes, from..))),
        Content::File(file) => {
            let mut open = file.open().await?;
            let failed = |error: std::io::Error| SpoolError::Io {
                path: "content".into(),
                source: error.into(),
            };
            open.seek(std::io::SeekFrom::Start(from as u64))
                .await
                .map_err(failed)?;
            Ok(Body::File(open, content.size() - from as u64))
        }
    }
}

/// A new session, signed in; a token that is refused is replaced once.
async fn open(lane: &Lane, fresh_token: bool) -> Result<Session, Trouble> {
    let server = &lane.server;
    let Some(source) = &server.token else {
        return Session::open(&server.upstream, None)
            .await
            .map_err(|failure| signing_in(lane, &failure));
    };
    let token_trouble = |error| token_trouble(&server.name, &error);
    let mut access = source.get().await.map_err(token_trouble)?;
    if fresh_token {
        access = source
            .after_rejection(&access)
            .await
            .map_err(token_trouble)?;
    }
    match Session::open(&server.upstream, Some(&access.token)).await {
        Err(failure) if reaction(&failure) == Reaction::FreshToken && !fresh_token => {
            let access = source
                .after_rejection(&access)
                .await
                .map_err(token_trouble)?;
            let again = Session::open(&server.upstream, Some(&access.token)).await;
            again.map_err(|failure| signing_in(lane, &failure))
        }
        opened => opened.map_err(|failure| signing_in(lane, &failure)),
    }
}
