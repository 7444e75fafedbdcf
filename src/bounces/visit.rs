//! A session with a mailbox: examines new messages until the session ends.

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

/// The age of the oldest messages that the first scan covers. Mail servers give up on a message after several
/// days, Exchange after one.
const FIRST_SCAN: Duration = Duration::from_secs(5 * 24 * 3_600);

/// The number of messages whose header fields are read at a time.
const BATCH: usize = 100;

/// The delays, after a report was first read, at which the history is searched again for its message: the report
/// may arrive before the story of its message is written.
const SEARCH_AGAIN: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
];

/// The maximum number of reports for whose messages the history is searched again. More are expected only if
/// others forge our address, and their mail bounces.
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
    /// The UID of the last examined message; `None` until the first batch has been examined.
    last: Option<u32>,
    /// Reports for whose messages the history is searched again, by UID.
    pending: BTreeMap<u32, Pending>,
}

/// A report for whose message the history is searched again.
struct Pending {
    report: DeliveryReport,
    arrived: Instant,
    searches: usize,
}

impl Pending {
    /// The time of the next search; `None` after the last one.
    fn next(&self) -> Option<Instant> {
        SEARCH_AGAIN
            .get(self.searches)
            .map(|after| self.arrived + *after)
    }
}

impl<'a> Visit<'a> {
    /// Signs in to the mailbox and opens INBOX.
    pub(super) async fn begin(
        parts: &'a Parts,
        watched: &'a WatchedMailbox,
    ) -> Result<Self, VisitError> {
        let signed_in = parts
            .incoming
            .reach(&watched.mailbox, ReadingProtocol::Imap)
            .await?;
        let capabilities = signed_in.greeting.clone();
        let connection = signed_in.into_connection(watched.host());
        let mut client = Client::new(connection, capabilities.as_deref());
        let selected = client.select().await?;
        let name = watched.note();
        let notes = parts.spool.notes(&name).await?;
        let known = notes.iter().find(|(its, _)| *its == name);
        let known = known.and_then(|(_, text)| Progress::parse(text));
        Ok(Self {
            parts,
            watched,
            client,
            last: known
                .filter(|known| known.fits(&selected))
                .map(|known| known.last),
            selected,
            pending: BTreeMap::new(),
        })
    }

    /// Examines the messages that are new.
    pub(super) async fn scan(&mut self) -> Result<(), VisitError> {
        let unseen = self.unseen().await?;
        for uids in unseen.chunks(BATCH) {
            for uid in self.candidates(uids).await? {
                self.read(uid).await?;
            }
            if let Some(last) = uids.last() {
                self.keep(*last).await?;
            }
        }
        // If the first scan finds no message, the next one begins after the newest message of the folder.
        if self.last.is_none()
            && let Some(next) = self.selected.next
        {
            self.keep(next.saturating_sub(1)).await?;
        }
        self.search_again().await
    }

    /// Waits until there may be more to examine.
    pub(super) async fn wait(&mut self) -> Result<(), VisitError> {
        let next = self.pending.values().filter_map(Pending::next).min();
        let until_next = next.map(|at| at.saturating_duration_since(Instant::now()));
        Ok(self.client.wait(until_next).await?)
    }

    /// Returns the messages that have not been examined, in order.
    async fn unseen(&mut self) -> Result<Vec<u32>, VisitError> {
        let Some(last) = self.last else {
            let since = date(self.parts.clock.wall().before(FIRST_SCAN));
            return Ok(self.client.search(&format!("SINCE {since}")).await?);
        };
        let first = last.saturating_add(1);
        let found = self.client.search(&format!("UID {first}:*")).await?;
        // `*` is the last message, even if its UID is below `first`.
        Ok(found.into_iter().filter(|uid| *uid >= first).collect())
    }

    /// Returns the messages among `uids` that may be reports.
    async fn candidates(&mut self, uids: &[u32]) -> Result<Vec<u32>, VisitError> {
        let heads = match self.client.heads(uids).await {
            // If a single message caused the refusal, reading it alone fails again and is logged.
            Err(UpstreamError::Command { .. }) => return Ok(uids.to_vec()),
            heads => heads?,
        };
        let may_be = heads.into_iter().filter(|(_, head)| may_be_report(head));
        Ok(may_be.map(|(uid, _)| uid).collect())
    }

    /// Reads a message, and deals with it if it is a report about a message that we sent.
    async fn read(&mut self, uid: u32) -> Result<(), VisitError> {
        let text = match self.client.message(uid).await {
            Err(error @ UpstreamError::Command { .. }) => {
                maillog::message_unread(&self.watched.mailbox.server, uid, &error);
                return Ok(());
            }
            text => text?.unwrap_or_default(),
        };
        let Some(report) = DeliveryReport::parse(&text) else {
            return Ok(());
        };
        let pending = Pending {
            report,
            arrived: Instant::now(),
            searches: 0,
        };
        self.deal_with(uid, pending).await
    }

    /// Searches the history again for the messages of pending reports.
    async fn search_again(&mut self) -> Result<(), VisitError> {
        let now = Instant::now();
        let is_due = |pending: &Pending| pending.next().is_some_and(|next| next <= now);
        let due = self.pending.iter().filter(|(_, it)| is_due(it));
        let due: Vec<u32> = due.map(|(uid, _)| *uid).collect();
        for uid in due {
            if let Some(mut pending) = self.pending.remove(&uid) {
                pending.searches += 1;
                self.deal_with(uid, pending).await?;
            }
        }
        match self.last {
            Some(last) => self.keep(last).await,
            None => Ok(()),
        }
    }

    /// Records a report, and marks, moves or deletes it. If its message is not known, searches for it later.
    async fn deal_with(&mut self, uid: u32, pending: Pending) -> Result<(), VisitError> {
        let server = &self.watched.mailbox.server;
        let is_last = pending.next().is_none();
        let report = pending.report.clone();
        let returned = self.parts.delivery.returned(report, is_last).await;
        let is_over = is_last || self.pending.len() >= MOST_PENDING;
        match returned {
            Ok(Returned::Recorded | Returned::Known) => return self.handle(uid).await,
            Ok(Returned::KnownFromAnother) if is_over => return self.handle(uid).await,
            Ok(Returned::Own | Returned::SenderNotNotified) => {}
            Ok(Returned::NotOurs) if is_over => {
                maillog::foreign_report(server, &pending.report.message_id);
            }
            Err(error) if error.is_full() => return Err(error.into()),
            // One damaged story must not stop the processing of other reports.
            Err(error) if is_over => maillog::message_unread(server, uid, &error),
            Ok(Returned::NotOurs | Returned::KnownFromAnother) | Err(_) => {
                drop(self.pending.insert(uid, pending));
            }
        }
        Ok(())
    }

    /// Marks, moves or deletes a report. If the mail server refuses that, the report stays as it is: the bounce
    /// is recorded.
    async fn handle(&mut self, uid: u32) -> Result<(), VisitError> {
        let done = match &self.watched.handled {
            Handled::Marked if !self.selected.stores_keywords => Ok(()),
            Handled::Marked => self.client.mark(uid).await,
            Handled::Moved(folder) => self.client.move_to(uid, folder).await,
            Handled::Deleted => self.client.delete(uid).await,
        };
        match done {
            Err(error @ UpstreamError::Command { .. }) => {
                maillog::report_stays(&self.watched.mailbox.server, &self.watched.handled, &error);
                Ok(())
            }
            done => Ok(done?),
        }
    }

    /// Stores the progress: `last`, but never past a pending report, so that pending reports are read again after a
    /// restart.
    async fn keep(&mut self, last: u32) -> Result<(), VisitError> {
        self.last = Some(last).max(self.last);
        let first = self.pending.keys().next();
        let progress = Progress {
            validity: self.selected.validity,
            last: first.map_or(last, |first| last.min(first.saturating_sub(1))),
        };
        let note = self.watched.note();
        Ok(self
            .parts
            .spool
            .note(&note, Some(progress.to_string()))
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
