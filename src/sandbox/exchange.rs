//! Exchange Online's submission server, as a relay sees it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::script::{FaultAction, FaultStage};
use super::state::{Bearer, Delivered, SandboxState, SharedSignIn};
use crate::base::limits;
use crate::base::stream::Stream;
use crate::message::{Address, Headers, ReversePath};
use crate::smtp::Reply;
use crate::smtp::command::{self, Assumed, Command};
use crate::smtp::data::Decoder;
use crate::smtp::line::{Line, LineReader};

const NAME: &str = "SANDBOX.PROD.OUTLOOK.COM";

/// How long a client may be silent.
const IDLE: Duration = Duration::from_secs(300);

pub(super) async fn serve(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<SandboxState>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        // Replies are small, and the client waits for them.
        let _ = stream.set_nodelay(true);
        state.count(|stats| stats.connections += 1);
        let mut client = SandboxSession {
            stream: Some(Stream::Plain(stream)),
            acceptor: acceptor.clone(),
            state: state.clone(),
            input: BytesMut::new(),
            out: Vec::new(),
            lines: LineReader::default(),
            mailbox: None,
            transaction: None,
        };
        tokio::spawn(async move {
            // A client that disconnects is not an error.
            let _ = client.converse().await;
            if let Some((mailbox, _)) = &client.mailbox {
                client.state.close_session(mailbox);
            }
        });
    }
}

struct SandboxSession {
    stream: Option<Stream<TcpStream, TlsStream<TcpStream>>>,
    acceptor: TlsAcceptor,
    state: Arc<SandboxState>,
    input: BytesMut,
    out: Vec<u8>,
    lines: LineReader,
    /// The signed-in mailbox, and true if this session exceeds the mailbox's limit of sessions.
    mailbox: Option<(String, bool)>,
    transaction: Option<SandboxTransaction>,
}

#[derive(Default)]
struct SandboxTransaction {
    sender: Option<Address>,
    recipients: Vec<String>,
    commands: Vec<String>,
    /// The content received by BDAT so far.
    chunks: Vec<u8>,
}

/// The session has ended.
struct Over;

impl From<io::Error> for Over {
    fn from(_: io::Error) -> Self {
        Self
    }
}

type UnlessOver<T = ()> = Result<T, Over>;

impl SandboxSession {
    async fn converse(&mut self) -> UnlessOver {
        if !self.fault(FaultStage::Connect, "").await? {
            self.say(Reply::new(
                220,
                "",
                format!("{NAME} Microsoft ESMTP MAIL Service ready"),
            ));
        }
        loop {
            let line = self.line().await?;
            let (verb, argument) = line.split_once(' ').unwrap_or((&line, ""));
            match verb.to_ascii_uppercase().as_str() {
                "AUTH" => self.auth(argument).await?,
                "BDAT" => self.bdat(argument).await?,
                _ => match command::parse(&line, &Assumed::default()) {
                    Ok(command) => self.command(command, &line).await?,
                    Err(_) => self.say(Reply::unknown_command()),
                },
            }
        }
    }

    async fn command(&mut self, command: Command, line: &str) -> UnlessOver {
        match command {
            Command::Ehlo(_) | Command::Helo(_) => {
                self.transaction = None;
                if !self.fault(FaultStage::Ehlo, line).await? {
                    self.say(self.extensions());
                }
            }
            Command::StartTls => return self.start_tls().await,
            Command::Mail(sender, _) => return self.mail(sender, line).await,
            Command::Rcpt(address, _) => return self.rcpt(&address, line).await,
            Command::Data => return self.data().await,
            Command::Rset => {
                self.transaction = None;
                self.say(Reply::new(250, "2.0.0", "Resetting"));
            }
            Command::Noop => self.say(Reply::ok()),
            Command::Quit => {
                self.say(Reply::new(
                    221,
                    "2.0.0",
                    "Service closing transmission channel",
                ));
                self.flush().await?;
                return Err(Over);
            }
            Command::Vrfy | Command::Help | Command::Auth { .. } => {
                self.say(Reply::cannot_verify())
            }
        }
        Ok(())
    }

    fn extensions(&self) -> Reply {
        let mut words = format!(
            "{NAME} Hello [127.0.0.1]\nSIZE 157286400\nPIPELINING\nDSN\nENHANCEDSTATUSCODES"
        );
        words.push_str(if self.is_tls() {
            "\nAUTH LOGIN XOAUTH2"
        } else {
            "\nSTARTTLS"
        });
        words.push_str("\n8BITMIME\nBINARYMIME\nCHUNKING\nSMTPUTF8");
        Reply::new(250, "", words)
    }

    fn is_tls(&self) -> bool {
        matches!(self.stream, Some(Stream::Tls(_)))
    }

    async fn start_tls(&mut self) -> UnlessOver {
        if self.is_tls() {
            self.say(Reply::tls_unavailable());
            return Ok(());
        }
        self.say(Reply::new(220, "2.0.0", "SMTP server ready"));
        self.flush().await?;
        self.input.clear();
        if let Some(Stream::Plain(stream)) = self.stream.take() {
            let tls = self.acceptor.accept(stream).await?;
            self.stream = Some(Stream::Tls(Box::new(tls)));
        }
        Ok(())
    }

    /// Handles AUTH: XOAUTH2 in one step or two; all other mechanisms are refused as disabled.
    async fn auth(&mut self, argument: &str) -> UnlessOver {
        if !self.is_tls() {
            self.say(Reply::tls_required());
            return Ok(());
        }
        let (mechanism, initial) = argument.split_once(' ').unwrap_or((argument, ""));
        if !mechanism.eq_ignore_ascii_case("XOAUTH2") {
            self.say(Reply::new(535, "5.7.139", "Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit https://aka.ms/smtp_auth_disabled for more information."));
            return Ok(());
        }
        let mut response = initial.to_owned();
        if response.is_empty() {
            self.say(Reply::challenge(""));
            response = self.line().await?;
        }
        if self.fault(FaultStage::Auth, &response).await? {
            return Ok(());
        }
        match self.signs_in(&response) {
            Some(mailbox) => {
                let too_many = self.state.open_session(&mailbox);
                self.mailbox = Some((mailbox, too_many));
                self.say(Reply::new(235, "2.7.0", "Authentication successful"));
            }
            None => self.say(Reply::new(
                535,
                "5.7.3",
                "Authentication unsuccessful [SANDBOX.PROD.OUTLOOK.COM]",
            )),
        }
        Ok(())
    }

    /// Returns the mailbox that `response` names, if the token in `response` is valid for that mailbox.
    fn signs_in(&self, response: &str) -> Option<String> {
        let clear = String::from_utf8(BASE64_STANDARD.decode(response.trim()).ok()?).ok()?;
        let mut parts = clear.split('\x01');
        let user = parts.next()?.strip_prefix("user=")?;
        let token = parts.next()?.strip_prefix("auth=Bearer ")?;
        let mailbox = self.state.mailbox(user)?;
        let may = match self.state.bearer(token, self.state.now())? {
            Bearer::App => true,
            Bearer::User(user) => {
                let user: Address = user.parse().ok()?;
                match self.state.settings.shared_sign_in {
                    SharedSignIn::Person => user == mailbox.address,
                    SharedSignIn::Mailbox if self.state.has_shared(&user) => {
                        mailbox.shared_with.contains(&user)
                    }
                    SharedSignIn::Mailbox => user == mailbox.address,
                }
            }
        };
        may.then(|| mailbox.address.to_string())
    }

    async fn mail(&mut self, sender: ReversePath, line: &str) -> UnlessOver {
        if self.mailbox.is_none() {
            self.say(Reply::new(
                530,
                "5.7.57",
                format!("Client not authenticated to send mail. [{NAME}]"),
            ));
            return Ok(());
        }
        if self.fault(FaultStage::Mail, line).await? {
            return Ok(());
        }
        self.transaction = Some(SandboxTransaction {
            sender: sender.address().cloned(),
            commands: vec![line.to_owned()],
            ..SandboxTransaction::default()
        });
        self.say(Reply::new(250, "2.1.0", "Sender OK"));
        Ok(())
    }

    async fn rcpt(&mut self, address: &Address, line: &str) -> UnlessOver {
        if self.fault(FaultStage::Rcpt, line).await? {
            return Ok(());
        }
        let most = self.state.settings.limits.recipients;
        let reply = match &mut self.transaction {
            None => Reply::bad_sequence("MAIL"),
            Some(transaction) if transaction.recipients.len() >= most => {
                Reply::too_many_recipients()
            }
            Some(transaction) => {
                transaction.recipients.push(address.to_string());
                transaction.commands.push(line.to_owned());
                Reply::new(250, "2.1.5", "Recipient OK")
            }
        };
        self.say(reply);
        Ok(())
    }

    async fn data(&mut self) -> UnlessOver {
        if self
            .transaction
            .as_ref()
            .is_none_or(|t| t.recipients.is_empty())
        {
            self.say(Reply::new(503, "5.5.2", "Need rcpt command"));
            return Ok(());
        }
        if self.fault(FaultStage::Data, "").await? {
            return Ok(());
        }
        self.say(Reply::new(
            354,
            "",
            "Start mail input; end with <CRLF>.<CRLF>",
        ));
        let mut decoder = Decoder::default();
        let mut content = Vec::with_capacity(limits::READ_CHUNK);
        loop {
            let (used, ended) = decoder.decode(&self.input, &mut content);
            self.input.advance(used);
            if ended {
                return self
                    .end_of_message(content, decoder.bare_newlines() > 0)
                    .await;
            }
            self.fill().await?;
        }
    }

    /// Receives a BDAT chunk (RFC 3030 §2): exactly the given number of octets, unchanged.
    async fn bdat(&mut self, argument: &str) -> UnlessOver {
        let mut words = argument.split_ascii_whitespace();
        let size = words.next().and_then(|word| word.parse::<usize>().ok());
        let is_last = words
            .next()
            .is_some_and(|word| word.eq_ignore_ascii_case("LAST"));
        let (Some(size), true) = (
            size,
            size.is_some_and(|size| size <= self.state.settings.limits.size),
        ) else {
            self.say(Reply::bad_argument("BDAT octets [LAST]"));
            return Ok(());
        };
        while self.input.len() < size {
            self.fill().await?;
        }
        let chunk = self.input.split_to(size);
        match &mut self.transaction {
            Some(transaction) if !transaction.recipients.is_empty() => {
                transaction.chunks.extend_from_slice(&chunk);
                if !is_last {
                    self.say(Reply::new(250, "2.0.0", format!("{size} octets received")));
                    return Ok(());
                }
                let content = std::mem::take(&mut transaction.chunks);
                self.end_of_message(content, false).await
            }
            _ => {
                self.say(Reply::new(503, "5.5.2", "Need rcpt command"));
                Ok(())
            }
        }
    }

    async fn end_of_message(&mut self, content: Vec<u8>, bare_newline: bool) -> UnlessOver {
        let (Some(transaction), Some((mailbox, too_many))) =
            (self.transaction.take(), self.mailbox.clone())
        else {
            return Err(Over);
        };
        self.state.count(|stats| stats.contents += 1);
        let fault = self.state.script.strike(FaultStage::FinalDot, &mailbox);
        match &fault {
            Some(FaultAction::Reply(line)) => {
                self.out.extend_from_slice(format!("{line}\r\n").as_bytes());
                return Ok(());
            }
            Some(FaultAction::Drop) => return Err(Over),
            Some(FaultAction::Stall(ms)) => tokio::time::sleep(Duration::from_millis(*ms)).await,
            Some(FaultAction::DropAfter | FaultAction::Answer(_)) | None => {}
        }
        let reply = self.judge(&transaction, &mailbox, too_many, &content, bare_newline);
        if reply.is_positive() {
            let text = reply.to_string();
            let recipients = transaction.recipients.clone();
            self.state.deliver(&content, &recipients, || Delivered {
                mailbox,
                sender: transaction
                    .sender
                    .map_or(String::new(), |address| address.to_string()),
                recipients: transaction.recipients,
                text: String::from_utf8_lossy(&content).into_owned(),
                commands: transaction.commands,
                reply: text,
            });
        }
        if fault == Some(FaultAction::DropAfter) {
            return Err(Over);
        }
        self.say(reply);
        Ok(())
    }

    /// Applies the rules at the end of a message. The replies have the wording of the real server.
    fn judge(
        &self,
        transaction: &SandboxTransaction,
        mailbox: &str,
        too_many: bool,
        content: &[u8],
        bare_newline: bool,
    ) -> Reply {
        let limits = &self.state.settings.limits;
        let now = self.state.now();
        if self.state.is_blocked(mailbox, now) {
            return Reply::new(
                550,
                "5.2.251",
                "Sender throttled due to continuous sending errors",
            );
        }
        if too_many {
            return Reply::new(
                432,
                "4.3.2",
                format!(
                    "Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending for more information. [{NAME}]"
                ),
            );
        }
        if bare_newline {
            return Reply::new(
                550,
                "5.6.11",
                "SMTPSEND.BareLinefeedsAreIllegal; message contains bare linefeeds, which cannot be sent via DATA",
            );
        }
        if content.len() > limits.size {
            return Reply::new(
                552,
                "5.3.4",
                "Message size exceeds fixed maximum message size",
            );
        }
        let headers = Headers::parse(content);
        let author = headers.author();
        let speaks_as = author
            .mailbox()
            .map(|mailbox| &mailbox.address)
            .into_iter()
            .chain(&transaction.sender);
        for address in speaks_as {
            if !self.may_send_as(mailbox, address) {
                self.state.erred(mailbox, now);
                return Reply::new(
                    554,
                    "5.2.252",
                    format!(
                        "SendAsDenied; {mailbox} not allowed to send as {address}; STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied; Failed to process message due to a permanent exception"
                    ),
                );
            }
        }
        if !self.state.may_send(mailbox, now) {
            return Reply::new(
                421,
                "4.4.2",
                "Message submission rate for this client has exceeded the configured limit",
            );
        }
        let recipients = transaction.recipients.len();
        if !self.state.may_send_to(mailbox, recipients, now) {
            return Reply::new(
                554,
                "5.2.0",
                "STOREDRV.Submission.Exception:SubmissionQuotaExceededException; Failed to process message due to a permanent exception",
            );
        }
        let id = headers
            .value("Message-ID")
            .map(|id| String::from_utf8_lossy(id).trim().to_owned());
        Reply::new(
            250,
            "2.0.0",
            format!("OK {} [Hostname={NAME}]", id.unwrap_or_default()),
        )
    }

    fn may_send_as(&self, mailbox: &str, address: &Address) -> bool {
        let Some(mailbox) = self.state.mailbox(mailbox) else {
            return false;
        };
        let shared = self.state.mailbox(address.as_str());
        let is_shared = shared.is_some_and(|shared| shared.shared_with.contains(&mailbox.address));
        let is_person = self.state.settings.shared_sign_in == SharedSignIn::Person;
        mailbox.address == *address || mailbox.send_as.contains(address) || is_person && is_shared
    }

    /// Applies the first fault of the script that matches, if any. Returns true if the fault has sent the
    /// reply.
    async fn fault(&mut self, stage: FaultStage, text: &str) -> UnlessOver<bool> {
        match self.state.script.strike(stage, text) {
            None | Some(FaultAction::Answer(_)) => Ok(false),
            Some(FaultAction::Reply(line)) => {
                self.out.extend_from_slice(format!("{line}\r\n").as_bytes());
                Ok(true)
            }
            Some(FaultAction::Stall(ms)) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                Ok(false)
            }
            Some(FaultAction::Drop | FaultAction::DropAfter) => Err(Over),
        }
    }

    fn say(&mut self, reply: Reply) {
        reply.write(&mut self.out);
    }

    async fn line(&mut self) -> UnlessOver<String> {
        loop {
            match self.lines.next(&mut self.input, limits::AUTH_LINE) {
                Line::Whole(line) => return Ok(line),
                Line::Incomplete => self.fill().await?,
                Line::Illegal => self.say(Reply::illegal_bytes()),
                Line::TooLong => self.say(Reply::line_too_long()),
            }
        }
    }

    /// Sends the pending replies, then reads more input.
    async fn fill(&mut self) -> UnlessOver {
        self.flush().await?;
        let stream = self.stream.as_mut().ok_or(Over)?;
        self.input.reserve(limits::READ_CHUNK);
        let read = tokio::time::timeout(IDLE, stream.read_buf(&mut self.input)).await;
        match read {
            Ok(Ok(read)) if read > 0 => Ok(()),
            _ => Err(Over),
        }
    }

    async fn flush(&mut self) -> UnlessOver {
        if !self.out.is_empty() {
            let stream = self.stream.as_mut().ok_or(Over)?;
            stream.write_all(&self.out).await?;
            stream.flush().await?;
            self.out.clear();
        }
        Ok(())
    }
}
