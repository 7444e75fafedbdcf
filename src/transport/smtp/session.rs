//! One session with a server: connects, sets up TLS, signs in, sends one message after another.

pub(crate) mod open;

use std::io::ErrorKind;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

use super::command::{self, Extensions};
use super::failure::Failure;
use super::reply;
use super::stage::Stage;
use super::stuff::Stuffer;
use crate::base::Service;
use crate::base::limits::{FILE_CHUNK, READ_CHUNK, upstream as wait};
use crate::transport::answer::Answer;
use crate::transport::outgoing::{Body, Outgoing};
use crate::transport::remote::RemoteStream;

/// The maximum number of RCPTs in one write. With more, the buffers of both sides could fill up, and each
/// side would wait for the other (RFC 2920 §3.1).
const RCPTS_AT_ONCE: usize = 100;

/// A message up to this size (octets) is sent in one write with its envelope if the server offers CHUNKING.
/// A larger message would waste too much bandwidth if its recipients are refused.
const AT_ONCE: usize = 64 * 1024;

/// The reply to DATA that asks for the message (RFC 5321 §4.1.1.4).
const GO_ON: u16 = 354;

const UNASKED: &str = "the server sent data that is not a reply to any command";

const CLOSED: &str = "the server closed the connection";

/// The server's replies to one message.
#[derive(Debug)]
pub struct Transcript {
    /// The reply to MAIL.
    pub mail: Answer,
    /// The replies to each RCPT, in order; empty if MAIL was refused.
    pub recipients: Vec<Answer>,
    /// The reply to DATA or to the final dot, whichever was last; `None` if neither was sent.
    pub message: Option<(Stage, Answer)>,
    /// True if the server accepts DSN parameters; it then sends the requested confirmations itself.
    pub offers_dsn: bool,
}

/// A session with a server.
pub struct Session {
    host: String,
    stream: RemoteStream,
    input: BytesMut,
    service: Service,
    extensions: Extensions,
    offers: String,
    /// True if a 354 has proved that replies and commands are in step: each reply belongs to its command.
    in_step: bool,
    is_spent: bool,
}

impl Session {
    /// Sends one message. After an error the session can no longer be used.
    pub async fn send(&mut self, message: &mut Outgoing<'_>) -> Result<Transcript, Failure> {
        if !self.extensions.utf8 && command::needs_utf8(message) {
            let mail = utf8_not_offered(&self.host);
            return Ok(Transcript {
                mail,
                recipients: Vec::new(),
                message: None,
                offers_dsn: self.extensions.dsn,
            });
        }
        self.expect_silence().await?;
        if self.fits_in_one_write(message) {
            return self.at_once(message).await;
        }
        let mut transcript = self.envelope(message).await?;
        let accepted = transcript
            .recipients
            .iter()
            .filter(|reply| reply.is_completion())
            .count();
        let wanted = if message.all_or_none {
            message.envelope.recipients.len()
        } else {
            1
        };
        match &transcript.message {
            Some((_, data)) if data.code == GO_ON => {
                self.in_step = true;
                let reply = if accepted >= wanted {
                    self.content(message).await?
                } else {
                    self.nothing().await?
                };
                transcript.message = Some((Stage::FinalDot, reply));
            }
            Some(_) => self.reset().await,
            None if accepted >= wanted && transcript.mail.is_completion() => {
                let data = self.command("DATA\r\n", Stage::Data, wait::DATA).await?;
                let go_ahead = data.code == GO_ON;
                transcript.message = Some((Stage::Data, data));
                if go_ahead {
                    self.in_step = true;
                    let reply = self.content(message).await?;
                    transcript.message = Some((Stage::FinalDot, reply));
                } else {
                    self.reset().await;
                }
            }
            None => self.reset().await,
        }
        Ok(transcript)
    }

    /// True if the server accepts no further message in this session.
    pub fn is_spent(&self) -> bool {
        self.is_spent
    }

    /// True if the connection still seems open; nothing is sent to check it.
    pub async fn is_alive(&mut self) -> bool {
        let mut byte = [0u8; 1];
        let mut buffer = ReadBuf::new(&mut byte);
        std::future::poll_fn(|context| {
            Poll::Ready(
                Pin::new(&mut self.stream)
                    .poll_read(context, &mut buffer)
                    .is_pending(),
            )
        })
        .await
    }

    /// Ends the session with QUIT.
    pub async fn quit(mut self) {
        let farewell = async {
            self.stream.write_all(b"QUIT\r\n").await?;
            self.stream.flush().await?;
            self.stream.shutdown().await
        };
        // QUIT is only a courtesy: its result does not matter.
        let _ = timeout(wait::QUIT, farewell).await;
    }

    /// Sends MAIL and the RCPTs. If the server offers PIPELINING, pipelines them; DATA follows in the same
    /// write unless the message has several recipients and must go to all of them or to none.
    async fn envelope(&mut self, message: &Outgoing<'_>) -> Result<Transcript, Failure> {
        let mut commands = self.envelope_commands(message);
        let mail = commands.remove(0);
        let (rcpts, recipients) = (commands, &message.envelope.recipients);
        if !self.extensions.pipelining {
            return self.envelope_step_by_step(&mail, &rcpts).await;
        }
        let with_data = !message.all_or_none || recipients.len() == 1;
        let mut lines = mail;
        let mut transcript = Transcript {
            mail: Answer::new(250, "", ""),
            recipients: Vec::new(),
            message: None,
            offers_dsn: self.extensions.dsn,
        };
        for (place, group) in rcpts.chunks(RCPTS_AT_ONCE).enumerate() {
            let (is_first, is_last) = (place == 0, (place + 1) * RCPTS_AT_ONCE >= rcpts.len());
            group.iter().for_each(|line| lines.push_str(line));
            if is_last && with_data {
                lines.push_str("DATA\r\n");
            }
            self.write(lines.as_bytes(), Stage::Mail, wait::ENVELOPE)
                .await?;
            lines.clear();
            if is_first {
                transcript.mail = self.read(Stage::Mail, wait::ENVELOPE).await?;
            }
            for _ in group {
                transcript
                    .recipients
                    .push(self.read(Stage::Rcpt, wait::ENVELOPE).await?);
            }
            if is_last && with_data {
                transcript.message = Some((Stage::Data, self.read(Stage::Data, wait::DATA).await?));
            }
        }
        if !transcript.mail.is_completion() {
            transcript.recipients.clear();
        }
        Ok(transcript)
    }

    fn fits_in_one_write(&self, message: &Outgoing<'_>) -> bool {
        let Body::Memory(body) = &message.body else {
            return false;
        };
        let few = message.envelope.recipients.len();
        self.in_step
            && self.service == Service::ExchangeOnline
            && self.extensions.pipelining
            && self.extensions.chunking
            && message.head.len() + body.len() <= AT_ONCE
            && few
                <= if message.all_or_none {
                    1
                } else {
                    RCPTS_AT_ONCE
                }
    }

    /// Sends MAIL, the RCPTs, and the content as a single `BDAT LAST` chunk (RFC 3030), all in one write: one
    /// round trip. After the write the server may have the message, so if the connection is lost then,
    /// delivery is uncertain.
    ///
    /// Used only for Exchange Online: a server that refused MAIL and, contrary to RFC 3030 §2, did not
    /// discard the chunk would read the message's lines as commands. Used only after a 354 reply to DATA in
    /// the same session has proved that replies and commands are in step: the replies here are normally all
    /// 250, so a surplus reply would shift the others unnoticed.
    async fn at_once(&mut self, message: &Outgoing<'_>) -> Result<Transcript, Failure> {
        let mut out = self.envelope_commands(message).concat().into_bytes();
        let body: &[u8] = match &message.body {
            Body::Memory(body) => body,
            Body::Stream(..) => &[],
        };
        out.reserve(message.head.len() + body.len() + 32);
        out.extend_from_slice(
            format!("BDAT {} LAST\r\n", message.head.len() + body.len()).as_bytes(),
        );
        out.extend_from_slice(message.head);
        out.extend_from_slice(body);
        self.write(&out, Stage::FinalDot, wait::BLOCK).await?;
        let uncertain = |failure| match failure {
            Failure::Lost { host, reason, .. } => Failure::Lost {
                host,
                stage: Stage::FinalDot,
                reason,
            },
            other => other,
        };
        let mail = self
            .read(Stage::Mail, wait::ENVELOPE)
            .await
            .map_err(uncertain)?;
        let mut recipients = Vec::new();
        for _ in &message.envelope.recipients {
            recipients.push(
                self.read(Stage::Rcpt, wait::ENVELOPE)
                    .await
                    .map_err(uncertain)?,
            );
        }
        let last = self.final_reply().await?;
        if !mail.is_completion() {
            recipients.clear();
        }
        if !last.is_completion() {
            self.reset().await;
        }
        Ok(Transcript {
            mail,
            recipients,
            message: Some((Stage::FinalDot, last)),
            offers_dsn: self.extensions.dsn,
        })
    }

    /// Returns the MAIL command, then the RCPT commands.
    fn envelope_commands(&self, message: &Outgoing<'_>) -> Vec<String> {
        let mut commands = vec![command::mail_command(message, &self.extensions)];
        let dsn = self.extensions.dsn;
        let utf8 = command::declares_utf8(message, &self.extensions);
        commands.extend(message.envelope.recipients.iter().map(|recipient| {
            command::rcpt_command(&recipient.address, &recipient.parameters, dsn, utf8)
        }));
        commands
    }

    async fn envelope_step_by_step(
        &mut self,
        mail: &str,
        rcpts: &[String],
    ) -> Result<Transcript, Failure> {
        let mail = self.command(mail, Stage::Mail, wait::ENVELOPE).await?;
        let mut recipients = Vec::new();
        if mail.is_completion() {
            for line in rcpts {
                recipients.push(self.command(line, Stage::Rcpt, wait::ENVELOPE).await?);
            }
        }
        Ok(Transcript {
            mail,
            recipients,
            message: None,
            offers_dsn: self.extensions.dsn,
        })
    }

    async fn content(&mut self, message: &mut Outgoing<'_>) -> Result<Answer, Failure> {
        let mut stuffer = Stuffer::default();
        let room = match &message.body {
            Body::Memory(bytes) => bytes.len(),
            Body::Stream(..) => FILE_CHUNK,
        };
        let mut out = Vec::with_capacity(message.head.len() + room + 256);
        stuffer.push(message.head, &mut out);
        match &mut message.body {
            Body::Memory(bytes) => stuffer.push(bytes, &mut out),
            Body::Stream(body, size) => self.stream(body, *size, &mut stuffer, &mut out).await?,
        }
        stuffer.end(&mut out);
        self.write(&out, Stage::Content, wait::BLOCK).await?;
        self.final_reply().await
    }

    /// Reads the reply to the final dot or the last chunk. If more octets follow at once, it is unclear
    /// which reply is the right one, and the message may or may not have arrived. But a 421 after the reply
    /// only ends the session (RFC 5321 §3.8).
    async fn final_reply(&mut self) -> Result<Answer, Failure> {
        let reply = self.read(Stage::FinalDot, wait::FINAL_DOT).await?;
        if self.input.starts_with(b"421") {
            self.is_spent = true;
        } else if !self.input.is_empty() {
            return Err(self.lost(Stage::FinalDot, UNASKED));
        }
        Ok(reply)
    }

    /// Fails if the server has sent something since its last reply was read.
    async fn expect_silence(&mut self) -> Result<(), Failure> {
        self.input.reserve(READ_CHUNK);
        let read = std::future::poll_fn(|context| {
            let read = pin!(self.stream.read_buf(&mut self.input));
            Poll::Ready(match read.poll(context) {
                Poll::Pending => None,
                Poll::Ready(read) => Some(read),
            })
        });
        match read.await {
            None if self.input.is_empty() => Ok(()),
            None | Some(Ok(1..)) => Err(self.lost(Stage::Mail, UNASKED)),
            Some(_) => Err(self.lost(Stage::Mail, CLOSED)),
        }
    }

    async fn stream(
        &mut self,
        body: &mut (dyn AsyncRead + Send + Sync + Unpin),
        size: u64,
        stuffer: &mut Stuffer,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let mut piece = vec![0; FILE_CHUNK];
        let mut left = size;
        while left > 0 {
            let wanted = left.min(FILE_CHUNK as u64) as usize;
            let read = body.read(&mut piece[..wanted]).await;
            match read {
                Ok(0) => {
                    return Err(Failure::Content(
                        "the spooled content is shorter than its recorded size".into(),
                    ));
                }
                Err(error) => {
                    return Err(Failure::Content(format!(
                        "the spooled content cannot be read: {error}"
                    )));
                }
                Ok(read) => {
                    left -= read as u64;
                    stuffer.push(&piece[..read], out);
                }
            }
            self.write(out, Stage::Content, wait::BLOCK).await?;
            out.clear();
        }
        Ok(())
    }

    /// Handles a 354 that came although every recipient was refused: sends the single dot of RFC 2920 §3.1.
    /// The server then has to reply that there are no valid recipients.
    async fn nothing(&mut self) -> Result<Answer, Failure> {
        self.write(b".\r\n", Stage::Content, wait::BLOCK).await?;
        self.read(Stage::FinalDot, wait::FINAL_DOT).await
    }

    /// Resets the transaction after a refusal. The refusal stays valid, whatever the result of RSET.
    async fn reset(&mut self) {
        let reply = self.command("RSET\r\n", Stage::End, wait::ENVELOPE).await;
        self.is_spent = !reply.is_ok_and(|reply| reply.is_completion());
    }

    async fn command(
        &mut self,
        line: &str,
        stage: Stage,
        within: Duration,
    ) -> Result<Answer, Failure> {
        self.write(line.as_bytes(), stage, within).await?;
        self.read(stage, within).await
    }

    /// Reads a reply that must be positive for the session to continue.
    async fn expect(&mut self, stage: Stage, within: Duration) -> Result<Answer, Failure> {
        let reply = self.read(stage, within).await?;
        if reply.is_completion() {
            return Ok(reply);
        }
        Err(self.refused(stage, reply))
    }

    /// Writes commands or content. Fails if there are unread octets: they belong to no command, and could
    /// be mistaken for the reply to this write.
    async fn write(&mut self, bytes: &[u8], stage: Stage, within: Duration) -> Result<(), Failure> {
        if !self.input.is_empty() {
            return Err(self.lost(stage, UNASKED));
        }
        let written = timeout(within, async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        });
        match written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.lost(stage, error)),
            Err(_) => Err(self.lost(stage, format!("no progress in {} s", within.as_secs()))),
        }
    }

    /// Reads the next reply. A 421 ends the session at any stage (RFC 5321 §3.8).
    async fn read(&mut self, stage: Stage, within: Duration) -> Result<Answer, Failure> {
        let mut found = timeout(within, self.next_reply(stage)).await;
        if found.is_err() {
            found = timeout(wait::LAST_CHECK, self.next_reply(stage)).await;
        }
        let reply = match found {
            Ok(reply) => reply?,
            Err(_) => return Err(self.lost(stage, format!("no reply in {} s", within.as_secs()))),
        };
        if reply.code == 421 {
            return Err(self.refused(stage, reply));
        }
        if !belongs_at(stage, &reply) {
            let reason = format!("unexpected reply: {reply}");
            return Err(self.lost(stage, reason));
        }
        Ok(reply)
    }

    async fn next_reply(&mut self, stage: Stage) -> Result<Answer, Failure> {
        loop {
            match reply::take(&mut self.input) {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) => {}
                Err(error) => return Err(self.lost(stage, error)),
            }
            self.input.reserve(READ_CHUNK);
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) => return Err(self.lost(stage, CLOSED)),
                Ok(_) => {}
                // Closed without a TLS close_notify; the error text of rustls for this is too long.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Err(self.lost(stage, CLOSED));
                }
                Err(error) => return Err(self.lost(stage, error)),
            }
        }
    }

    fn refused(&self, stage: Stage, reply: Answer) -> Failure {
        Failure::Refused {
            host: self.host.clone(),
            stage,
            answer: reply,
            detail: None,
        }
    }

    fn lost(&self, stage: Stage, reason: impl std::fmt::Display) -> Failure {
        Failure::Lost {
            host: self.host.clone(),
            stage,
            reason: reason.to_string(),
        }
    }
}

/// Returns the reply that we judge instead of the server's if an address needs SMTPUTF8 and the server does
/// not offer SMTPUTF8 (RFC 6531 §3.2).
fn utf8_not_offered(host: &str) -> Answer {
    let text = format!("An address needs SMTPUTF8, which {host} does not offer");
    Answer::new(553, "5.6.7", text)
}

/// True if this is a possible reply at this stage (RFC 5321 §4.3.2). Intermediate replies, 3yz, are
/// possible only for AUTH and DATA, and the only positive reply to DATA is 354.
fn belongs_at(stage: Stage, reply: &Answer) -> bool {
    match reply.code {
        200..=299 => stage != Stage::Data,
        334 => stage == Stage::Auth,
        GO_ON => stage == Stage::Data,
        300..=399 => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_354_goes_on_after_data_and_only_2yz_ends_a_message_well() {
        for (stage, code, expected) in [
            (Stage::Data, 354, true),
            (Stage::Data, 250, false),
            (Stage::Data, 334, false),
            (Stage::Data, 451, true),
            (Stage::Data, 554, true),
            (Stage::FinalDot, 250, true),
            (Stage::FinalDot, 354, false),
            (Stage::FinalDot, 334, false),
            (Stage::Mail, 354, false),
            (Stage::Rcpt, 251, true),
            (Stage::Auth, 334, true),
            (Stage::Auth, 354, false),
        ] {
            let reply = Answer::new(code, "", "x");
            assert_eq!(belongs_at(stage, &reply), expected, "{code} at {stage}");
        }
    }
}
