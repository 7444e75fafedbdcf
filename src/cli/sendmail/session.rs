//! The SMTP session by which sendmail passes a message on.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::failure::Failure;
use crate::message::Address;
use crate::platform::connection::Connection;
use crate::transport::Answer;
use crate::transport::smtp::reply;
use crate::transport::smtp::stuff::Stuffer;

/// How long a reply may take (RFC 5321 §4.5.3.2.6: ten minutes for the end of the message).
const PATIENCE: Duration = Duration::from_secs(600);

/// Exit codes of sysexits.h: a recipient is refused; the message is refused; the sender is refused.
const NO_USER: u8 = 67;
const UNAVAILABLE: u8 = 69;
const NO_PERMISSION: u8 = 77;

/// A session with the running program, or with a submission service in this process.
pub(super) struct Session {
    connection: Connection,
    input: BytesMut,
}

impl Session {
    /// Waits for the greeting, and says EHLO.
    pub(super) async fn begin(connection: Connection) -> Result<Self, Failure> {
        let mut session = Self {
            connection,
            input: BytesMut::new(),
        };
        let greeting = session.reply().await?;
        session.expect(greeting, UNAVAILABLE)?;
        let hello = session.command("EHLO localhost").await?;
        session.expect(hello, UNAVAILABLE)?;
        Ok(session)
    }

    /// Sends a message. If some of the recipients are refused, the others get it, and the error names those that were
    /// refused.
    pub(super) async fn send(
        &mut self,
        sender: &str,
        recipients: &[Address],
        message: &[u8],
    ) -> Result<(), Failure> {
        let is_utf8 = !sender.is_ascii() || recipients.iter().any(|to| !to.as_str().is_ascii());
        let body = if message.is_ascii() {
            ""
        } else {
            " BODY=8BITMIME"
        };
        let utf8 = if is_utf8 { " SMTPUTF8" } else { "" };
        let mail = format!("MAIL FROM:<{sender}> SIZE={}{body}{utf8}", message.len());
        let reply = self.command(&mail).await?;
        self.expect(reply, NO_PERMISSION)?;
        let (mut refused, mut accepted) = (Vec::new(), 0);
        for to in recipients {
            let reply = self.command(&format!("RCPT TO:<{to}>")).await?;
            match reply.is_completion() {
                true => accepted += 1,
                false => refused.push(reply),
            }
        }
        if accepted > 0 {
            let reply = self.command("DATA").await?;
            if reply.code != 354 {
                self.expect(reply, UNAVAILABLE)?;
            }
            let mut content = Vec::with_capacity(message.len() + 3);
            Stuffer::default().push(message, &mut content);
            content.extend_from_slice(b".\r\n");
            self.write(&content).await?;
            let reply = self.reply().await?;
            self.expect(reply, UNAVAILABLE)?;
        }
        match refused.into_iter().next() {
            Some(first) => self.expect(first, NO_USER),
            None => Ok(()),
        }
    }

    /// Ends the session.
    pub(super) async fn quit(mut self) {
        // The message is accepted already.
        let _ = self.command("QUIT").await;
    }

    /// Passes on what comes from standard input, and its replies, until one of both ends.
    pub(super) async fn speak(mut connection: Connection) -> Result<(), Failure> {
        let (mut replies, mut commands) = tokio::io::split(&mut connection);
        let (mut input, mut output) = (tokio::io::stdin(), tokio::io::stdout());
        let said = async {
            let done = tokio::io::copy(&mut input, &mut commands).await;
            // The replies to the last commands are still to come.
            commands.shutdown().await?;
            done?;
            std::future::pending().await
        };
        let heard = tokio::io::copy(&mut replies, &mut output);
        let done: std::io::Result<u64> = tokio::select! {
            done = said => done,
            done = heard => done,
        };
        done.map(drop)
            .map_err(|error| Failure::again(format!("the session ended early: {error}")))
    }

    fn expect(&self, reply: Answer, code: u8) -> Result<(), Failure> {
        match reply {
            reply if reply.is_completion() => Ok(()),
            reply if reply.is_transient() => Err(Failure::again(format!("not now: {reply}"))),
            reply => Err(Failure {
                code,
                text: format!("refused: {reply}"),
            }),
        }
    }

    async fn command(&mut self, line: &str) -> Result<Answer, Failure> {
        self.write(format!("{line}\r\n").as_bytes()).await?;
        self.reply().await
    }

    async fn write(&mut self, octets: &[u8]) -> Result<(), Failure> {
        let written = timeout(PATIENCE, self.connection.write_all(octets)).await;
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::again(format!("the connection was lost: {error}"))),
            Err(_) => Err(Failure::again("no progress in 10 minutes".to_owned())),
        }
    }

    async fn reply(&mut self) -> Result<Answer, Failure> {
        loop {
            let found = reply::take(&mut self.input);
            if let Some(reply) = found.map_err(|error| Failure::again(error.to_string()))? {
                return Ok(reply);
            }
            let read = timeout(PATIENCE, self.connection.read_buf(&mut self.input)).await;
            match read {
                Ok(Ok(0)) => return Err(Failure::again("the connection was closed".to_owned())),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    return Err(Failure::again(format!("the connection was lost: {error}")));
                }
                Err(_) => return Err(Failure::again("no reply in 10 minutes".to_owned())),
            }
        }
    }
}
