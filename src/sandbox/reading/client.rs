//! A connection of a client by IMAP or POP3.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::base::limits;
use crate::sandbox::script::{FaultAction, FaultStage};
use crate::sandbox::state::{Bearer, SandboxState};

/// How long a client may be silent.
const IDLE: Duration = Duration::from_secs(1_800);

/// The maximum number of octets of a line. A token takes up to 20 KB.
const LINE: usize = 64 * 1024;

/// A connection of a client.
pub(super) struct Client {
    pub(super) stream: TlsStream<TcpStream>,
    pub(super) state: Arc<SandboxState>,
    pub(super) input: BytesMut,
    pub(super) output: Vec<u8>,
}

impl Client {
    pub(super) fn say(&mut self, text: &str) {
        self.output.extend_from_slice(text.as_bytes());
        self.output.extend_from_slice(b"\r\n");
    }

    pub(super) async fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.output).await?;
        self.output.clear();
        self.stream.flush().await
    }

    /// Reads more input, or fails if the client is gone.
    pub(super) async fn fill(&mut self) -> io::Result<()> {
        self.input.reserve(limits::READ_CHUNK);
        let read = tokio::time::timeout(IDLE, self.stream.read_buf(&mut self.input)).await;
        match read {
            Ok(Ok(read)) if read > 0 => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Sends the output, and reads a line without its end.
    pub(super) async fn line(&mut self) -> io::Result<String> {
        self.flush().await?;
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.input) {
                let line = self.input.split_to(end + 1);
                let text = String::from_utf8_lossy(&line);
                return Ok(text.trim_end_matches(['\r', '\n']).to_owned());
            }
            if self.input.len() > LINE {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.fill().await?;
        }
    }

    /// Applies the first fault of the script that matches, if any. Returns the text of a reply.
    pub(super) async fn fault(&self, stage: FaultStage, text: &str) -> io::Result<Option<String>> {
        match self.state.script.strike(stage, text) {
            None | Some(FaultAction::Answer(_)) => Ok(None),
            Some(FaultAction::Reply(line)) => Ok(Some(line)),
            Some(FaultAction::Stall(ms)) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                Ok(None)
            }
            Some(FaultAction::Drop | FaultAction::DropAfter) => {
                Err(io::ErrorKind::ConnectionAborted.into())
            }
        }
    }

    /// Returns the mailbox that an XOAUTH2 response names, if its token may read it: a token of an app, or one
    /// of the mailbox's user or of a user whom it is shared with, with this scope.
    pub(super) fn signs_in(&self, response: &str, scope: &str) -> Option<String> {
        let clear = String::from_utf8(BASE64_STANDARD.decode(response.trim()).ok()?).ok()?;
        let mut parts = clear.split('\x01');
        let name = parts.next()?.strip_prefix("user=")?;
        let token = parts.next()?.strip_prefix("auth=Bearer ")?;
        let mailbox = self.state.mailbox(name)?;
        let may = match self.state.bearer(token, self.state.now())? {
            Bearer::App => true,
            Bearer::User(user) => {
                let is_shared = mailbox.shared_with.iter().any(|it| it.as_str() == user);
                let has_scope = self.state.scopes(token).iter().any(|it| it == scope);
                has_scope && (is_shared || mailbox.address.as_str() == user)
            }
        };
        may.then(|| mailbox.address.to_string())
    }
}
