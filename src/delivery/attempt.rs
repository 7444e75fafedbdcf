//! One attempt at one message: routed, rewritten, sent, judged.

use bytes::Bytes;
use tokio::io::AsyncSeekExt;

use super::bounce::{self, Failed, Report};
use super::lane::Lane;
use super::outcome::{self, Reaction, Verdict};
use super::scheduler::Context;
use crate::base::{MessageId, Timestamp};
use crate::message::rewrite::{self, Composed};
use crate::message::{Address, Envelope, Headers, Trace};
use crate::observe::maillog;
use crate::routing::{Decision, Reason, Route};
use crate::session::{Reply, Stage};
use crate::spool::{Content, Fate, Finish, Leased, New, Origin, Record, SpoolError, State};
use crate::token::TokenError;
use crate::upstream::{Auth, Failure, Outgoing, Session, Transcript};

/// How an attempt ended.
pub(super) enum Ended {
    /// The message has a fate.
    Finished(Box<Finish>),
    /// Nothing happened to it: it goes back as it was.
    Released,
    /// The server needs a person; the message goes back as it was.
    ServerHeld(String),
}

/// Why nothing was sent, or nothing is known of it.
pub(super) enum Trouble {
    /// It passes: what happened, whether the message may have arrived, and the server's words.
    Passing {
        reason: String,
        uncertain: bool,
        reply: Option<Reply>,
    },
    /// It needs a person.
    Server {
        reason: String,
        reply: Option<Reply>,
    },
    /// The spool cannot give the content.
    Spool(SpoolError),
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
            return Ended::Finished(Box::new(moved(record, route.server)));
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
    lane.park(session);
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

fn held(mut record: Record, reason: String) -> Ended {
    maillog::held(record.id, &reason);
    record.last = Some(reason);
    finished(record.id, Fate::Held(Box::new(record)), None)
}

fn finished(id: MessageId, fate: Fate, report: Option<New>) -> Ended {
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
        Ok(route) => Ok(moved(record, route.server)),
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

fn moved(record: Record, lane: String) -> Finish {
    let moved = Record {
        lane,
        due: Timestamp::now(),
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

fn reaction(failure: &Failure) -> Reaction {
    match failure.reply() {
        Some(reply) => outcome::of_reply(failure.stage(), reply),
        None => outcome::of_loss(failure.stage()),
    }
}

fn passing(failure: &Failure) -> Trouble {
    Trouble::Passing {
        reason: failure.to_string(),
        uncertain: reaction(failure) == Reaction::Uncertain,
        reply: failure.reply().cloned(),
    }
}

fn signing_in(lane: &Lane, failure: &Failure) -> Trouble {
    match (reaction(failure), failure.reply()) {
        (Reaction::FreshToken | Reaction::HoldServer, Some(reply)) => {
            server_trouble(lane, reply, Some(failure))
        }
        _ => passing(failure),
    }
}

/// The server does not let us in: what it said, and what mends it.
fn server_trouble(lane: &Lane, reply: &Reply, failure: Option<&Failure>) -> Trouble {
    let said = failure.map_or_else(|| reply.to_string(), Failure::to_string);
    let remedy = match &lane.server.upstream.auth {
        Auth::XOAuth2 { username } if reply.enhanced == "5.7.139" => format!(
            "SMTP AUTH is switched off: an Exchange administrator runs \
             Set-CASMailbox -Identity {username} -SmtpClientAuthenticationDisabled $false"
        ),
        Auth::XOAuth2 { username } => format!(
            "check that {username} is the mailbox the token is for, and that the app may send as it \
             (SMTP.Send for a user, SMTP.SendAsApp and a service principal for the app)"
        ),
        Auth::None => {
            "the server wants a sign-in: set `auth`, `username` and `password`".to_owned()
        }
        Auth::Plain { username, .. } | Auth::Login { username, .. } => {
            format!("check the password of {username}")
        }
    };
    Trouble::Server {
        reason: format!("{said}; {remedy}"),
        reply: Some(reply.clone()),
    }
}

fn token_trouble(server: &str, error: &TokenError) -> Trouble {
    let reason = format!("no token for {server}: {error}");
    match error.is_transient() {
        true => Trouble::Passing {
            reason,
            uncertain: false,
            reply: None,
        },
        false => Trouble::Server {
            reason,
            reply: None,
        },
    }
}

/// Turns a verdict into the message's fate, and a report where one is due. `reason` says why some are
/// to be tried again where no reply does.
fn settle(
    lane: &Lane,
    mut record: Record,
    verdict: Verdict,
    reason: Option<String>,
    head: &[u8],
) -> Ended {
    let server = lane.server.name.as_str();
    let now = Timestamp::now();
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
    let by_upstream = |(place, reply): (usize, Reply)| Failed {
        recipient: all[place].clone(),
        reply,
        by_upstream: true,
    };
    let mut failed: Vec<Failed> = verdict.failed.into_iter().map(by_upstream).collect();
    record.attempts += 1;
    let not_now = || verdict.not_now.as_ref().map(Reply::to_string);
    let last = reason.or_else(not_now).unwrap_or_default();
    let schedule = &lane.context.settings.schedule;
    let next = schedule.next(record.received, record.attempts, now, rand::random());
    let waiting = at(&verdict.deferred);
    let fate = match next {
        _ if waiting.is_empty() => Fate::Gone,
        Some(due) => {
            maillog::deferred(
                record.id,
                server,
                due,
                record.attempts,
                &last,
                record.uncertain,
            );
            let mut later = record.clone();
            later.envelope.recipients = waiting;
            later.due = due;
            later.last = Some(last);
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
    failed_fate(lane, record, fate, failed, head, now)
}

/// Reports what failed; what nobody can be told of is held, so that it does not vanish.
fn failed_fate(
    lane: &Lane,
    mut record: Record,
    fate: Fate,
    failed: Vec<Failed>,
    head: &[u8],
    now: Timestamp,
) -> Ended {
    let id = record.id;
    let wanted: Vec<Failed> = failed
        .into_iter()
        .filter(|f| bounce::is_wanted(&f.recipient))
        .collect();
    if wanted.is_empty() {
        return finished(id, fate, None);
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
            finished(
                id,
                fate,
                Some(New {
                    record,
                    content: Content::Memory(content.into()),
                }),
            )
        }
        _ => match fate {
            // Some recipients are still to be tried: the failed ones stay with them, to be judged again.
            Fate::Later(mut later) => {
                later
                    .envelope
                    .recipients
                    .extend(wanted.into_iter().map(|f| f.recipient));
                finished(id, Fate::Later(later), None)
            }
            _ => {
                let reply = wanted[0].reply.to_string();
                record.envelope.recipients = wanted.into_iter().map(|f| f.recipient).collect();
                held(
                    record,
                    format!("failed, and it has no sender to be told: {reply}"),
                )
            }
        },
    }
}
