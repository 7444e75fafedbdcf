//! The durable queue. What it has taken survives a crash; what it gives out is leased, not removed.
//!
//! | state | on the disk | who moves it on | what a crash leaves |
//! | --- | --- | --- | --- |
//! | arriving | nothing, or a file in `content/` without a row | the listener, with `put` | nothing promised; the next opening removes an unfinished file, and moves a finished one to `lost/`, since it might be one that the disk has lost the row of |
//! | queued | a row with state 0, content in the row's neighbour or in a file | `claim` once due, or `fresh` at once | the same; it is due |
//! | leased | the same as queued | delivery, with `finish` or `release` | queued: a lease ends with its owner |
//! | held | a row with state 1 and the reason | the operator, with `act` | the same |
//! | gone | its story, for as long as stories are kept | - | nothing; or, where the crash came between the upstream's 250 and the commit of `finish`, queued: at worst it is delivered twice |
//!
//! The instant of acceptance is the commit of `put`: the row and its content are on stable storage,
//! or a larger content's file and its folder were synced before. A report to the sender is put in
//! the same transaction that ends the message it is about, so there is one, and only one.
//!
//! Every message has a lane, the server that would take it, and in it a flow: its priority and its
//! user. What is full or held is simply not asked for, so what waits in it costs the others nothing.

pub mod content;
pub mod filter;
pub mod lease;
pub mod record;
pub mod sqlite;
pub mod story;

use std::sync::Arc;

use jiff::SignedDuration;

use crate::base::{BoxFuture, MessageId, Timestamp};
pub use content::{Content, ContentWriter};
pub use filter::{Deed, Filter, Page, Selection, Wanted};
pub use lease::{Entry, Lease, Owner};
pub use record::{Flow, Origin, Place, Record, State};
pub use sqlite::SqliteSpool;
pub use story::{Event, Story, Used, What};

/// A message to be put.
#[derive(Debug, Clone)]
pub struct New {
    /// Everything but the content.
    pub record: Record,
    /// Header section and body, line ends CRLF.
    pub content: Content,
}

/// A message given out.
#[derive(Debug)]
pub struct Leased {
    /// As it was stored.
    pub record: Record,
    /// The content, where it is still in memory; else ask [`Spool::content`].
    pub content: Option<Content>,
    /// To whom, and for how long.
    pub lease: Lease,
}

/// What becomes of a leased message.
#[derive(Debug)]
pub struct Finish {
    /// Which one.
    pub id: MessageId,
    /// What becomes of it.
    pub fate: Fate,
    /// Messages of our own about it, put in the same transaction. One whose name is there already is a
    /// digest that has grown: the larger text stays, and whoever has leased the smaller ends the lease
    /// only, whatever the fate.
    pub reports: Vec<New>,
    /// What there is to tell of it.
    pub events: Vec<Event>,
    /// What it took of a mailbox's day.
    pub used: Option<Used>,
}

impl Finish {
    /// A fate, and nothing to tell.
    pub fn new(id: MessageId, fate: Fate) -> Self {
        Self {
            id,
            fate,
            reports: Vec::new(),
            events: Vec::new(),
            used: None,
        }
    }

    /// The record that stays, if one does.
    pub fn record_mut(&mut self) -> Option<&mut Record> {
        match &mut self.fate {
            Fate::Gone => None,
            Fate::Later(record) | Fate::Held(record) => Some(record),
        }
    }

    /// The clock was set by so much.
    pub fn shift(&mut self, by: SignedDuration) {
        if let Some(record) = self.record_mut() {
            record.shift(by);
        }
        for report in &mut self.reports {
            report.record.shift(by);
        }
        if let Some(used) = &mut self.used {
            used.at = used.at.shifted(by);
            used.last = used.last.shifted(by);
        }
    }

    /// Whether something is due by it, now or later.
    pub fn makes_due(&self) -> bool {
        matches!(self.fate, Fate::Later(_)) || !self.reports.is_empty()
    }
}

/// See [`Finish`].
#[derive(Debug)]
pub enum Fate {
    /// Delivered, or reported: it leaves the spool.
    Gone,
    /// Queued again as it is now, due at its `due`.
    Later(Box<Record>),
    /// Held as it is now; the reason stands in `last`.
    Held(Box<Record>),
}

/// Why the spool did not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SpoolError {
    /// The disk is full, or down to what is reserved. Nothing was put.
    #[error(
        "the spool's disk is full, or down to its reserve of {reserve} bytes: free some space in {folder}"
    )]
    Full {
        /// Where.
        folder: String,
        /// Bytes that puts leave free, so that what is queued can be finished.
        reserve: u64,
    },
    /// Another process has it open.
    #[error(
        "{folder} is in use by another mailferry process: stop that one, or set another `data_dir`"
    )]
    InUse {
        /// Where.
        folder: String,
    },
    /// The database is gone, and contents are not.
    #[error(
        "{file} is missing or empty, and content/ beside it has {count} messages: put the database back from a backup, or move the files of content/ elsewhere to begin anew"
    )]
    Emptied {
        /// The database.
        file: String,
        /// Messages in the content folder.
        count: usize,
    },
    /// Written by a later version of the program.
    #[error(
        "{file} was written by a later version of mailferry (format {found}, this one knows {known}): run that version"
    )]
    Newer {
        /// The database.
        file: String,
        /// Its format.
        found: i64,
        /// The format of this program.
        known: i64,
    },
    /// No such message.
    #[error(
        "message {0} is not in the queue: it was delivered, reported or deleted; see `mailferry trace {0}`"
    )]
    Missing(MessageId),
    /// No such message, nor its story.
    #[error(
        "unknown message {0}: it was never received, or its history has been removed ([spool] history)"
    )]
    Unknown(MessageId),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: String,
        /// Why.
        source: Arc<std::io::Error>,
    },
    /// The database said no.
    #[error("spool database: {error}{remedy}", error = .0, remedy = remedy(.0))]
    Database(Arc<rusqlite::Error>),
    /// A content is not what was put: the disk has lost it.
    #[error(
        "{place} is damaged: {wanted} were put, {found} are there; put it back from a backup, or delete the message and tell its sender"
    )]
    Damaged {
        /// The content's file, or the database.
        place: String,
        /// What was put, as [`content::Shape`] shows it.
        wanted: content::Shape,
        /// What is there.
        found: content::Shape,
    },
    /// The writer has ended, as the program does.
    #[error("the spool is closed")]
    Closed,
}

/// What mends a database that is no more what was written.
fn remedy(error: &rusqlite::Error) -> &'static str {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match error.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => {
            "; the disk has damaged spool.sqlite in `data_dir`: stop mailferry, copy the folder, then put a backup in its place, or save what can be read: sqlite3 spool.sqlite .recover | sqlite3 saved.sqlite"
        }
        _ => "",
    }
}

impl SpoolError {
    fn io(path: &std::path::Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.display().to_string(),
            source: Arc::new(source),
        }
    }

    /// Whether it means that there is no room, now.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::Io { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            Self::Database(error) => {
                error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
            }
            _ => false,
        }
    }
}

/// One process's handle on a durable queue. Where the implementation says so, several work on one:
/// what a handle gives out is leased to its [`Owner`], no other gets it before the lease ends, and
/// only that owner renews, finishes or releases it; what has passed to another since is left alone.
pub trait Spool: Send + Sync + 'static {
    /// A name for a new message.
    fn next_id(&self, now: Timestamp) -> MessageId;

    /// Where the content of a new message goes as it arrives.
    fn writer(&self, id: MessageId) -> ContentWriter;

    /// Whether there is room for another message, as far as can be told beforehand.
    fn has_room(&self) -> bool;

    /// Takes messages: once it returns `Ok`, they are on stable storage. All or none.
    fn put(&self, messages: Vec<New>) -> BoxFuture<'_, Result<(), SpoolError>>;

    /// Messages that this process has just put, leased to it, content in memory.
    fn fresh(&self, max: usize) -> Vec<Leased>;

    /// Leases up to `max` messages of `place` that are due at `now`, until `until`; earliest first.
    fn claim(
        &self,
        place: &Place,
        max: usize,
        now: Timestamp,
        until: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<Leased>, SpoolError>>;

    /// Leases these, as far as they are queued and nobody has them, due or not.
    fn lease(
        &self,
        ids: Vec<MessageId>,
        now: Timestamp,
        until: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<Leased>, SpoolError>>;

    /// The lanes that have messages which nobody has leased, as far as is known; few, however many lanes
    /// there are.
    fn waiting_lanes(&self) -> Vec<String>;

    /// When the next message of each flow in `lane` that nobody has leased is due, as far as is known.
    fn due(&self, lane: &str) -> Vec<(Flow, Timestamp)>;

    /// A leased message is being sent from now on: until then it only waits for its turn.
    fn sending(&self, id: MessageId);

    /// Keeps leases until `until`.
    fn renew(&self, ids: Vec<MessageId>, until: Timestamp)
    -> BoxFuture<'_, Result<(), SpoolError>>;

    /// Ends leases with a fate; all or none, durably. The batch is shared, so that it can be tried again.
    fn finish(&self, batch: Arc<[Finish]>) -> BoxFuture<'_, Result<(), SpoolError>>;

    /// Gives leases back, unchanged.
    fn release(&self, leases: Vec<(MessageId, Place)>);

    /// The content of a message.
    fn content(&self, id: MessageId) -> BoxFuture<'_, Result<Content, SpoolError>>;

    /// Moves messages whose lane is not among `lanes` to the lane `""`, to be routed anew. Those of a lane
    /// in `held` are held instead, with the reason that stands beside it.
    fn reroute(
        &self,
        lanes: Vec<String>,
        held: Vec<(String, String)>,
    ) -> BoxFuture<'_, Result<(), SpoolError>>;

    /// What is queued and held, oldest first.
    fn list(&self, page: Page) -> BoxFuture<'_, Result<Vec<Entry>, SpoolError>>;

    /// One message.
    fn get(&self, id: MessageId) -> BoxFuture<'_, Result<Entry, SpoolError>>;

    /// Does this to messages, but for those that are leased; gives to how many.
    fn act(
        &self,
        which: Selection,
        deed: Deed,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<usize, SpoolError>>;

    /// A message's story, while it is in the queue and for as long as stories are kept.
    fn story(&self, id: MessageId) -> BoxFuture<'_, Result<Story, SpoolError>>;

    /// The stories in which an address stands, or one at `@domain`: the newest `limit`, oldest first.
    fn stories(&self, address: &str, limit: usize)
    -> BoxFuture<'_, Result<Vec<Story>, SpoolError>>;

    /// Keeps the story of a message that never was in the queue, and what it took of a mailbox's day.
    fn tell(&self, story: Story, used: Option<Used>) -> BoxFuture<'_, Result<(), SpoolError>>;

    /// What mailboxes have used since.
    fn used(&self, since: Timestamp) -> BoxFuture<'_, Result<Vec<Used>, SpoolError>>;

    /// The clock was set by so much: what is queued, held, leased and used moves with it, and a small
    /// fact under its name is kept, all or none. Stories stay as they were told.
    fn shift(
        &self,
        by: SignedDuration,
        note: (&str, String),
    ) -> BoxFuture<'_, Result<(), SpoolError>>;

    /// Removes some of the stories that need be kept no longer; whether there may be more.
    fn purge(&self, now: Timestamp) -> BoxFuture<'_, Result<bool, SpoolError>>;

    /// Keeps a small fact under its name, or forgets it.
    fn note(&self, name: &str, value: Option<String>) -> BoxFuture<'_, Result<(), SpoolError>>;

    /// The facts whose names begin so.
    fn notes(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<(String, String)>, SpoolError>>;

    /// Comes back when something may have become due since it was last asked.
    fn changed(&self) -> BoxFuture<'_, ()>;
}
