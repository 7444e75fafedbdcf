//! The one way to send a message: for the queue, for an app that waits for the upstream's own reply, and
//! for a person who tests a server.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::AsyncReadExt;

use super::plan::ServerEntry;
use super::sessions::SessionSlot;
use crate::base::Clock;
use crate::message::rewrite::Composed;
use crate::message::{Address, Envelope, ReversePath};
use crate::observe::maillog;
use crate::spool::{Content, SpoolError};
use crate::transport::{
    Answer, Body, FailedRecipient, Finding, Interruption, Outcome, Outgoing, Progress, Transport,
};

/// A message as it is sent.
pub(super) struct Sendable<'a> {
    /// The envelope sender for the server.
    pub(super) sender: &'a ReversePath,
    /// The address in the `From` field, if there is one.
    pub(super) author: Option<&'a Address>,
    /// The recipients, and the parameters from the app.
    pub(super) envelope: &'a Envelope,
    /// The new header section.
    pub(super) composed: &'a Composed,
    /// The stored content, whose body follows the new header section.
    pub(super) content: &'a Content,
    /// True if the message is sent only if the server accepts every recipient.
    pub(super) all_or_none: bool,
}

/// The reason why there is no outcome.
pub(super) enum NotSent {
    /// Trouble with the connection or the server.
    Interrupted(Interruption),
    /// The spool cannot read the content.
    Spool(SpoolError),
}

/// Sends messages over the transport.
pub(super) struct Dispatcher {
    transport: Arc<dyn Transport>,
    clock: Clock,
    unknown: Unknown,
}

impl Dispatcher {
    pub(super) fn new(transport: Arc<dyn Transport>, clock: Clock) -> Self {
        Self {
            transport,
            clock,
            unknown: Unknown::default(),
        }
    }

    /// The transport that connects to servers.
    pub(super) fn transport(&self) -> &dyn Transport {
        self.transport.as_ref()
    }

    /// Sends over the slot's session or a new session. A kept session that turns out to be dead before any
    /// reply is replaced by a new one. If the server refuses the token, a new session with a fresh token is
    /// tried once. A sender that the server refused recently is refused without asking the server.
    pub(super) async fn send(
        &self,
        entry: &ServerEntry,
        seat: &mut SessionSlot,
        letter: &Sendable<'_>,
    ) -> Result<Outcome, NotSent> {
        let sender = letter.sender.address();
        if let Some(sender) = sender
            && let Some((answer, remedy)) = entry.desk.refuses(sender, self.clock.now())
        {
            return Ok(all_refused(letter.envelope, &answer, &remedy));
        }
        let outcome = self.transmit(entry, seat, letter).await?;
        for answer in &outcome.unclassified {
            if self.unknown.is_new(entry.name(), answer) {
                maillog::unclassified(entry.name(), answer);
            }
        }
        Ok(outcome)
    }

    async fn transmit(
        &self,
        entry: &ServerEntry,
        seat: &mut SessionSlot,
        letter: &Sendable<'_>,
    ) -> Result<Outcome, NotSent> {
        let upstream = &entry.server.upstream;
        entry.desk.sessions.prepare(seat, upstream).await;
        let mut kept = seat.take();
        let mut fresh_token = false;
        loop {
            let was_kept = kept.is_some();
            let mut link = match kept.take() {
                Some(link) => link,
                None => self.transport.open(upstream, fresh_token).await?,
            };
            let outgoing = letter.outgoing().await.map_err(NotSent::Spool)?;
            match link.send(outgoing).await {
                Ok(outcome) if is_token_refused(&outcome) => {
                    link.quit().await;
                    if std::mem::replace(&mut fresh_token, true) {
                        return Ok(outcome);
                    }
                }
                Ok(outcome) => {
                    if link.is_spent() {
                        link.quit().await
                    } else {
                        seat.keep(link, upstream)
                    }
                    return Ok(outcome);
                }
                Err(interruption) if was_kept && interruption.progress == Progress::Unanswered => {}
                Err(interruption) => return Err(interruption.into()),
            }
        }
    }
}

impl From<Interruption> for NotSent {
    fn from(interruption: Interruption) -> Self {
        Self::Interrupted(interruption)
    }
}

impl<'a> Sendable<'a> {
    async fn outgoing(&self) -> Result<Outgoing<'a>, SpoolError> {
        Ok(Outgoing {
            sender: self.sender,
            author: self.author,
            envelope: self.envelope,
            head: &self.composed.head,
            body: body(self.content, self.composed.body).await?,
            utf8_header: !self.composed.head.is_ascii(),
            all_or_none: self.all_or_none,
        })
    }
}

/// Returns the content from the offset `from` to its end.
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

/// True if the server refused the token before the message was delivered or failed for any recipient.
fn is_token_refused(outcome: &Outcome) -> bool {
    let is_untouched = outcome.delivered.is_empty() && outcome.failed.is_empty();
    is_untouched && matches!(outcome.finding, Some(Finding::TokenRefused(_)))
}

fn all_refused(envelope: &Envelope, answer: &Answer, remedy: &str) -> Outcome {
    let refused = |place| FailedRecipient {
        place,
        answer: answer.clone(),
        remedy: remedy.to_owned(),
    };
    Outcome {
        failed: (0..envelope.recipients.len()).map(refused).collect(),
        ..Outcome::default()
    }
}

/// Unclassified replies that were logged, so that each is logged only once.
#[derive(Default)]
struct Unknown(Mutex<HashSet<String>>);

/// The maximum number of unclassified replies that are remembered. Further ones are logged each time.
const UNKNOWN: usize = 1_000;

impl Unknown {
    /// Returns true if this reply is new for this server, and remembers it. Exchange ends a reply with the
    /// name of the machine that sent it, such as `[AM0PR01CA0001...]`; that name is ignored.
    fn is_new(&self, server: &str, answer: &Answer) -> bool {
        let text = answer.to_string();
        let words = text.split('[').next().unwrap_or_default();
        let key = format!("{server} {words}");
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !known.contains(&key) && (known.len() >= UNKNOWN || known.insert(key))
    }
}
