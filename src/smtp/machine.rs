//! The session as a state machine: the effect of each command and each answer.

mod rules;
mod sign_in;

use std::sync::Arc;

use bytes::BytesMut;

use super::auth::Credentials;
use super::command::{self, Assumed, Command, CommandError};
use super::data::Decoder;
use super::line::{Line, LineReader};
use super::reply::Reply;
use super::transcript::Transcript;
use crate::base::limits;
use crate::message::{Address, Envelope, Parameters, Recipient, ReversePath};

/// Octets of decoded content that are collected before [`Event::Content`] announces them.
const BODY_CHUNK: usize = 64 * 1024;

/// The permissions and limits of a session. All sessions of a listener share them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSettings {
    /// The name of this host.
    pub host: String,
    /// Largest message in octets, as SIZE announces it (RFC 1870).
    pub message_size: u64,
    /// Maximum number of recipients in one message.
    pub recipients: usize,
    /// Maximum number of commands between two accepted messages.
    pub commands: u32,
    /// Maximum number of failed commands in one session.
    pub errors: u32,
    /// True if a message with a bare CR or LF is refused, instead of being sent with CRLF.
    pub reject_bare_newlines: bool,
    /// The address of a recipient `<Postmaster>` without a domain (RFC 5321 §4.5.1).
    pub postmaster: Option<Address>,
    /// True if some user may sign in here, so that AUTH is offered.
    pub offers_auth: bool,
    /// True if commands may end in a bare LF. Then PIPELINING is not offered, and a client that does not wait
    /// for replies is disconnected. So no text in a message can be mistaken for a command.
    pub bare_lf: bool,
}

/// How the connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protection {
    /// True if STARTTLS is offered.
    pub offers_tls: bool,
    /// True if TLS is established.
    pub tls: bool,
    /// True if a session may continue without TLS.
    pub plaintext: bool,
    /// True if a password may be sent in clear: on loopback, or if the configuration allows it.
    pub plaintext_auth: bool,
}

/// A request or a notice from the machine. Events marked *question* wait for [`Machine::answer`].
#[derive(Debug)]
pub enum Event {
    /// The machine needs more bytes. Send the collected replies before you read.
    NeedInput,
    /// *Question:* is the password right? A positive answer signs the user in.
    Authenticate(Credentials),
    /// *Question:* may this sender begin a message?
    Sender(ReversePath),
    /// *Question:* may this recipient receive the message?
    Recipient(Recipient),
    /// *Question:* is there room for a message?
    Data,
    /// Content has arrived: take it with [`Machine::take_content`].
    Content,
    /// *Question:* the message is complete; take its last content with [`Machine::take_content`]. What is the
    /// reply?
    Message(Envelope),
    /// The current message was refused; discard its content.
    Discard,
    /// Send the replies, drop the remaining input (RFC 3207 §4.2), do the TLS handshake, then call
    /// [`Machine::tls_established`].
    StartTls,
    /// Send the replies and close.
    Close,
}

/// A mail transaction in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// The envelope so far.
    pub envelope: Envelope,
    refused_recipients: usize,
    /// Octets of memory that the recipients take.
    held: usize,
}

#[derive(Debug)]
enum Phase {
    Command,
    PlainResponse,
    LoginName,
    LoginPassword { name: String },
    Asked(Question),
    Data(Box<Receiving>),
    Closed,
}

/// The subject of the next answer.
#[derive(Debug)]
enum Question {
    Authenticate { name: String },
    Sender(ReversePath, Parameters),
    Recipient(Recipient),
    Data,
    Message,
}

#[derive(Debug, Default)]
struct Receiving {
    decoder: Decoder,
    content: Vec<u8>,
    size: u64,
    refusal: Option<Reply>,
}

/// One session. Drive it with [`Machine::next`] and [`Machine::answer`].
#[derive(Debug)]
pub struct Machine {
    settings: Arc<SessionSettings>,
    protection: Protection,
    phase: Phase,
    lines: LineReader,
    out: Vec<u8>,
    refusals: Vec<Reply>,
    /// The buffer of the last message, reused for the next one.
    content: Vec<u8>,
    helo: Option<(String, bool)>,
    user: Option<String>,
    /// True if the user signed in by AUTH. A user that was determined by the client's network may still sign
    /// in.
    signed_in: bool,
    assumed: Assumed,
    transaction: Option<Transaction>,
    commands: u32,
    errors: u32,
    transcript: Transcript,
}

impl Machine {
    /// Creates a session, with the greeting ready to be sent. `user` is the user that the client's network
    /// admits without AUTH.
    pub fn new(
        settings: Arc<SessionSettings>,
        protection: Protection,
        user: Option<String>,
    ) -> Self {
        let mut machine = Self {
            phase: Phase::Command,
            lines: LineReader::new(settings.bare_lf),
            out: Vec::new(),
            refusals: Vec::new(),
            content: Vec::new(),
            helo: None,
            user,
            signed_in: false,
            assumed: Assumed {
                from: None,
                postmaster: settings.postmaster.clone(),
            },
            transaction: None,
            commands: 0,
            errors: 0,
            transcript: Transcript::default(),
            protection,
            settings,
        };
        machine.reply(&Reply::greeting(&machine.settings.host.clone()));
        machine
    }

    /// Processes `input` until there is an event.
    ///
    /// # Panics
    /// If the last event was a question that has not been answered.
    pub fn next(&mut self, input: &mut BytesMut) -> Event {
        loop {
            let event = match &mut self.phase {
                Phase::Closed => return Event::Close,
                Phase::Asked(question) => panic!("{question:?} has not been answered"),
                Phase::Data(_) => self.receive(input),
                _ => match self.lines.next(input, limits::AUTH_LINE) {
                    Line::Incomplete => Some(Event::NeedInput),
                    _ if self.is_pipelined(input) => None,
                    line => self.line(line),
                },
            };
            if let Some(event) = event {
                return event;
            }
        }
    }

    /// Answers the question of the last event.
    pub fn answer(&mut self, reply: Reply) {
        let Phase::Asked(question) = std::mem::replace(&mut self.phase, Phase::Command) else {
            panic!("{reply} answers no question");
        };
        let yes = reply.is_positive();
        match question {
            Question::Authenticate { name } if yes => {
                self.user = Some(name);
                self.signed_in = true;
            }
            Question::Authenticate { .. } => {
                self.reply(&reply);
                return self.has_erred();
            }
            Question::Sender(sender, parameters) if yes => {
                let recipients = Vec::new();
                let envelope = Envelope {
                    sender,
                    parameters,
                    recipients,
                };
                self.transaction = Some(Transaction {
                    envelope,
                    refused_recipients: 0,
                    held: 0,
                });
            }
            Question::Recipient(recipient) => {
                if let Some(transaction) = &mut self.transaction {
                    if yes {
                        transaction.held += recipient.held();
                        transaction.envelope.recipients.push(recipient);
                    } else {
                        transaction.refused_recipients += 1
                    }
                }
            }
            Question::Data if yes => {
                let content = std::mem::take(&mut self.content);
                self.phase = Phase::Data(Box::new(Receiving {
                    content,
                    decoder: Decoder::new(self.lines.ended_bare()),
                    ..Default::default()
                }));
            }
            Question::Message => {
                self.transaction = None;
                self.commands = if yes { 0 } else { self.commands };
            }
            Question::Sender(..) | Question::Data => {}
        }
        self.reply(&reply);
    }

    /// Sets the address that replaces a sender that is null or not an address.
    pub fn assume_from(&mut self, address: Option<Address>) {
        self.assumed.from = address;
    }

    /// Refuses the current message: its rest is read and discarded, then this reply is sent.
    pub fn refuse_message(&mut self, reply: Reply) {
        if let Phase::Data(receiving) = &mut self.phase {
            receiving.refusal.get_or_insert(reply);
        }
    }

    /// Ends the session with this reply, whatever is in progress.
    pub fn close(&mut self, reply: &Reply) {
        self.reply(reply);
        self.phase = Phase::Closed;
    }

    /// Restarts the session after TLS is established (RFC 3207 §4.2).
    pub fn tls_established(&mut self) {
        self.protection.tls = true;
        self.lines.reset();
        self.helo = None;
        self.transaction = None;
    }

    /// Returns the record of the dialogue.
    pub fn transcript(&mut self) -> &mut Transcript {
        &mut self.transcript
    }

    /// Takes the replies to be sent, in order.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Takes the refusals that the machine made by itself. Refusals given as answers are not among them.
    pub fn take_refusals(&mut self) -> Vec<Reply> {
        std::mem::take(&mut self.refusals)
    }

    /// Takes the message content that arrived since the last call, with CRLF line ends.
    pub fn take_content(&mut self) -> Vec<u8> {
        match &mut self.phase {
            Phase::Data(receiving) => std::mem::take(&mut receiving.content),
            _ => std::mem::take(&mut self.content),
        }
    }

    /// Returns the number of octets of content that wait to be taken.
    pub fn content_held(&self) -> usize {
        match &self.phase {
            Phase::Data(receiving) => receiving.content.len(),
            _ => self.content.len(),
        }
    }

    /// Returns the octets of memory that the current message's recipients take.
    pub fn envelope_held(&self) -> usize {
        self.transaction.as_ref().map_or(0, |it| it.held)
    }

    /// Returns the sender of the current message.
    pub fn sender(&self) -> Option<&ReversePath> {
        Some(&self.transaction.as_ref()?.envelope.sender)
    }

    /// Returns the number of recipients of the current message.
    pub fn recipients(&self) -> usize {
        let envelope = self.transaction.as_ref().map(|it| &it.envelope);
        envelope.map_or(0, |envelope| envelope.recipients.len())
    }

    /// True if the current message so far ends in LF . LF, which does not end a message.
    pub fn ends_in_lf_dot_lf(&self) -> bool {
        match &self.phase {
            Phase::Data(receiving) => receiving.decoder.ends_in_lf_dot_lf(),
            _ => false,
        }
    }

    /// True if the client has seen that TLS is required here, and has not started it.
    pub fn lacks_tls(&self) -> bool {
        self.helo.is_some() && !self.protection.tls && !self.protection.plaintext
    }

    /// True if the client has not sent EHLO yet and the connection has no TLS.
    pub fn is_before_helo_in_clear(&self) -> bool {
        self.helo.is_none() && !self.protection.tls
    }

    /// True if no message is in progress, so closing now interrupts nothing.
    pub fn is_between_messages(&self) -> bool {
        matches!(self.phase, Phase::Command | Phase::Closed) && self.transaction.is_none()
    }

    /// Returns the user of this session, who was determined by AUTH or by the client's network.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Returns the name that the client gives itself; empty before EHLO.
    pub fn helo(&self) -> &str {
        self.helo.as_ref().map_or("", |(name, _)| name)
    }

    /// Returns the protocol's name in `Received` (RFC 3848).
    pub fn protocol(&self) -> &'static str {
        let extended = self.helo.as_ref().is_some_and(|(_, extended)| *extended);
        match (extended, self.protection.tls, self.signed_in) {
            (false, ..) => "SMTP",
            (true, false, false) => "ESMTP",
            (true, false, true) => "ESMTPA",
            (true, true, false) => "ESMTPS",
            (true, true, true) => "ESMTPSA",
        }
    }

    fn reply(&mut self, reply: &Reply) {
        self.transcript.reply(reply);
        reply.write(&mut self.out);
    }

    fn refuse(&mut self, reply: &Reply) {
        self.reply(reply);
        self.refusals.push(reply.clone());
    }

    /// Replies to a failed command. Too many of them end the session.
    fn error(&mut self, reply: &Reply) {
        self.refuse(reply);
        self.has_erred();
    }

    fn has_erred(&mut self) {
        self.errors += 1;
        if self.errors >= self.settings.errors {
            self.end(&Reply::too_many_errors());
        }
    }

    fn end(&mut self, reply: &Reply) {
        self.refuse(reply);
        self.phase = Phase::Closed;
    }

    fn ask(&mut self, question: Question, event: Event) -> Option<Event> {
        self.phase = Phase::Asked(question);
        Some(event)
    }

    /// Returns true if the client did not wait for a reply at a listener that requires it. The session is
    /// then closed.
    fn is_pipelined(&mut self, rest: &[u8]) -> bool {
        let is_pipelined = self.settings.bare_lf && !rest.is_empty();
        if is_pipelined {
            self.end(&Reply::pipelined());
        }
        is_pipelined
    }

    fn line(&mut self, line: Line) -> Option<Event> {
        let phase = std::mem::replace(&mut self.phase, Phase::Command);
        let text = match line {
            Line::Whole(text) => text,
            Line::Illegal => {
                self.error(&Reply::illegal_bytes());
                return None;
            }
            Line::TooLong | Line::Incomplete => {
                self.error(&Reply::line_too_long());
                return None;
            }
        };
        match phase {
            Phase::Command => {
                self.transcript.command(&text);
                self.command(&text)
            }
            phase => {
                self.transcript.secret();
                self.auth_response(phase, &text)
            }
        }
    }

    fn command(&mut self, text: &str) -> Option<Event> {
        self.commands += 1;
        if self.commands > self.settings.commands {
            self.end(&Reply::too_many_commands());
            return None;
        }
        let command = match command::parse(text, &self.assumed) {
            Ok(Command::Auth { mechanism, initial }) => Command::Auth { mechanism, initial },
            _ if text.len() + 2 > limits::COMMAND_LINE => {
                self.error(&Reply::line_too_long());
                return None;
            }
            Ok(command) => command,
            Err(CommandError::Http) => {
                self.end(&Reply::not_http());
                return None;
            }
            Err(error) => {
                self.error(&refusal_of(error));
                return None;
            }
        };
        if let Err(reply) = self.check(&command) {
            match command {
                // RFC 5321 §4.5.3.1.10: too many recipients do not count as the client's error.
                Command::Rcpt(..) if reply == Reply::too_many_recipients() => self.refuse(&reply),
                _ => self.error(&reply),
            }
            return None;
        }
        self.proceed(command)
    }

    fn proceed(&mut self, command: Command) -> Option<Event> {
        match command {
            Command::Ehlo(name) => self.hello(name, true),
            Command::Helo(name) => self.hello(name, false),
            Command::StartTls => {
                self.reply(&Reply::ready_for_tls());
                return Some(Event::StartTls);
            }
            Command::Auth { mechanism, initial } => return self.auth(&mechanism, initial),
            Command::Mail(sender, parameters) => {
                let event = Event::Sender(sender.clone());
                return self.ask(Question::Sender(sender, parameters), event);
            }
            Command::Rcpt(address, parameters) => {
                let recipient = Recipient {
                    address,
                    parameters,
                };
                return self.ask(
                    Question::Recipient(recipient.clone()),
                    Event::Recipient(recipient),
                );
            }
            Command::Data => return self.ask(Question::Data, Event::Data),
            Command::Rset => {
                self.transaction = None;
                self.reply(&Reply::ok());
            }
            Command::Noop => self.reply(&Reply::ok()),
            Command::Vrfy => self.reply(&Reply::cannot_verify()),
            Command::Help => self.reply(&Reply::help()),
            Command::Quit => self.close(&Reply::bye()),
        }
        None
    }

    /// Handles EHLO or HELO. RFC 5321 §4.1.4: EHLO also does what RSET does.
    fn hello(&mut self, name: String, extended: bool) {
        self.transaction = None;
        self.helo = Some((name, extended));
        let reply = if extended {
            Reply::extensions(&self.settings.host, &self.keywords())
        } else {
            Reply::hello(&self.settings.host)
        };
        self.reply(&reply);
    }

    fn keywords(&self) -> Vec<String> {
        let Protection {
            offers_tls,
            tls,
            plaintext,
            plaintext_auth,
        } = self.protection;
        let mut keywords = Vec::new();
        if !self.settings.bare_lf {
            keywords.push("PIPELINING".to_owned());
        }
        keywords.push(format!("SIZE {}", self.settings.message_size));
        keywords.extend(["8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN"].map(str::to_owned));
        if offers_tls && !tls {
            keywords.push("STARTTLS".to_owned());
        }
        if self.settings.offers_auth && (tls || plaintext && plaintext_auth) {
            keywords.push("AUTH PLAIN LOGIN".to_owned());
        }
        keywords
    }

    fn receive(&mut self, input: &mut BytesMut) -> Option<Event> {
        let Phase::Data(receiving) = &mut self.phase else {
            return None;
        };
        let before = receiving.content.len();
        let (used, ended) = receiving.decoder.decode(input, &mut receiving.content);
        bytes::Buf::advance(input, used);
        receiving.size += (receiving.content.len() - before) as u64;
        if receiving.size > self.settings.message_size {
            receiving
                .refusal
                .get_or_insert(Reply::too_large(self.settings.message_size));
        }
        if self.settings.reject_bare_newlines && receiving.decoder.bare_newlines() > 0 {
            receiving.refusal.get_or_insert(Reply::bare_newline());
        }
        if receiving.refusal.is_some() {
            receiving.content.clear();
        }
        let is_large = receiving.content.len() >= BODY_CHUNK;
        match ended {
            true if self.is_pipelined(input) => {
                self.transaction = None;
                Some(Event::Discard)
            }
            true => self.end_of_data(),
            false if is_large => Some(Event::Content),
            false => Some(Event::NeedInput),
        }
    }

    fn end_of_data(&mut self) -> Option<Event> {
        let Phase::Data(receiving) = std::mem::replace(&mut self.phase, Phase::Command) else {
            return None;
        };
        let envelope = self.transaction.take()?.envelope;
        match receiving.refusal {
            Some(reply) => {
                self.refuse(&reply);
                Some(Event::Discard)
            }
            None => {
                self.transcript.content(receiving.size);
                self.content = receiving.content;
                self.ask(Question::Message, Event::Message(envelope))
            }
        }
    }
}

fn refusal_of(error: CommandError) -> Reply {
    match error {
        CommandError::Unknown | CommandError::Http => Reply::unknown_command(),
        CommandError::Argument(usage) => Reply::bad_argument(usage),
        CommandError::Sender(error) => Reply::bad_address(true, error),
        CommandError::Recipient(error) => Reply::bad_address(false, error),
    }
}

#[cfg(test)]
mod tests;
