//! A session with a mailbox: looks at the messages that are new, until the session ends.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::client::{Client, Selected};
use super::handled::Handled;
use super::progress::Progress;
use super::watched::{Parts, WatchedMailbox};
use crate::base::Timestamp;
use crate::delivery::Returned;
use crate::incoming::ReadingProtocol;
use crate::incoming::error::NotReached;
use crate::incoming::upstream::UpstreamError;
use crate::message::{DeliveryReport, may_be_report};
use crate::observe::maillog;
use crate::spool::SpoolError;

/// How far back the first look goes. Mail servers give a message up after some days, Exchange after one.
const FIRST_LOOK: Duration = Duration::from_secs(5 * 24 * 3_600);

/// The number of messages whose header fields are read at a time.
const BATCH: usize = 100;

/// The times, after the arrival of a report, at which its message is looked for again: the report may arrive
/// before the story of its message is written.
const LOOK_AGAIN: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
];

/// The maximum number of reports whose messages are looked for again. More than these arrive only if somebody
/// else's mail comes back, such as spam with our address.
const MOST_PENDING: usize = 100;

/// The reason why a visit ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum VisitError {
    /// The mailbox cannot be reached. This was logged.
    #[error(transparent)]
    NotReached(#[from] NotReached),
    /// The session ended, or the mail server refused a command.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The spool cannot be read or written.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// A session with a mailbox.
pub(super) struct Visit<'a> {
    parts: &'a Parts,
    watched: &'a WatchedMailbox,
    client: Client,
    selected: Selected,
    /// The last message that was looked at; `None` before the first look.
    last: Option<u32>,
    /// Reports whose messages are looked for again, by UID.
    pending: BTreeMap<u32, Pending>,
}

/// A report whose message is looked for again.
struct Pending {
    report: DeliveryReport,
    came: Instant,
    looks: usize,
}

impl Pending {
    /// The time of the next look; `None` after the last one.
    fn next(&self) -> Option<Instant> {
        LOOK_AGAIN.get(self.looks).map(|after| self.came + *after)
    }
}

/// Returns the name of the note that keeps the progress.
fn note(watched: &WatchedMailbox) -> String {
    format!("bounces/{}", watched.mailbox.server)
}

impl<'a> Visit<'a> {
    /// Signs in to the mailbox and opens INBOX.
    pub(super) async fn begin(
        parts: &'a Parts,
        watched: &'a WatchedMailbox,
    ) -> Result<Self, VisitError> {
        let mailbox = &watched.mailbox;
        let signed_in = parts.incoming.reach(mailbox, ReadingProtocol::Imap).await?;
        let capabilities = signed_in.greeting.clone();
        let host = mailbox.imap.as_ref().map_or("", |host| host.host.as_str());
        let mut client = Client::new(signed_in.into_connection(host), capabilities.as_deref());
        let selected = client.select().await?;
        let name = note(watched);
        let notes = parts.spool.notes(&name).await?;
        let known = notes.iter().find(|(its, _)| *its == name);
        let known = known.and_then(|(_, text)| Progress::parse(text));
        let known = known.filter(|known| known.validity == selected.validity);
        Ok(Self {
            parts,
            watched,
            client,
            selected,
            last: known.map(|known| known.last),
            pending: BTreeMap::new(),
        })
    }

    /// Looks at what is new, then waits for more.
    pub(super) async fn round(&mut self) -> Result<(), VisitError> {
        for uids in self.unseen().await?.chunks(BATCH) {
            for (uid, head) in self.client.heads(uids).await? {
                if may_be_report(&head) {
                    self.read(uid).await?;
                }
            }
            self.last = uids.last().copied().max(self.last);
            self.keep().await?;
        }
        self.look_again().await?;
        let next = self.pending.values().filter_map(Pending::next).min();
        let until_next = next.map(|at| at.saturating_duration_since(Instant::now()));
        Ok(self.client.wait(until_next).await?)
    }

    /// Returns the messages that have not been looked at.
    async fn unseen(&mut self) -> Result<Vec<u32>, VisitError> {
        let Some(last) = self.last else {
            let since = self.parts.clock.wall().before(FIRST_LOOK);
            let found = self
                .client
                .search(&format!("SINCE {}", date(since)))
                .await?;
            // All older mail counts as looked at.
            self.last = self.selected.next.map(|next| next.saturating_sub(1));
            self.keep().await?;
            return Ok(found);
        };
        let first = last.saturating_add(1);
        let found = self.client.search(&format!("UID {first}:*")).await?;
        // `*` is the last message, even if its UID is below `first`.
        Ok(found.into_iter().filter(|uid| *uid >= first).collect())
    }

    /// Reads a message, and deals with it if it is a report about a message that we sent.
    async fn read(&mut self, uid: u32) -> Result<(), VisitError> {
        let text = self.client.message(uid).await?.unwrap_or_default();
        let Some(report) = DeliveryReport::parse(&text) else {
            return Ok(());
        };
        let pending = Pending {
            report,
            came: Instant::now(),
            looks: 0,
        };
        if !self.deal_with(uid, &pending.report).await? {
            if self.pending.len() < MOST_PENDING {
                self.pending.insert(uid, pending);
            } else {
                self.give_up(&pending.report);
            }
        }
        Ok(())
    }

    /// Looks again for the messages of the pending reports.
    async fn look_again(&mut self) -> Result<(), VisitError> {
        let now = Instant::now();
        let is_due = |pending: &Pending| pending.next().is_some_and(|next| next <= now);
        let due: Vec<u32> = self
            .pending
            .iter()
            .filter(|(_, it)| is_due(it))
            .map(|(uid, _)| *uid)
            .collect();
        for uid in due {
            let Some(mut pending) = self.pending.remove(&uid) else {
                continue;
            };
            pending.looks += 1;
            if !self.deal_with(uid, &pending.report).await? {
                match pending.next() {
                    Some(_) => drop(self.pending.insert(uid, pending)),
                    None => self.give_up(&pending.report),
                }
            }
            self.keep().await?;
        }
        Ok(())
    }

    /// Records a report and puts it away. Returns false if its message is not known.
    async fn deal_with(&mut self, uid: u32, report: &DeliveryReport) -> Result<bool, VisitError> {
        match self.parts.delivery.returned(report).await? {
            Returned::NotOurs => Ok(false),
            Returned::Recorded(_) | Returned::Known(_) => {
                self.put_away(uid).await?;
                Ok(true)
            }
        }
    }

    fn give_up(&self, report: &DeliveryReport) {
        maillog::foreign_report(&self.watched.mailbox.server, &report.message_id);
    }

    /// Marks, moves or deletes a report. If the mail server refuses that, the report stays as it is: its
    /// message's story is written.
    async fn put_away(&mut self, uid: u32) -> Result<(), VisitError> {
        let done = match &self.watched.handled {
            Handled::Marked if !self.selected.stores_keywords => Ok(()),
            Handled::Marked => self.client.mark(uid).await,
            Handled::Moved(folder) => self.client.move_to(uid, folder).await,
            Handled::Deleted => self.client.delete(uid).await,
        };
        match done {
            Err(UpstreamError::Refused { answer, .. }) => {
                maillog::report_stays(&self.watched.mailbox.server, &self.watched.handled, &answer);
                Ok(())
            }
            done => Ok(done?),
        }
    }

    /// Stores the progress, up to the first report whose message is still looked for.
    async fn keep(&self) -> Result<(), VisitError> {
        let Some(last) = self.last else {
            return Ok(());
        };
        let first = self.pending.keys().next();
        let progress = Progress {
            validity: self.selected.validity,
            last: first.map_or(last, |first| last.min(first.saturating_sub(1))),
        };
        let text = progress.to_string();
        Ok(self
            .parts
            .spool
            .note(&note(self.watched), Some(text))
            .await?)
    }
}

/// Writes a date as IMAP does (RFC 9051 §9): `26-Nov-2026`.
fn date(at: Timestamp) -> String {
    let written = at.rfc5322();
    let mut words = written.split(' ').skip(1);
    let mut word = || words.next().unwrap_or_default();
    format!("{}-{}-{}", word(), word(), word())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_imap() {
        assert_eq!(date(Timestamp(1_795_684_442_000)), "26-Nov-2026");
        assert_eq!(date(Timestamp(0)), "1-Jan-1970");
    }
}
