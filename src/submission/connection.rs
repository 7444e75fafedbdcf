//! A client session: passes the client's bytes to the machine, answers the machine's questions, and sends
//! the replies.

mod message;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::shared::{Shared, SubmissionOptions};
use super::{permission, wording};
use crate::base::{MessageId, limits};
use crate::door::counts::Share;
use crate::door::stream::{self, ClientStream};
use crate::door::usage::{Amount, LimitOwner};
use crate::door::{
    Door, DoorLimits, DoorSettings, Endpoint, NotSignedIn, Stopping, User, UserSlot, Visitor,
};
use crate::message::{Address, Recipient, ReversePath};
use crate::observe::maillog;
use crate::smtp::auth::Credentials;
use crate::smtp::{Event, Machine, Protection, Reply};
use crate::spool::ContentWriter;

/// The first two bytes of a TLS handshake record (RFC 8446 §5.1).
const TLS_HANDSHAKE: [u8; 2] = [0x16, 0x03];

/// A session in progress.
pub(super) struct Connection {
    stream: Option<ClientStream>,
    peer: IpAddr,
    endpoint: Arc<Endpoint>,
    options: Arc<SubmissionOptions>,
    /// The listener and its options as currently configured.
    current: (Arc<ArcSwap<Endpoint>>, Arc<ArcSwap<SubmissionOptions>>),
    machine: Machine,
    input: BytesMut,
    incoming: Option<Incoming>,
    share: Share,
    user_slot: Option<UserSlot>,
    door: Arc<Door>,
    shared: Arc<Shared>,
    stopping: watch::Receiver<Stopping>,
    ends: Instant,
}

/// The message that is being received.
struct Incoming {
    id: MessageId,
    writer: ContentWriter,
    since: Instant,
    octets: u64,
}

/// The reason why a session ends early.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the client closed the connection")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("TLS: {0}")]
    Tls(String),
    #[error("the client does not read its replies")]
    Stalled,
    #[error(
        "the client closed the connection after LF . LF, but only CR LF . CR LF ends a message: let the app end its lines in CR LF"
    )]
    Unended,
}

impl Connection {
    pub(super) fn new(
        visitor: Visitor,
        options: Arc<ArcSwap<SubmissionOptions>>,
        shared: Arc<Shared>,
    ) -> Self {
        let Visitor {
            stream,
            peer,
            endpoint: current,
            door,
        } = visitor;
        let endpoint = current.load_full();
        let settings = door.settings.load_full();
        let implicit = matches!(stream, ClientStream::Tls(_));
        let protection = Protection {
            offers_tls: endpoint.tls.is_some() && !implicit,
            tls: implicit,
            plaintext: endpoint.plaintext,
            plaintext_auth: endpoint.plaintext_auth,
        };
        let may = |name: &str| endpoint.by_network && endpoint.admits(name);
        let user = settings.users.by_network(peer, may);
        let name = user.map(|user| user.name.clone());
        let mut connection = Self {
            stream: Some(stream),
            peer,
            machine: Machine::new(options.load().session.clone(), protection, name),
            endpoint,
            options: options.load_full(),
            current: (current, options),
            input: BytesMut::new(),
            incoming: None,
            share: Share::none_of(&door.memory),
            user_slot: None,
            stopping: door.stopping(),
            ends: Instant::now() + settings.limits.session_time,
            door,
            shared,
        };
        connection
            .machine
            .assume_from(connection.options.assume_from.clone());
        connection
    }

    /// Counts the session for the user whom the client's network implies, if there is one.
    async fn arrive(&mut self) {
        let settings = self.door.settings.load_full();
        let user = self.machine.user();
        if let Some(user) = user.and_then(|name| settings.users.get(name))
            && let Err(reply) = self.becomes(user).await
        {
            // The refusal replaces the greeting.
            self.machine.take_output();
            self.machine.close(&reply);
        }
    }

    /// Serves the client. If this side ended the session, returns the stream, which is still to be closed.
    pub(super) async fn run(mut self) -> Option<ClientStream> {
        self.arrive().await;
        match self.converse().await {
            Ok(()) => return self.stream,
            Err(Broken::Closed) if self.machine.lacks_tls() => {
                maillog::left_without_tls(&self.endpoint.name, &self.peer);
                self.remember("left without STARTTLS");
            }
            Err(Broken::Closed) if self.machine.is_between_messages() => {}
            Err(broken) => {
                maillog::session_failed(&self.endpoint.name, &self.peer, &broken);
                if matches!(broken, Broken::Tls(_)) {
                    self.remember(&broken.to_string());
                }
            }
        }
        None
    }

    async fn converse(&mut self) -> Result<(), Broken> {
        loop {
            let is_recorded = self.door.records(self.peer, self.machine.user());
            self.machine.transcript().switch(is_recorded);
            let event = self.machine.next(&mut self.input);
            if is_recorded {
                self.log_dialogue();
            }
            for reply in self.machine.take_refusals() {
                self.session_refused(&reply);
            }
            match event {
                Event::NeedInput => {
                    if !self.takes_memory(0) && self.incoming.is_none() {
                        let reply = wording::out_of_memory_closing();
                        self.session_refused(&reply);
                        self.machine.close(&reply);
                        continue;
                    }
                    self.flush().await?;
                    self.read().await?;
                }
                Event::Authenticate(credentials) => self.authenticate(credentials).await,
                Event::Sender(sender) => self.sender(&sender),
                Event::Recipient(recipient) => self.recipient(&recipient),
                Event::Data => self.data().await,
                Event::Content => self.content().await,
                Event::Message(envelope) => {
                    let reply = self.message(envelope).await;
                    self.machine.answer(reply);
                }
                Event::Discard => self.incoming = None,
                Event::StartTls => self.start_tls().await?,
                Event::Close => return self.flush().await,
            }
        }
    }

    fn log_dialogue(&mut self) {
        let user = self.machine.user().map(str::to_owned);
        let transcript = self.machine.transcript();
        let listener = &self.endpoint.name;
        self.door
            .log_dialogue(listener, self.peer, user.as_deref(), transcript);
    }

    fn stream(&mut self) -> Result<&mut ClientStream, Broken> {
        self.stream.as_mut().ok_or(Broken::Closed)
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        let replies = self.machine.take_output();
        if replies.is_empty() {
            return Ok(());
        }
        let patience = self.door.settings.load().limits.idle_time;
        let stream = self.stream()?;
        let written = timeout(patience, async {
            stream.write_all(&replies).await?;
            stream.flush().await
        });
        Ok(written.await.map_err(|_| Broken::Stalled)??)
    }

    /// Reads more input. Silence, slowness, the session's time limit and the program's shutdown each close
    /// the session with a 421 of their own.
    async fn read(&mut self) -> Result<(), Broken> {
        let message = self.incoming.as_ref().map(|it| (it.since, it.octets));
        let limits = &self.door.settings.load().limits;
        let ends = self.machine.is_between_messages().then_some(self.ends);
        let (until, reply) = patience(limits, ends, message, Instant::now());
        let enough = if self.machine.is_between_messages() {
            Stopping::BetweenMessages
        } else {
            Stopping::AtOnce
        };
        let stream = self.stream.as_mut().ok_or(Broken::Closed)?;
        let input = &mut self.input;
        let reading = async {
            if input.is_empty() {
                // An idle session holds no buffer.
                *input = BytesMut::new();
                stream::readable(stream).await?;
            }
            input.reserve(limits::READ_CHUNK);
            stream.read_buf(input).await
        };
        let read = tokio::select! {
            read = timeout_at(until, reading) => read.map_err(|_| reply),
            _ = self.stopping.wait_for(|stopping| *stopping >= enough) => {
                Err(wording::shutting_down())
            }
        };
        match read {
            Ok(Ok(0)) if self.machine.ends_in_lf_dot_lf() => return Err(Broken::Unended),
            Ok(Ok(0)) => return Err(Broken::Closed),
            // Many clients close without TLS's own `close_notify` (RFC 8446 §6.1).
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(Broken::Closed);
            }
            Ok(octets) => self.has_read(octets? as u64),
            Err(_) if self.machine.ends_in_lf_dot_lf() => {
                let reply = wording::unended_message();
                self.session_refused(&reply);
                self.machine.close(&reply);
            }
            Err(reply) => {
                let reply = self.instead_of(reply);
                self.machine.close(&reply);
            }
        }
        Ok(())
    }

    /// Chooses the reply to a timeout, and logs it. Silence between messages is logged only after a command
    /// that ends in a bare LF instead of CRLF, or if the session's time is over.
    fn instead_of(&self, reply: Reply) -> Reply {
        let reply = if self.input.ends_with(b"\n") {
            wording::unended()
        } else {
            reply
        };
        let is_news = [wording::unended(), wording::session_time()].contains(&reply);
        if is_news || !self.machine.is_between_messages() {
            self.session_refused(&reply);
        }
        reply
    }

    fn has_read(&mut self, octets: u64) {
        if self.machine.is_before_helo_in_clear() && self.input.starts_with(&TLS_HANDSHAKE) {
            let reply = Reply::tls_in_clear();
            maillog::tls_unexpected(&self.endpoint.name, &self.peer);
            self.remember(&reply.to_string());
            self.input.clear();
            return self.machine.close(&reply);
        }
        let Some(incoming) = &mut self.incoming else {
            return;
        };
        incoming.octets += octets;
        if !self.takes_memory(0) {
            self.machine.refuse_message(wording::out_of_memory());
            self.incoming = None;
        }
    }

    /// Reserves the memory for unread input, for the current message and its recipients, and for `more`
    /// octets. Returns true if there is enough.
    fn takes_memory(&mut self, more: usize) -> bool {
        let written = self.incoming.as_ref().map_or(0, |it| it.writer.in_memory());
        let read = self.machine.envelope_held() + self.machine.content_held();
        let held = self.input.len() + read + written + more;
        let most = self.door.settings.load().limits.memory;
        self.share.resize(held as u64, most)
    }

    async fn start_tls(&mut self) -> Result<(), Broken> {
        self.flush().await?;
        self.input.clear();
        let (Some(stream), Some(config)) = (self.stream.take(), self.endpoint.tls().cloned())
        else {
            return Err(Broken::Closed);
        };
        let shaken = timeout(limits::TLS_HANDSHAKE, stream::start_tls(stream, config)).await;
        let slow = |_| Broken::Tls("the client did not complete the handshake in time".into());
        self.stream = Some(
            shaken
                .map_err(slow)?
                .map_err(|error| Broken::Tls(stream::tls_words(&error)))?,
        );
        self.machine.tls_established();
        Ok(())
    }

    async fn authenticate(&mut self, credentials: Credentials) {
        let Credentials { name, password } = credentials;
        let (door, endpoint) = (self.door.clone(), self.endpoint.clone());
        let signed_in = door.sign_in(&endpoint, self.peer, &name, password);
        match signed_in.await {
            Ok(()) => {}
            Err(NotSignedIn::Wrong) => return self.machine.answer(Reply::bad_credentials()),
            Err(NotSignedIn::ShutOut { why, is_new }) => {
                let reply = wording::turned_away(&why);
                if is_new {
                    self.machine.answer(Reply::bad_credentials());
                } else {
                    self.is_turned_away(&reply);
                }
                return self.machine.close(&reply);
            }
            Err(NotSignedIn::Unavailable) => {
                return self.machine.answer(Reply::auth_unavailable());
            }
        }
        let settings = door.settings.load_full();
        let Some(user) = settings.users.get(&name) else {
            return self.machine.answer(Reply::auth_unavailable());
        };
        match self.becomes(user).await {
            Ok(()) => self.machine.answer(Reply::authenticated()),
            Err(reply) => self.machine.close(&reply),
        }
    }

    fn is_turned_away(&self, reply: &Reply) {
        let said = reply.to_string();
        maillog::turned_away(&self.endpoint.name, &self.peer, said.as_bytes());
        self.remember(&said);
    }

    /// Makes this the session's user, unless the user already has too many sessions.
    async fn becomes(&mut self, user: &User) -> Result<(), Reply> {
        // If the client's network had already implied this same user, the session counts for that user
        // already. It must not count twice.
        self.user_slot = None;
        let place = self.door.user_slot(user).await.map_err(|why| {
            let reply = wording::turned_away(&why);
            self.is_turned_away(&reply);
            reply
        });
        self.user_slot = Some(place?);
        let assumed = user.assume_from.as_ref();
        let assumed = assumed.or(self.options.assume_from.as_ref());
        self.machine.assume_from(assumed.cloned());
        Ok(())
    }

    /// Checks access again, because a configuration change may have excluded this client or user.
    fn is_still_let_in(&mut self) -> Result<(), Reply> {
        self.endpoint = self.current.0.load_full();
        self.options = self.current.1.load_full();
        if !self.endpoint.serves(self.peer) {
            return Err(wording::no_access(self.peer));
        }
        if self
            .endpoint
            .admits(self.machine.user().unwrap_or_default())
        {
            Ok(())
        } else {
            Err(Reply::auth_required())
        }
    }

    fn sender(&mut self, sender: &ReversePath) {
        // The last message may have run past the session's time limit.
        let in_time = if self.ends <= Instant::now() {
            Err(wording::session_time())
        } else {
            Ok(())
        };
        if let Err(reply) = in_time.and_then(|()| self.is_still_let_in()) {
            self.session_refused(&reply);
            return self.machine.close(&reply);
        }
        let (settings, at_door) = (self.shared.settings.load(), self.door.settings.load_full());
        let first = Amount {
            messages: 1,
            recipients: 1,
        };
        let user = self.machine.user().unwrap_or_default();
        let caller = settings.policy.caller(user, &self.endpoint.name);
        let may_send =
            |user| permission::sender(user, sender).map_err(|why| wording::not_allowed(&why));
        let allowed = self
            .user(&at_door)
            .and_then(may_send)
            .and_then(|()| self.check_limits(&at_door, first));
        let refusal = allowed.err().or_else(|| {
            let refused = settings.policy.refuses_at_mail(sender, caller);
            refused.map(|why| wording::not_routed(&why))
        });
        drop(settings);
        if let Some(reply) = &refusal {
            self.refused(sender, None, reply);
        }
        self.machine.answer(refusal.unwrap_or(Reply::sender_ok()));
    }

    fn recipient(&mut self, recipient: &Recipient) {
        let settings = self.door.settings.load_full();
        let so_far = Amount {
            messages: 1,
            recipients: self.machine.recipients() as u64 + 1,
        };
        let allowed = self
            .user(&settings)
            .and_then(|user| {
                let allowed = permission::recipient(user, &recipient.address);
                allowed.map_err(|why| wording::not_allowed(&why))?;
                self.routes_to(user, &recipient.address)
            })
            .and_then(|()| self.check_limits(&settings, so_far));
        let allowed = allowed.and_then(|()| {
            if self.takes_memory(recipient.held()) {
                Ok(())
            } else {
                Err(wording::out_of_memory())
            }
        });
        if let (Err(reply), Some(sender)) = (&allowed, self.machine.sender()) {
            self.refused(sender, Some(recipient), reply);
        }
        self.machine
            .answer(allowed.err().unwrap_or(Reply::recipient_ok()));
    }

    /// Checks that a server takes mail to this recipient, as far as this can be known before the header.
    fn routes_to(&self, user: &User, recipient: &Address) -> Result<(), Reply> {
        let (settings, sender) = (self.shared.settings.load(), self.machine.sender());
        let caller = settings.policy.caller(&user.name, &self.endpoint.name);
        let sender = sender.unwrap_or(&ReversePath::Null);
        match settings.policy.refuses_at_rcpt(sender, recipient, caller) {
            Some(why) => Err(wording::not_routed(&why)),
            None => Ok(()),
        }
    }

    fn refused(&self, sender: &ReversePath, recipient: Option<&Recipient>, reply: &Reply) {
        let user = self.machine.user().unwrap_or_default();
        let to = recipient.map(|recipient| &recipient.address);
        maillog::refused(user, &self.peer, sender, to, reply);
        self.remember(&reply.to_string());
    }

    fn session_refused(&self, reply: &Reply) {
        let user = self.machine.user().unwrap_or_default();
        maillog::refused_command(&self.endpoint.name, user, &self.peer, reply);
        self.remember(&reply.to_string());
    }

    /// Remembers a refusal for `mailferry clients`.
    fn remember(&self, said: &str) {
        let user = self.machine.user().unwrap_or_default();
        self.door
            .refused(&self.endpoint.name, self.peer, user, said);
    }

    /// Returns the session's user, or a refusal if the configuration no longer has that user.
    fn user<'s>(&self, settings: &'s DoorSettings) -> Result<&'s User, Reply> {
        let user = settings.users.get(self.machine.user().unwrap_or_default());
        user.ok_or(Reply::auth_required())
    }

    /// Checks that the user and the listener stay within their limits if they send this amount in addition.
    fn check_limits(&self, settings: &DoorSettings, amount: Amount) -> Result<(), Reply> {
        let user = self.user(settings)?;
        let (usage, endpoint) = (&self.door.usage, &self.endpoint);
        let checked = usage
            .check(who(user), &user.limits, amount)
            .and_then(|()| usage.check(here(endpoint), &endpoint.limits, amount));
        checked.map_err(|over| wording::over_limit(&over))
    }

    async fn data(&mut self) {
        if !self.shared.spool.has_room().await {
            let reply = wording::out_of_space();
            self.session_refused(&reply);
            return self.machine.answer(reply);
        }
        let id = self.shared.spool.next_id(self.shared.clock.now());
        self.incoming = Some(Incoming {
            id,
            writer: self.shared.spool.writer(id),
            since: Instant::now(),
            octets: 0,
        });
        self.machine.answer(Reply::go_ahead());
    }
}

/// Returns the deadline for more input, and the reply to send if the deadline passes. The deadline is the
/// earliest of three: the end of the allowed silence, the session's end (if no message is under way), and the
/// time when the current message becomes too slow for the octets received so far.
fn patience(
    limits: &DoorLimits,
    ends: Option<Instant>,
    message: Option<(Instant, u64)>,
    now: Instant,
) -> (Instant, Reply) {
    let first = (now + limits.idle_time, wording::idle());
    let session = ends.map(|ends| (ends, wording::session_time()));
    let slow = message.filter(|_| limits.minimum_rate > 0);
    let slow = slow.map(|(since, octets)| {
        let allowed = Duration::from_secs(octets / limits.minimum_rate);
        (since + limits::RATE_GRACE + allowed, wording::too_slow())
    });
    let others = session.into_iter().chain(slow);
    others.fold(
        first,
        |first, next| if next.0 < first.0 { next } else { first },
    )
}

/// Returns the user as an owner of limits.
fn who(user: &User) -> LimitOwner<'_> {
    LimitOwner::User(&user.name)
}

/// Returns the listener as an owner of limits.
fn here(endpoint: &Endpoint) -> LimitOwner<'_> {
    LimitOwner::Listener(&endpoint.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_slowness_and_the_sessions_time_each_have_their_end() {
        let (now, limits) = (Instant::now(), DoorLimits::default());
        let at = |seconds| now + Duration::from_secs(seconds);
        let patience = |ends, message: Option<_>| {
            let ends = message.is_none().then_some(at(ends));
            patience(&limits, ends, message, now)
        };
        assert_eq!(patience(3_600, None), (at(300), wording::idle()));
        assert_eq!(patience(10, None), (at(10), wording::session_time()));
        let begun = |octets| Some((now, octets));
        assert_eq!(patience(3_600, begun(0)), (at(60), wording::too_slow()));
        assert_eq!(patience(10, begun(1_000_000)), (at(300), wording::idle()));
        assert_eq!(patience(3_600, begun(1_000)), (at(70), wording::too_slow()));
        assert_eq!(
            patience(3_600, begun(1_000_000)),
            (at(300), wording::idle())
        );
        let any = DoorLimits {
            minimum_rate: 0,
            ..limits.clone()
        };
        let (until, _) = super::patience(&any, None, begun(0), now);
        assert_eq!(until, at(300));
    }
}
