//! The message over a session: the one at hand, or a new one, signed in.

use tokio::io::AsyncReadExt;

use super::lane::Lane;
use super::outcome::{self, Reaction};
use super::trouble::{Trouble, of_failure, reaction, refused, token_trouble};
use crate::base::Secret;
use crate::message::Envelope;
use crate::message::rewrite::Composed;
use crate::routing::Route;
use crate::session::Stage;
use crate::spool::{Content, SpoolError};
use crate::upstream::{Body, Failure, Link, Outgoing, Transcript};

/// Sends over the session at hand or a new one. A kept session that proves dead before anything was
/// said, and one that the server does not take for signed in, are each replaced once.
pub(super) async fn transmit(
    lane: &Lane,
    session: &mut Option<Box<dyn Link>>,
    envelope: &Envelope,
    route: &Route,
    composed: &Composed,
    content: &Content,
    all_or_none: bool,
) -> Result<Transcript, Trouble> {
    let service = lane.server.upstream.service;
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
                let not_signed_in = outcome::of_reply(service, Stage::Mail, &transcript.mail)
                    == Reaction::FreshToken;
                if !not_signed_in {
                    // A server that is too busy for a message is relieved of the session as well.
                    let is_busy = transcript
                        .message
                        .as_ref()
                        .is_some_and(|(_, reply)| reply.is_transient());
                    if is_busy || current.is_spent() {
                        current.quit().await;
                    } else {
                        *session = Some(current);
                    }
                    return Ok(transcript);
                }
                if std::mem::replace(&mut fresh_token, true) {
                    return Err(refused(lane, &transcript.mail));
                }
            }
            Err(failure) if was_kept && failure.stage() == Stage::Mail => {}
            Err(failure) => return Err(of_failure(lane, &failure)),
        }
        was_kept = false;
    }
}

async fn body(content: &Content, from: usize) -> Result<Body, SpoolError> {
    if let Some(bytes) = content.in_memory() {
        return Ok(Body::Memory(bytes.slice(from..)));
    }
    let (mut open, from) = (content.open().await?, from as u64);
    let mut head = (&mut open).take(from);
    tokio::io::copy(&mut head, &mut tokio::io::sink())
        .await
        .map_err(|error| SpoolError::io("content".as_ref(), error))?;
    Ok(Body::Stream(open, content.size() - from))
}

/// A new session, signed in; a token that is refused is replaced once.
async fn open(lane: &Lane, fresh_token: bool) -> Result<Box<dyn Link>, Trouble> {
    let (server, dial) = (&lane.server, &lane.context.dial);
    let Some(source) = &server.token else {
        let opened = dial.open(&server.upstream, None).await;
        return opened.map_err(|failure| of_failure(lane, &failure));
    };
    let token_trouble = |error| token_trouble(&server.name, &error);
    let mut access = source.get().await.map_err(token_trouble)?;
    if fresh_token {
        access = source
            .after_rejection(&access)
            .await
            .map_err(token_trouble)?;
    }
    let mut opened = sign_in(lane, &access.token).await;
    if !fresh_token && is_refused(lane, &opened) {
        let access = source
            .after_rejection(&access)
            .await
            .map_err(token_trouble)?;
        opened = sign_in(lane, &access.token).await;
    }
    opened.map_err(|failure| of_failure(lane, &failure))
}

/// Signs in with a token: for a shared mailbox by the name that worked last, else by the other one.
async fn sign_in(lane: &Lane, token: &Secret) -> Result<Box<dyn Link>, Failure> {
    let (server, dial) = (&lane.server, &lane.context.dial);
    if server.person().is_none() {
        return dial.open(&server.upstream, Some(token)).await;
    }
    let name = lane.mailbox.sign_in_name();
    let opened = dial.open(&server.upstream_as(name), Some(token)).await;
    if !is_refused(lane, &opened) {
        return opened;
    }
    let other = server.upstream_as(name.other());
    let again = dial.open(&other, Some(token)).await;
    if again.is_err() {
        return opened;
    }
    lane.mailbox.signed_in_as(name.other());
    again
}

/// Whether the server did not take the token, or not for this name.
fn is_refused<T>(lane: &Lane, opened: &Result<T, Failure>) -> bool {
    let service = lane.server.upstream.service;
    let failure = opened.as_ref().err();
    failure.is_some_and(|failure| reaction(service, failure) == Reaction::FreshToken)
}
