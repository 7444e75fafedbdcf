//! A client session: the conversation up to the sign-in, then the connection to the mailbox.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::error::NotReached;
use super::imap::ImapMachine;
use super::machine::{Event, Protection, SignInMachine};
use super::mailbox::Mailbox;
use super::pass::{self, Ended};
use super::pop3::Pop3Machine;
use super::protocol::ReadingProtocol;
use super::refused::Refused;
use super::shared::Shared;
use super::upstream::{SignedIn, UpstreamError};
use crate::base::limits;
use crate::door::stream::{self, ClientStream};
use crate::door::{Door, Endpoint, NotSignedIn, Stopping, UserSlot, Visitor};
use crate::observe::maillog;
use crate::platform::sockets;
use crate::smtp::auth::Credentials;
use crate::token::TokenError;

/// The time that the last words to a client may take.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A session in progress.
pub(super) struct Session {
    stream: Option<ClientStream>,
    peer: IpAddr,
    endpoint: Arc<Endpoint>,
    protocol: ReadingProtocol,
    machine: Box<dyn SignInMachine>,
    input: BytesMut,
    /// The user, once the password was right.
    user: Option<String>,
    user_slot: Option<UserSlot>,
    door: Arc<Door>,
    shared: Arc<Shared>,
    stopping: watch::Receiver<Stopping>,
}

/// The reason why a session ends before the sign-in.
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

impl Session {
    pub(super) fn new(visitor: Visitor, protocol: ReadingProtocol, shared: Arc<Shared>) -> Self {
        let endpoint = visitor.endpoint.load_full();
        let limits = &visitor.door.settings.load_full().limits;
        let is_protected = matches!(visitor.stream, ClientStream::Tls(_));
        let protection = Protection {
            offers_tls: endpoint.tls.is_some() && !is_protected,
            takes_passwords: is_protected || (endpoint.plaintext && endpoint.plaintext_auth),
            errors: limits.errors,
            commands: limits.commands,
        };
        Self {
            stream: Some(visitor.stream),
            peer: visitor.peer,
            endpoint,
            protocol,
            machine: match protocol {
                ReadingProtocol::Imap => Box::new(ImapMachine::new(protection)),
                ReadingProtocol::Pop3 => Box::new(Pop3Machine::new(protection)),
            },
            input: BytesMut::new(),
            user: None,
            user_slot: None,
            stopping: visitor.door.stopping(),
            door: visitor.door,
            shared,
        }
    }

    /// Serves the client. Returns the stream to be closed if this side ended the session.
    pub(super) async fn run(mut self) -> Option<ClientStream> {
        match self.converse().await {
            Ok(()) => return self.stream,
            Err(Broken::Closed) => {}
            Err(broken) => maillog::session_failed(&self.endpoint.name, &self.peer, &broken),
        }
        None
    }

    async fn converse(&mut self) -> Result<(), Broken> {
        loop {
            let is_recorded = self.door.records(self.peer, self.user.as_deref());
            self.machine.transcript().switch(is_recorded);
            let event = self.machine.next(&mut self.input);
            self.log_dialogue();
            match event {
                Event::NeedInput => {
                    self.flush().await?;
                    self.read().await?;
                }
                Event::StartTls => self.start_tls().await?,
                Event::SignIn(credentials) => {
                    let name = credentials.name.clone();
                    if let Some((mailbox, signed_in)) = self.sign_in(credentials).await {
                        self.machine.signed_in(signed_in.greeting.as_deref());
                        self.log_dialogue();
                        self.flush().await?;
                        return self.read_mail(&name, &mailbox, signed_in).await;
                    }
                }
                Event::Refused(why) => self.log_refusal("", &why),
                Event::Close(why) => {
                    if let Some(why) = why.filter(Refused::is_by_client) {
                        self.log_refusal("", &why);
                    }
                    return self.flush().await;
                }
            }
        }
    }

    fn log_dialogue(&mut self) {
        let (listener, user) = (&self.endpoint.name, self.user.as_deref());
        let transcript = self.machine.transcript();
        if transcript.is_on() {
            self.door
                .log_dialogue(listener, self.peer, user, transcript);
        }
    }

    fn log_refusal(&self, user: &str, why: &Refused) {
        maillog::reading_refused(&self.endpoint.name, user, &self.peer, why);
        let (listener, said) = (&self.endpoint.name, why.to_string());
        self.door.refused(listener, self.peer, user, &said);
    }

    fn stream(&mut self) -> Result<&mut ClientStream, Broken> {
        self.stream.as_mut().ok_or(Broken::Closed)
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        let output = self.machine.take_output();
        if output.is_empty() {
            return Ok(());
        }
        let patience = self.door.settings.load().limits.idle_time;
        let stream = self.stream()?;
        let written = timeout(patience, async {
            stream.write_all(&output).await?;
            stream.flush().await
        });
        Ok(written.await.map_err(|_| Broken::Stalled)??)
    }

    async fn read(&mut self) -> Result<(), Broken> {
        let patience = self.door.settings.load().limits.idle_time;
        let stream = self.stream.as_mut().ok_or(Broken::Closed)?;
        let reading = async {
            stream::readable(stream).await?;
            self.input.reserve(limits::READ_CHUNK);
            stream.read_buf(&mut self.input).await
        };
        let read = tokio::select! {
            read = timeout(patience, reading) => read.map_err(|_| Refused::Silent),
            _ = self.stopping.wait_for(|how| *how != Stopping::No) => Err(Refused::ShuttingDown),
        };
        match read {
            Ok(Ok(0)) => Err(Broken::Closed),
            // Many clients close without TLS's own `close_notify` (RFC 8446 §6.1).
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Broken::Closed),
            Ok(read) => read.map(drop).map_err(Broken::Io),
            Err(why) => {
                self.machine.close(&why);
                Ok(())
            }
        }
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
        let shaken = shaken.map_err(slow)?;
        self.stream = Some(shaken.map_err(|error| Broken::Tls(stream::tls_words(&error)))?);
        self.machine.tls_established();
        Ok(())
    }

    /// Checks the password, finds the mailbox and signs in to the mail server. Otherwise tells the client why
    /// not.
    async fn sign_in(&mut self, credentials: Credentials) -> Option<(Arc<Mailbox>, SignedIn)> {
        match self.mailbox(credentials).await {
            Ok(mailbox) => match self.reach(&mailbox).await {
                Ok(signed_in) => Some((mailbox, signed_in)),
                Err(why) => {
                    self.user_slot = None;
                    self.machine.refuse(&why);
                    None
                }
            },
            Err((why, true)) => {
                self.machine.close(&why);
                None
            }
            Err((why, false)) => {
                self.machine.refuse(&why);
                None
            }
        }
    }

    /// Checks the password, and finds the mailbox. An error comes with true if the session must end.
    async fn mailbox(&mut self, credentials: Credentials) -> Result<Arc<Mailbox>, (Refused, bool)> {
        let settings = self.shared.settings.load_full();
        let name = settings.split(&credentials.name);
        let (door, endpoint) = (self.door.clone(), self.endpoint.clone());
        let checked = door.sign_in(&endpoint, self.peer, name.user, credentials.password);
        match checked.await {
            Ok(()) => {}
            Err(NotSignedIn::Wrong) => return Err((Refused::Wrong, false)),
            Err(NotSignedIn::ShutOut { why, .. }) => return Err((Refused::TurnedAway(why), true)),
            Err(NotSignedIn::Unavailable) => return Err((Refused::Busy, false)),
        }
        let users = door.settings.load_full();
        let Some(user) = users.users.get(name.user) else {
            return Err((Refused::Wrong, false));
        };
        self.user = Some(user.name.clone());
        let mailbox = settings.mailbox(name, self.protocol).map_err(|why| {
            self.log_refusal(name.user, &why);
            (why, false)
        })?;
        let slot = door.user_slot(user).await;
        self.user_slot = Some(slot.map_err(|why| (Refused::TurnedAway(why), false))?);
        Ok(mailbox)
    }

    async fn reach(&self, mailbox: &Mailbox) -> Result<SignedIn, Refused> {
        let server = mailbox.server.clone();
        self.shared
            .reach(mailbox, self.protocol)
            .await
            .map_err(|error| match error {
                NotReached::Upstream(UpstreamError::Refused { .. }) => {
                    Refused::UpstreamRefused { server }
                }
                NotReached::Token(
                    TokenError::SignIn { .. }
                    | TokenError::NotConnected { .. }
                    | TokenError::NotForReading { .. },
                ) => Refused::NeedsSignIn { server },
                _ => Refused::Unavailable { server },
            })
    }

    /// Passes octets between the client and the mail server until one of them ends.
    async fn read_mail(
        &mut self,
        name: &str,
        mailbox: &Mailbox,
        signed_in: SignedIn,
    ) -> Result<(), Broken> {
        let begin = Instant::now();
        let log = maillog::Reading {
            listener: &self.endpoint.name,
            user: name,
            server: &mailbox.server,
            protocol: self.protocol.name(),
            peer: &self.peer,
        };
        log.begun();
        let SignedIn {
            stream: mut upstream,
            input,
            ..
        } = signed_in;
        let client = self.stream.as_mut().ok_or(Broken::Closed)?;
        sockets::keep_alive(client.socket());
        sockets::keep_alive(upstream.socket());
        // What the client sent with its sign-in is for the mail server, and the other way round.
        let sent = std::mem::take(&mut self.input);
        let begun = async {
            upstream.write_all(&sent).await?;
            upstream.flush().await?;
            client.write_all(&input).await?;
            client.flush().await
        };
        timeout(limits::upstream::CONNECT, begun)
            .await
            .map_err(|_| Broken::Stalled)??;
        let is_at_line_end = input.last().is_none_or(|octet| *octet == b'\n');
        drop((sent, input));
        let revoked = self.shared.revoked(name, self.protocol, &mailbox.server);
        let stopping = &mut self.stopping;
        let passed = pass::pass(client, &mut upstream, is_at_line_end, stopping, revoked);
        let (ended, may_follow) = passed.await;
        let why = match ended {
            Ended::BySide => None,
            Ended::UpstreamBroke => Some(Refused::UpstreamLost),
            Ended::Stopping => Some(Refused::ShuttingDown),
            Ended::Revoked => Some(Refused::Revoked),
        };
        log.ended(
            begin.elapsed(),
            why.as_ref().map(|why| why as &dyn std::fmt::Display),
        );
        let Some(why) = why else {
            return Err(Broken::Closed);
        };
        // POP3 has no message that the server may send unasked.
        if may_follow && self.protocol == ReadingProtocol::Imap {
            let farewell = super::imap::farewell(&why);
            let _ = timeout(LAST_WORDS, async {
                client.write_all(&farewell).await?;
                client.flush().await
            })
            .await;
        }
        Ok(())
    }
}
