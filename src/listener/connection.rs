//! One client: bytes to the machine, the machine's questions to the world, its replies back.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::accept::{Place, Shared};
use super::stream::{self, Stream};
use super::{Endpoint, Settings};
use crate::base::{MessageId, limits};
use crate::message::{Envelope, Headers, Priority, ReversePath};
use crate::observe::maillog;
use crate::routing::{Decision, Route};
use crate::session::auth::Credentials;
use crate::session::{Event, Machine, Protection, Reply};
use crate::spool::{Content, ContentWriter, New, Origin, Record, SpoolError, State};

/// A session at work.
pub(super) struct Connection {
    stream: Option<Stream>,
    peer: IpAddr,
    tls: Option<Arc<rustls::ServerConfig>>,
    priority: Option<Priority>,
    machine: Machine,
    input: BytesMut,
    incoming: Option<(MessageId, ContentWriter)>,
    shared: Arc<Shared>,
    stopping: watch::Receiver<bool>,
    ends: Instant,
}

/// Why a session ends early.
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
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        peer: IpAddr,
        endpoint: &Endpoint,
        shared: Arc<Shared>,
    ) -> Self {
        let settings = shared.settings.load();
        let protection = Protection {
            offers_tls: endpoint.tls.is_some(),
            tls: false,
            plaintext: endpoint.plaintext,
        };
        let user = settings.users.by_network(peer).map(str::to_owned);
        Self {
            stream: Some(Stream::Plain(stream)),
            peer,
            tls: endpoint.tls.clone(),
            priority: endpoint.priority,
            machine: Machine::new(settings.session.clone(), protection, user),
            input: BytesMut::new(),
            incoming: None,
            stopping: shared.stopping(),
            ends: Instant::now() + settings.session_time,
            shared: shared.clone(),
        }
    }

    pub(super) async fn run(mut self, _place: Place) {
        if let Err(broken) = self.converse().await
            && !(matches!(broken, Broken::Closed) && self.machine.is_between_messages())
        {
            maillog::session_failed(&self.peer.to_string(), &broken);
        }
    }

    async fn converse(&mut self) -> Result<(), Broken> {
        loop {
            match self.machine.next(&mut self.input) {
                Event::NeedInput => {
                    self.flush().await?;
                    self.read().await?;
                }
                Event::Authenticate(credentials) => self.authenticate(credentials).await,
                Event::Sender(sender) => self.sender(&sender),
                Event::Recipient(_) => self.machine.answer(Reply::recipient_ok()),
                Event::Data => self.data(),
                Event::Content => self.content().await,
                Event::Message(envelope) => {
                    let reply = self.message(envelope).await;
                    self.machine.answer(reply);
                }
                Event::Discard => self.incoming = None,
                Event::StartTls => self.start_tls().await?,
                Event::Close => {
                    self.flush().await?;
                    if let Some(stream) = &mut self.stream {
                        // The client may be gone already.
                        let _ = timeout(limits::upstream::QUIT, stream.shutdown()).await;
                    }
                    return Ok(());
                }
            }
        }
    }

    fn stream(&mut self) -> Result<&mut Stream, Broken> {
        self.stream.as_mut().ok_or(Broken::Closed)
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        let replies = self.machine.take_output();
        if replies.is_empty() {
            return Ok(());
        }
        let patience = self.shared.settings.load().idle_time;
        let stream = self.stream()?;
        let written = timeout(patience, async {
            stream.write_all(&replies).await?;
            stream.flush().await
        });
        Ok(written.await.map_err(|_| Broken::Stalled)??)
    }

    /// Reads on; silence, the session's end and the program's end close it with their 421, the last
    /// only where nothing is under way.
    async fn read(&mut self) -> Result<(), Broken> {
        let idle_time = self.shared.settings.load().idle_time;
        let is_free = self.machine.is_between_messages();
        let until = self.ends.min(Instant::now() + idle_time);
        let stream = self.stream.as_mut().ok_or(Broken::Closed)?;
        let input = &mut self.input;
        let reading = async {
            if input.is_empty() {
                // What is idle holds no buffer.
                *input = BytesMut::new();
                stream::readable(stream).await?;
            }
            input.reserve(limits::READ_CHUNK);
            stream.read_buf(input).await
        };
        tokio::select! {
            read = timeout_at(until, reading) => match read {
                Ok(Ok(0)) => return Err(Broken::Closed),
                Ok(read) => drop(read?),
                Err(_) if until == self.ends => self.machine.close(&Reply::session_time()),
                Err(_) => self.machine.close(&Reply::idle()),
            },
            _ = self.stopping.wait_for(|stopping| *stopping), if is_free => {
                self.machine.close(&Reply::shutting_down());
            }
        }
        Ok(())
    }

    async fn start_tls(&mut self) -> Result<(), Broken> {
        self.flush().await?;
        self.input.clear();
        let (Some(stream), Some(config)) = (self.stream.take(), self.tls.clone()) else {
            return Err(Broken::Closed);
        };
        let shaken = timeout(limits::TLS_HANDSHAKE, stream::start_tls(stream, config)).await;
        let slow = |_| Broken::Tls("the client did not shake hands in time".into());
        self.stream = Some(
            shaken
                .map_err(slow)?
                .map_err(|error| Broken::Tls(error.to_string()))?,
        );
        self.machine.tls_established();
        Ok(())
    }

    async fn authenticate(&mut self, credentials: Credentials) {
        let Credentials { name, password } = credentials;
        let settings = self.shared.settings.load_full();
        let reply = match settings.users.verify(&name, password).await {
            Ok(true) => Reply::authenticated(),
            Ok(false) => {
                maillog::auth_failed(&name, &self.peer.to_string());
                Reply::bad_credentials()
            }
            Err(_) => Reply::auth_unavailable(),
        };
        self.machine.answer(reply);
    }

    fn sender(&mut self, sender: &ReversePath) {
        let settings = self.shared.settings.load();
        let user = self.machine.user().unwrap_or_default();
        let reply = match settings
            .policy
            .refuses_at_mail(sender, settings.policy.caller(user))
        {
            Some(reply) => {
                maillog::refused(user, &self.peer.to_string(), &sender.to_string(), &reply);
                reply
            }
            None => Reply::sender_ok(),
        };
        self.machine.answer(reply);
    }

    fn data(&mut self) {
        if !self.shared.spool.has_room() {
            return self.machine.answer(Reply::out_of_space());
        }
        let id = self.shared.spool.next_id(self.shared.clock.now());
        self.incoming = Some((id, self.shared.spool.writer(id)));
        self.machine.answer(Reply::go_ahead());
    }

    async fn content(&mut self) {
        let piece = self.machine.take_content();
        let Some((id, writer)) = &mut self.incoming else {
            return;
        };
        if let Err(error) = writer.write(piece).await {
            maillog::spool_failed(*id, &error);
            self.machine.refuse_message(refusal_of(&error));
            self.incoming = None;
        }
    }

    /// The whole message is here: what is it answered?
    async fn message(&mut self, envelope: Envelope) -> Reply {
        let Some((id, mut writer)) = self.incoming.take() else {
            return Reply::try_again();
        };
        let stored = async {
            writer.write(self.machine.take_content()).await?;
            let content = writer.finish().await?;
            let head = content.head().await?;
            Ok::<_, SpoolError>((content, head))
        };
        let (content, head) = match stored.await {
            Ok(stored) => stored,
            Err(error) => return self.not_taken(id, &error),
        };
        let settings = self.shared.settings.load_full();
        let route = match self.route(&settings, id, &envelope, &head) {
            Ok(route) => route,
            Err(reply) => return reply,
        };
        let mut record = self.record(id, envelope, &route, content.size());
        record.priority = self.priority(&settings, &head);
        match settings.direct.contains(&route.server) {
            true => self.send_direct(record, content).await,
            false => self.put(record, content, &route).await,
        }
    }

    fn route(
        &self,
        settings: &Settings,
        id: MessageId,
        envelope: &Envelope,
        head: &[u8],
    ) -> Result<Route, Reply> {
        let headers = Headers::parse(head);
        let user = self.machine.user().unwrap_or_default();
        let decision = match headers.body > limits::HEADER_SECTION {
            true => Err(Reply::header_too_large()),
            false => {
                let caller = settings.policy.caller(user);
                match settings
                    .policy
                    .decide(&envelope.sender, &headers.author(), caller)
                {
                    Decision::Route(route) => Ok(route),
                    Decision::Refused(refusal) => Err(refusal.reply),
                }
            }
        };
        decision.inspect_err(|reply| {
            maillog::refused_message(id, user, &self.peer.to_string(), envelope, reply);
        })
    }

    fn record(&self, id: MessageId, envelope: Envelope, route: &Route, size: u64) -> Record {
        let now = self.shared.clock.now();
        let peer = match self.peer {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("IPv6:{address}"),
        };
        Record {
            id,
            received: now,
            origin: Origin::Client {
                user: self.machine.user().unwrap_or_default().to_owned(),
                peer,
                helo: self.machine.helo().to_owned(),
                protocol: self.machine.protocol().to_owned(),
            },
            envelope,
            size,
            lane: route.server.clone(),
            priority: Priority::Normal,
            state: State::Queued,
            due: now,
            attempts: 0,
            last: None,
            uncertain: false,
            warned: false,
        }
    }

    fn priority(&self, settings: &Settings, head: &[u8]) -> Priority {
        let user = self.machine.user().unwrap_or_default();
        let configured = settings.users.priority(user).or(self.priority);
        Priority::of(&Headers::parse(head), configured)
    }

    async fn put(&self, record: Record, content: Content, route: &Route) -> Reply {
        let (id, size) = (record.id, record.size);
        let envelope = record.envelope.clone();
        if let Err(error) = self.shared.spool.put(vec![New { record, content }]).await {
            return self.not_taken(id, &error);
        }
        let user = self.machine.user().unwrap_or_default();
        let reason = route.reason.to_string();
        maillog::accepted(
            id,
            user,
            &self.peer.to_string(),
            &envelope,
            size,
            &route.server,
            &reason,
        );
        Reply::queued(id)
    }

    async fn send_direct(&self, record: Record, content: Content) -> Reply {
        let reply = self.shared.direct.submit(&record, &content).await;
        let Record {
            id,
            envelope,
            lane,
            received,
            ..
        } = &record;
        match reply.is_positive() {
            true => {
                let to: Vec<_> = envelope.recipients.iter().map(|r| &r.address).collect();
                let waited: Duration = self.shared.clock.now().since(*received);
                maillog::delivered(*id, lane, &to, &reply.to_string(), waited);
            }
            false => {
                let user = self.machine.user().unwrap_or_default();
                maillog::refused_message(*id, user, &self.peer.to_string(), envelope, &reply);
            }
        }
        reply
    }

    fn not_taken(&self, id: MessageId, error: &SpoolError) -> Reply {
        maillog::spool_failed(id, error);
        refusal_of(error)
    }
}

fn refusal_of(error: &SpoolError) -> Reply {
    match error.is_full() {
        true => Reply::out_of_space(),
        false => Reply::try_again(),
    }
}
