//! Reads and writes the tables. Blocking; the writer thread calls it.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Params, params};

use super::counts::QueueCounts;
use super::index::{self, Group, Indexer, Unindexed};
use super::rows::{self, DIGEST, UNREADABLE, WAITING, select};
use super::schema;
use crate::base::{MessageId, Timestamp, limits};
use crate::message::{Address, Recipient};
use crate::spool::folder::Folder;
use crate::spool::story::listed;
use crate::spool::{
    Content, DatabaseFault, EventKind, Flow, Origin, Place, Record, SpoolError, State, StoryEvent,
    Used,
};

/// The database, in the spool's folder.
pub(super) const FILE: &str = "spool.sqlite";

/// The folder of larger contents, beside the database.
pub(super) const CONTENTS: &str = "content";

/// The length of a slice (milliseconds). A mailbox's messages within a slice are counted together, as in
/// delivery.
const SLICE: i64 = 300_000;

/// The time (milliseconds) for which a slice is kept, from its beginning: a day after its last message, and a
/// margin.
const USED_FOR: i64 = 24 * 3_600_000 + 2 * SLICE;

/// The maximum number of stories that are removed in one transaction.
pub(super) const PURGE: usize = 1_000;

/// Octets in a page of the database. Three messages of the usual size fit in one, so a group commit writes
/// fewer pages (`cargo bench --bench spool`: a tenth faster than 8 KiB at 16 sessions, the same at one).
const PAGE_SIZE: u32 = 16_384;

/// Memory (KiB) for pages of the database. A message is written once and soon removed, so more memory makes
/// nothing faster.
const CACHE_KIB: i32 = 1_024;

/// WAL pages between checkpoints. Messages that come and go between two checkpoints never reach the main
/// file.
const CHECKPOINT_PAGES: u32 = 2_000;

/// The states of a finished recipient.
const DELIVERED: i64 = 1;
const FAILED: i64 = 2;

pub(super) struct Store {
    pub(super) connection: Connection,
    contents: Folder,
}

impl From<rusqlite::Error> for SpoolError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database {
            fault: fault(&error),
            text: error.to_string(),
        }
    }
}

fn fault(error: &rusqlite::Error) -> DatabaseFault {
    use rusqlite::Error::{FromSqlConversionFailure, InvalidColumnType, Utf8Error};
    use rusqlite::ErrorCode::{DatabaseCorrupt, DiskFull, NotADatabase};
    match (error, error.sqlite_error_code()) {
        (FromSqlConversionFailure(..) | InvalidColumnType(..) | Utf8Error(..), _) => {
            DatabaseFault::Row
        }
        (_, Some(DiskFull)) => DatabaseFault::Full,
        (_, Some(DatabaseCorrupt | NotADatabase)) => DatabaseFault::Damaged,
        _ => DatabaseFault::Other,
    }
}

impl Store {
    pub(super) fn open(folder: &Path) -> Result<Self, SpoolError> {
        let file = folder.join(FILE);
        let connection = Connection::open(&file)?;
        connection.pragma_update(None, "page_size", PAGE_SIZE)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        connection.set_prepared_statement_cache_capacity(32);
        schema::prepare(&connection, &file)?;
        Ok(Self {
            connection,
            contents: Folder::new(folder.join(CONTENTS)),
        })
    }

    pub(super) fn begin(&self) -> Result<(), SpoolError> {
        self.run("BEGIN IMMEDIATE", ()).map(drop)
    }

    pub(super) fn commit(&self) -> Result<(), SpoolError> {
        self.run("COMMIT", ()).map(drop)
    }

    /// Moves the WAL's content into the database and empties the WAL, which frees disk space.
    pub(super) fn compact(&self) {
        // If there is no room even for that, nothing more can be done here.
        let _ = self
            .connection
            .pragma_query_value(None, "wal_checkpoint(TRUNCATE)", |_| Ok(()));
    }

    /// Rolls back, unless SQLite has done so by itself, as it does when the disk is full.
    pub(super) fn rollback(&self) {
        if !self.connection.is_autocommit() {
            let _ = self.run("ROLLBACK", ());
        }
    }

    // No statement below that writes a message is INSERT OR REPLACE, an upsert or INSERT SELECT. SQLite might
    // have to undo such a statement halfway, so it copies every page that the statement touches (measured: 83
    // KiB written per message instead of 32).

    pub(super) fn insert(&self, record: &Record, content: &Content) -> Result<(), SpoolError> {
        let nothing = String::new();
        let (about, client) = match &record.origin {
            Origin::Client {
                listener,
                peer,
                helo,
                protocol,
                ..
            } => (None, [listener, peer, helo, protocol]),
            Origin::Report(about) => (Some(about.to_string()), [&nothing; 4]),
            Origin::Digest => (Some(DIGEST.to_owned()), [&nothing; 4]),
        };
        let [listener, peer, helo, protocol] = client;
        let (only, several) = match &record.envelope.recipients[..] {
            [only] => (Some(only), &[][..]),
            several => (None, several),
        };
        self.run(
            concat!(
                "INSERT INTO message (",
                rows::columns!(),
                ", content) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, \
                 ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25)"
            ),
            params![
                record.id.to_i64(),
                record.lane,
                record.place().flow.key(),
                record.due.0,
                flag(record),
                record.received.0,
                record.envelope.sender.address().map_or("", Address::as_str),
                record.envelope.parameters.as_str(),
                about,
                listener,
                peer,
                helo,
                protocol,
                record.size as i64,
                record.sum,
                record.attempts,
                record.last,
                record.uncertain,
                record.warned,
                record.holds,
                record.former_lane,
                only.map(|recipient| recipient.address.as_str()),
                only.map(|recipient| recipient.parameters.as_str()),
                record.message_id,
                content.in_memory().map(|bytes| &bytes[..]),
            ],
        )?;
        self.insert_waiting(record.id, 0, several)
    }

    /// Inserts waiting recipients, numbered from `first` in the column `place`.
    fn insert_waiting(
        &self,
        id: MessageId,
        first: i64,
        recipients: &[Recipient],
    ) -> Result<(), SpoolError> {
        let sql = "INSERT INTO recipient VALUES (?1, ?2, ?3, ?4, ?5, NULL)";
        let mut statement = self.connection.prepare_cached(sql)?;
        for (place, recipient) in (first..).zip(recipients) {
            let (address, parameters) = (recipient.address.as_str(), recipient.parameters.as_str());
            statement.execute(params![id.to_i64(), place, address, parameters, WAITING])?;
        }
        Ok(())
    }

    /// Updates the columns of a message that can change. `events` contain the results of finished recipients.
    pub(super) fn update(&self, record: &Record, events: &[StoryEvent]) -> Result<(), SpoolError> {
        self.run(
            "UPDATE message SET lane = ?2, due = ?3, state = ?4, attempts = ?5, last = ?6, uncertain = ?7,
                 warned = ?8, holds = ?9, former_lane = ?10 WHERE id = ?1",
            params![
                record.id.to_i64(),
                record.lane,
                record.due.0,
                flag(record),
                record.attempts,
                record.last,
                record.uncertain,
                record.warned,
                record.holds,
                record.former_lane
            ],
        )?;
        let sql = "SELECT count(*) FROM recipient WHERE message = ?1 AND state = ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let waited: i64 =
            statement.query_row(params![record.id.to_i64(), WAITING], |row| row.get(0))?;
        // A message never gets new recipients, so if the number of waiting recipients is the same, the
        // recipients are the same. A message that came with one recipient has no rows in this table.
        if waited == 0 || waited == record.envelope.recipients.len() as i64 {
            return Ok(());
        }
        self.settle_recipients(record, events)
    }

    /// Stores which recipients are still waiting and which are finished.
    fn settle_recipients(&self, record: &Record, events: &[StoryEvent]) -> Result<(), SpoolError> {
        let id = record.id.to_i64();
        self.run(
            "DELETE FROM recipient WHERE message = ?1 AND state = ?2",
            params![id, WAITING],
        )?;
        let sql = "SELECT coalesce(max(place) + 1, 0) FROM recipient WHERE message = ?1";
        let first: i64 = self.connection.query_row(sql, [id], |row| row.get(0))?;
        let done = events.iter().flat_map(|event| {
            let (to, state, answer) = match &event.what {
                EventKind::Delivered { to, reply, .. } => {
                    (to.as_slice(), DELIVERED, reply.as_str())
                }
                EventKind::Failed { to, reply, .. } => (to.as_slice(), FAILED, reply.as_str()),
                _ => (&[][..], WAITING, ""),
            };
            to.iter().map(move |address| (address, state, answer))
        });
        let mut place = first;
        for (address, state, answer) in done {
            self.run(
                "INSERT INTO recipient VALUES (?1, ?2, ?3, '', ?4, ?5)",
                params![id, place, address.as_str(), state, answer],
            )?;
            place += 1;
        }
        self.insert_waiting(record.id, place, &record.envelope.recipients)
    }

    /// Removes a message of this size (octets). If the content may have a file, returns the file's path; the
    /// caller removes the file after the commit.
    pub(super) fn remove(&self, id: MessageId, size: u64) -> Result<Option<PathBuf>, SpoolError> {
        self.run("DELETE FROM message WHERE id = ?1", [id.to_i64()])?;
        self.run("DELETE FROM recipient WHERE message = ?1", [id.to_i64()])?;
        let may_have_file = size > limits::BODY_IN_MEMORY as u64;
        Ok(may_have_file.then(|| self.contents.path(id)))
    }

    /// Passes the queued messages of a place to `visit`, earliest due first, until `visit` breaks. Returns
    /// the due time of the message for which it broke. Only the index is read.
    pub(super) fn each_queued(
        &self,
        place: &Place,
        mut visit: impl FnMut(MessageId, Timestamp) -> ControlFlow<()>,
    ) -> Result<Option<Timestamp>, SpoolError> {
        let sql =
            "SELECT id, due FROM message WHERE state = 0 AND lane = ?1 AND flow = ?2 ORDER BY due";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![place.lane, place.flow.key()])?;
        while let Some(row) = rows.next()? {
            let due = Timestamp(row.get(1)?);
            if visit(MessageId::from_i64(row.get(0)?), due).is_break() {
                return Ok(Some(due));
            }
        }
        Ok(None)
    }

    /// Reads an existing message, with its content unless the content is in a file.
    pub(super) fn take(&self, id: MessageId) -> Result<(Record, Option<Content>), SpoolError> {
        let sql = select!(", content", "WHERE id = ?1");
        let mut statement = self.connection.prepare_cached(sql)?;
        let taken = statement.query_row(params![id.to_i64()], |row| {
            let content = row.get_ref(rows::COLUMNS)?.as_blob_or_null()?;
            let content = content.map(|bytes| Content::Memory(bytes.to_vec().into()));
            Ok((rows::record(&self.connection, row)?, content))
        });
        Ok(taken?)
    }

    pub(super) fn get(&self, id: MessageId) -> Result<Record, SpoolError> {
        self.find(id)?.ok_or(SpoolError::Missing(id))
    }

    pub(super) fn find(&self, id: MessageId) -> Result<Option<Record>, SpoolError> {
        rows::find(&self.connection, id)
    }

    pub(super) fn content(&self, id: MessageId) -> Result<Content, SpoolError> {
        let sql = "SELECT content, about IS ?2 FROM message WHERE id = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let row: Option<(Option<Vec<u8>>, bool)> = statement
            .query_row(params![id.to_i64(), DIGEST], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let (data, is_digest) = row.ok_or(SpoolError::Missing(id))?;
        if is_digest {
            let lines = self.lines(id)?.into_iter().map(|(_, line)| line);
            return Ok(Content::Memory(lines.collect::<String>().into()));
        }
        if let Some(data) = data {
            return Ok(Content::Memory(data.into()));
        }
        Ok(Content::Stored(self.contents.kept(id)?))
    }

    /// Adds lines to an existing digest.
    pub(super) fn add_lines(&self, digest: MessageId, lines: &[String]) -> Result<(), SpoolError> {
        for line in lines {
            self.run(
                "INSERT INTO digest_line (message, text) VALUES (?1, ?2)",
                params![digest.to_i64(), line],
            )?;
        }
        let size: usize = lines.iter().map(String::len).sum();
        self.run(
            "UPDATE message SET size = size + ?2 WHERE id = ?1",
            params![digest.to_i64(), size as i64],
        )?;
        Ok(())
    }

    pub(super) fn lines(&self, digest: MessageId) -> Result<Vec<(u64, String)>, SpoolError> {
        let sql = "SELECT line, text FROM digest_line WHERE message = ?1 ORDER BY line";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([digest.to_i64()], |row| {
            Ok((row.get::<_, i64>(0)? as u64, row.get(1)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Removes the lines of a digest up to the number `last`. Returns true if the digest has further lines.
    pub(super) fn remove_lines(&self, digest: MessageId, last: u64) -> Result<bool, SpoolError> {
        let last = i64::try_from(last).unwrap_or(i64::MAX);
        self.run(
            "DELETE FROM digest_line WHERE message = ?1 AND line <= ?2",
            params![digest.to_i64(), last],
        )?;
        let sql = "SELECT 1 FROM digest_line WHERE message = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.exists([digest.to_i64()])?)
    }

    /// Unassigns every message that is queued in this lane, and stores the lane as the message's former lane.
    pub(super) fn empty_lane(&self, lane: &str) -> Result<(), SpoolError> {
        self.run(
            "UPDATE message SET lane = '', former_lane = ?1 WHERE state = 0 AND lane = ?1",
            params![lane],
        )?;
        Ok(())
    }

    /// Holds the messages that are queued in this lane.
    pub(super) fn hold_lane(&self, lane: &str, reason: &str) -> Result<(), SpoolError> {
        self.run(
            "UPDATE message SET state = 1, last = ?2 WHERE state = 0 AND lane = ?1",
            params![lane, reason],
        )?;
        Ok(())
    }

    pub(super) fn earliest_due(&self) -> Result<Vec<(Place, Timestamp)>, SpoolError> {
        let sql = "SELECT lane, flow, min(due) FROM message WHERE state = 0 GROUP BY lane, flow";
        let mut statement = self.connection.prepare(sql)?;
        let rows = statement.query_map((), |row| {
            let (lane, flow) = (row.get(0)?, Flow::of_key(row.get_ref(1)?.as_str()?));
            Ok((Place { lane, flow }, Timestamp(row.get(2)?)))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(super) fn counts(&self) -> Result<QueueCounts, SpoolError> {
        let sql = "SELECT lane, 0, count(*) FROM message WHERE state = 0 GROUP BY lane
            UNION ALL SELECT lane, 1, count(*) FROM message WHERE state <> 0 GROUP BY lane";
        let mut statement = self.connection.prepare(sql)?;
        let rows = statement.query_map((), |row| {
            let is_held: bool = row.get(1)?;
            let state = if is_held { State::Held } else { State::Queued };
            Ok(((row.get(0)?, state), row.get::<_, i64>(2)? as usize))
        })?;
        Ok(QueueCounts::of(rows.collect::<Result<Vec<_>, _>>()?))
    }

    /// Adds events to a message's story. With `ended`, the story is complete.
    pub(super) fn add_story(
        &self,
        record: &Record,
        ended: Option<Timestamp>,
        events: &[StoryEvent],
    ) -> Result<(), SpoolError> {
        let (id, ended, new) = (record.id.to_i64(), ended.map(|at| at.0), events);
        let (record, events) = (json(record), listed(events));
        let known = self.run(
            "UPDATE story SET ended = ?2, events = events || iif(events = '', '', ',') || ?3, record = ?4
                 WHERE id = ?1",
            params![id, ended, events, record],
        )?;
        if known == 0 {
            self.run(
                "INSERT INTO story (id, ended, events, record) VALUES (?1, ?2, ?3, ?4)",
                params![id, ended, events, record],
            )?;
        }
        self.add_results(MessageId::from_i64(id), new)
    }

    /// Adds events to a story. Returns false if the story is not kept.
    pub(super) fn extend_story(
        &self,
        id: MessageId,
        events: &[StoryEvent],
    ) -> Result<bool, SpoolError> {
        let known = self.run(
            "UPDATE story SET events = events || iif(events = '', '', ',') || ?2 WHERE id = ?1",
            params![id.to_i64(), listed(events)],
        )?;
        if known > 0 {
            self.add_results(id, events)?;
        }
        Ok(known > 0)
    }

    fn add_results(&self, id: MessageId, events: &[StoryEvent]) -> Result<(), SpoolError> {
        index::add_results(&self.connection, id, events.iter().map(|event| &event.what))
    }

    /// Returns the writer's part of the index.
    pub(super) fn indexer(&self) -> Result<Indexer, SpoolError> {
        Indexer::open(&self.connection)
    }

    /// Indexes a group of messages.
    pub(super) fn index(
        &self,
        indexer: &Indexer,
        unindexed: &Unindexed,
    ) -> Result<Group, SpoolError> {
        indexer.write(&self.connection, unindexed)
    }

    /// Removes a message from the index.
    pub(super) fn unindex(&self, id: MessageId) -> Result<(), SpoolError> {
        index::remove(&self.connection, id)
    }

    /// Writes the story of a message that was never in the queue.
    pub(super) fn insert_story(
        &self,
        record: &Record,
        ended: Option<Timestamp>,
        events: &[StoryEvent],
    ) -> Result<(), SpoolError> {
        self.run(
            "INSERT INTO story (id, ended, record, events) VALUES (?1, ?2, ?3, ?4)",
            params![
                record.id.to_i64(),
                ended.map(|at| at.0),
                json(record),
                listed(events)
            ],
        )?;
        self.add_results(record.id, events)
    }

    /// Adds `used` to the usage of its mailbox.
    pub(super) fn count(&self, used: &Used) -> Result<(), SpoolError> {
        let began = used.at.0 - used.at.0.rem_euclid(SLICE);
        let params = params![
            used.mailbox,
            began,
            used.last.0,
            used.messages as i64,
            used.recipients as i64
        ];
        let known = self.run(
            "UPDATE used SET last = ?3, messages = messages + ?4, recipients = recipients + ?5
                 WHERE mailbox = ?1 AND began = ?2",
            params,
        )?;
        if known == 0 {
            self.run(
                "INSERT INTO used (mailbox, began, last, messages, recipients) VALUES (?1, ?2, ?3, ?4, ?5)",
                params,
            )?;
        }
        Ok(())
    }

    pub(super) fn used(&self, since: Timestamp) -> Result<Vec<Used>, SpoolError> {
        let sql = "SELECT mailbox, began, last, messages, recipients FROM used WHERE began > ?1 ORDER BY began";
        let mut statement = self.connection.prepare(sql)?;
        let rows = statement.query_map(params![since.0 - SLICE], |row| {
            Ok(Used {
                mailbox: row.get(0)?,
                at: Timestamp(row.get(1)?),
                last: Timestamp(row.get(2)?),
                messages: row.get::<_, i64>(3)? as u64,
                recipients: row.get::<_, i64>(4)? as u64,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Removes usage that no longer counts, and at most [`PURGE`] of the stories that ended before `before`. Returns
    /// the removed ones.
    pub(super) fn purge(
        &self,
        before: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<MessageId>, SpoolError> {
        self.run("DELETE FROM used WHERE began < ?1", [now.0 - USED_FOR])?;
        let sql = "SELECT id FROM story WHERE id < ?1 AND ended < ?2 LIMIT ?3";
        let mut statement = self.connection.prepare_cached(sql)?;
        let first = MessageId::first_at(before).to_i64();
        let rows = statement.query_map(params![first, before.0, PURGE as i64], |row| row.get(0))?;
        let ids: Vec<i64> = rows.collect::<Result<_, _>>()?;
        for id in &ids {
            self.run("DELETE FROM story WHERE id = ?1", [id])?;
            self.unindex(MessageId::from_i64(*id))?;
        }
        Ok(ids.into_iter().map(MessageId::from_i64).collect())
    }

    pub(super) fn note(&self, name: &str, value: Option<&str>) -> Result<(), SpoolError> {
        match value {
            Some(value) => self.run(
                "INSERT OR REPLACE INTO note (name, value) VALUES (?1, ?2)",
                [name, value],
            )?,
            None => self.run("DELETE FROM note WHERE name = ?1", [name])?,
        };
        Ok(())
    }

    pub(super) fn notes(&self, prefix: &str) -> Result<Vec<(String, String)>, SpoolError> {
        let sql = "SELECT name, value FROM note WHERE substr(name, 1, length(?1)) = ?1";
        let mut statement = self.connection.prepare(sql)?;
        let rows = statement.query_map([prefix], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(super) fn exists(&self, id: MessageId) -> Result<bool, SpoolError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT 1 FROM message WHERE id = ?1")?;
        Ok(statement.exists(params![id.to_i64()])?)
    }

    /// True if a story of the message is stored.
    pub(super) fn has_story(&self, id: MessageId) -> Result<bool, SpoolError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT 1 FROM story WHERE id = ?1")?;
        Ok(statement.exists(params![id.to_i64()])?)
    }

    /// Marks a message's row as unreadable, so that the message is no longer due.
    pub(super) fn set_aside(&self, id: MessageId) -> Result<(), SpoolError> {
        self.run(
            "UPDATE message SET state = ?2 WHERE id = ?1",
            params![id.to_i64(), UNREADABLE],
        )?;
        Ok(())
    }

    fn run(&self, sql: &str, params: impl Params) -> Result<usize, SpoolError> {
        Ok(self.connection.prepare_cached(sql)?.execute(params)?)
    }
}

fn flag(record: &Record) -> i64 {
    i64::from(record.state == State::Held)
}

fn json(record: &Record) -> String {
    serde_json::to_string(record).expect("a record has only strings for keys")
}
