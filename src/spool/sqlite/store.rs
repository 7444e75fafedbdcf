//! The tables, and what is read from and written to them. Blocking; the writer thread calls it.

use std::path::{Path, PathBuf};

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Params, Row, params};

use crate::base::{MessageId, Timestamp};
use crate::message::{Envelope, Parameters, Priority, ReversePath};
use crate::spool::folder::Folder;
use crate::spool::{Content, Event, Fault, Flow, Origin, Place, Record, SpoolError, State, Used};

/// The database, in the spool's folder.
pub(super) const FILE: &str = "spool.sqlite";

/// The folder of larger contents, beside it.
pub(super) const CONTENTS: &str = "content";

/// The format that this program writes.
const FORMAT: i64 = 2;

/// One row a message, its content last, so that what comes before is read without it; null where the
/// content is in a file. `message_due` finds what a flow has to send next. `record` is JSON, so that
/// an operator can read it with the sqlite3 shell; so are the `events` of a story, but for the brackets
/// around them.
const SCHEMA: &str = "
    CREATE TABLE message (
        id      INTEGER PRIMARY KEY,
        lane    TEXT    NOT NULL,
        flow    TEXT    NOT NULL,
        due     INTEGER NOT NULL,
        state   INTEGER NOT NULL,
        record  TEXT    NOT NULL,
        content BLOB
    );
    CREATE INDEX message_due ON message (lane, flow, due) WHERE state = 0;
    CREATE TABLE story (
        id     INTEGER PRIMARY KEY,
        ended  INTEGER,
        record TEXT NOT NULL,
        events TEXT NOT NULL
    );
    CREATE TABLE used (
        mailbox    TEXT    NOT NULL,
        began      INTEGER NOT NULL,
        last       INTEGER NOT NULL,
        messages   INTEGER NOT NULL,
        recipients INTEGER NOT NULL,
        PRIMARY KEY (mailbox, began)
    ) WITHOUT ROWID;
    CREATE TABLE note (
        name  TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) WITHOUT ROWID;
    PRAGMA user_version = 2;
";

/// Messages of the first format are copied into this one.
const FROM_FIRST: &str = "
    INSERT INTO message (id, lane, flow, due, state, record, content)
        SELECT id, lane, 'n' || coalesce(record ->> '$.origin.client.user', ''), due, state, record, content
        FROM first;
    DROP TABLE first;
";

/// What a mailbox sends is counted together for so long (milliseconds), as delivery does.
const SLICE: i64 = 300_000;

/// How long it counts (milliseconds): a day, and what belongs to its first slice.
const USED_FOR: i64 = 24 * 3_600_000 + 2 * SLICE;

/// Stories that are removed in one transaction.
const PURGE: usize = 1_000;

/// Octets of a page: three messages of the usual size fit, so a group commit writes fewer of them
/// (`cargo bench --bench spool`: a tenth faster than 8 KiB at 16 sessions, the same at one).
const PAGE_SIZE: u32 = 16_384;

/// Memory (KiB) for pages of the database. What is put is written once and soon removed, so more of it
/// makes nothing faster.
const CACHE_KIB: i32 = 1_024;

/// WAL pages between checkpoints: messages that come and go within them never reach the main file.
const CHECKPOINT_PAGES: u32 = 2_000;

pub(super) struct Store {
    connection: Connection,
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

fn fault(error: &rusqlite::Error) -> Fault {
    use rusqlite::Error::{FromSqlConversionFailure, InvalidColumnType, Utf8Error};
    use rusqlite::ErrorCode::{DatabaseCorrupt, DiskFull, NotADatabase};
    match (error, error.sqlite_error_code()) {
        (FromSqlConversionFailure(..) | InvalidColumnType(..) | Utf8Error(..), _) => Fault::Row,
        (_, Some(DiskFull)) => Fault::Full,
        (_, Some(DatabaseCorrupt | NotADatabase)) => Fault::Damaged,
        _ => Fault::Other,
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
        let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match found {
            0 => connection.execute_batch(&format!("BEGIN; {SCHEMA} COMMIT;"))?,
            1 => connection.execute_batch(&format!(
                "BEGIN; DROP INDEX message_due; ALTER TABLE message RENAME TO first; {SCHEMA} {FROM_FIRST} COMMIT;"
            ))?,
            FORMAT => {}
            found => {
                let file = file.display().to_string();
                return Err(SpoolError::Newer {
                    file,
                    found,
                    known: FORMAT,
                });
            }
        }
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

    /// Moves what the WAL holds into the database and empties it, which gives disk space back.
    pub(super) fn compact(&self) {
        // Where even that has no room there is nothing more to be done here.
        let _ = self
            .connection
            .pragma_query_value(None, "wal_checkpoint(TRUNCATE)", |_| Ok(()));
    }

    /// SQLite may have rolled back by itself, as it does when the disk is full.
    pub(super) fn rollback(&self) {
        if !self.connection.is_autocommit() {
            let _ = self.run("ROLLBACK", ());
        }
    }

    // Of the statements below none is INSERT OR REPLACE, an upsert or INSERT SELECT: those might have to
    // be undone half way, for which SQLite copies every page that they touch (measured: 32 KiB written a
    // message became 83).

    pub(super) fn insert(&self, record: &Record, content: &Content) -> Result<(), SpoolError> {
        let content = match content {
            Content::Memory(bytes) => Some(&bytes[..]),
            Content::Stored(_) => None,
        };
        self.run(
            "INSERT INTO message (id, lane, flow, due, state, record, content) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                record.id.to_i64(),
                record.lane,
                record.place().flow.key(),
                record.due.0,
                flag(record),
                json(record),
                content
            ],
        )?;
        Ok(())
    }

    pub(super) fn update(&self, record: &Record) -> Result<(), SpoolError> {
        self.run(
            "UPDATE message SET lane = ?2, due = ?3, state = ?4, record = ?5 WHERE id = ?1",
            params![
                record.id.to_i64(),
                record.lane,
                record.due.0,
                flag(record),
                json(record)
            ],
        )?;
        Ok(())
    }

    /// Removes a row; gives the content's file, to be removed after the commit, if it has one.
    pub(super) fn remove(&self, id: MessageId) -> Result<Option<PathBuf>, SpoolError> {
        let sql = "DELETE FROM message WHERE id = ?1 RETURNING content IS NULL";
        let mut statement = self.connection.prepare_cached(sql)?;
        let in_file: Option<bool> = statement
            .query_row(params![id.to_i64()], |row| row.get(0))
            .optional()?;
        Ok((in_file == Some(true)).then(|| self.contents.path(id)))
    }

    /// Shows the queued messages of a place, earliest due first, until `visit` answers with the due
    /// time at which it stops; gives that. The record is only read where it is asked for.
    pub(super) fn each_queued(
        &self,
        place: &Place,
        mut visit: impl FnMut(
            MessageId,
            Timestamp,
            &dyn Fn() -> Result<Record, SpoolError>,
        ) -> Result<Option<Timestamp>, SpoolError>,
    ) -> Result<Option<Timestamp>, SpoolError> {
        let sql = "SELECT id, due, record FROM message WHERE state = 0 AND lane = ?1 AND flow = ?2 ORDER BY due";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![place.lane, place.flow.key()])?;
        while let Some(row) = rows.next()? {
            let (id, due) = (MessageId::from_i64(row.get(0)?), Timestamp(row.get(1)?));
            if let Some(stopped) = visit(id, due, &|| record(row, 2))? {
                return Ok(Some(stopped));
            }
        }
        Ok(None)
    }

    pub(super) fn get(&self, id: MessageId) -> Result<Record, SpoolError> {
        self.find(id)?.ok_or(SpoolError::Missing(id))
    }

    pub(super) fn find(&self, id: MessageId) -> Result<Option<Record>, SpoolError> {
        let sql = "SELECT record FROM message WHERE id = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![id.to_i64()])?;
        rows.next()?.map(|row| record(row, 0)).transpose()
    }

    pub(super) fn content(&self, id: MessageId) -> Result<Content, SpoolError> {
        let sql = "SELECT content FROM message WHERE id = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let row: Option<Option<Vec<u8>>> = statement
            .query_row(params![id.to_i64()], |row| row.get(0))
            .optional()?;
        if let Some(data) = row.ok_or(SpoolError::Missing(id))? {
            return Ok(Content::Memory(data.into()));
        }
        Ok(Content::Stored(self.contents.kept(id)?))
    }

    /// Empties the lane of what is queued in this one.
    pub(super) fn empty_lane(&self, lane: &str) -> Result<(), SpoolError> {
        self.run(
            "UPDATE message SET lane = '', record = json_set(record, '$.lane', '', '$.former_lane', ?1)
             WHERE state = 0 AND lane = ?1 AND json_valid(record)",
            params![lane],
        )?;
        Ok(())
    }

    /// Holds what is queued in this lane.
    pub(super) fn hold_lane(&self, lane: &str, reason: &str) -> Result<(), SpoolError> {
        self.run(
            "UPDATE message SET state = 1, record = json_set(record, '$.state', 'held', '$.last', ?2)
             WHERE state = 0 AND lane = ?1 AND json_valid(record)",
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

    /// Adds to a queued message's story; `ended` is its last chapter.
    pub(super) fn tell(
        &self,
        id: MessageId,
        ended: Option<Timestamp>,
        events: &[Event],
    ) -> Result<(), SpoolError> {
        let params = params![id.to_i64(), ended.map(|at| at.0), listed(events)];
        let known = self.run(
            "UPDATE story SET ended = ?2, events = events || iif(events = '', '', ',') || ?3,
                 record = (SELECT record FROM message WHERE id = ?1) WHERE id = ?1",
            params,
        )?;
        if known == 0 {
            self.run(
                "INSERT INTO story (id, ended, events, record)
                     VALUES (?1, ?2, ?3, (SELECT record FROM message WHERE id = ?1))",
                params,
            )?;
        }
        Ok(())
    }

    /// The story of a message that never was in the queue.
    pub(super) fn tell_all(
        &self,
        record: &Record,
        ended: Option<Timestamp>,
        events: &[Event],
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
        Ok(())
    }

    /// Counts to what a mailbox has used.
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

    /// Removes stories that ended before `before`, some at a time; whether there may be more.
    pub(super) fn purge(&self, before: Timestamp, now: Timestamp) -> Result<bool, SpoolError> {
        self.run("DELETE FROM used WHERE began < ?1", [now.0 - USED_FOR])?;
        let count = self.run(
            "DELETE FROM story WHERE id IN (SELECT id FROM story WHERE id < ?1 AND ended < ?2 LIMIT ?3)",
            params![MessageId::first_at(before).to_i64(), before.0, PURGE as i64],
        )?;
        Ok(count == PURGE)
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

    /// Whether anything was told of a message.
    pub(super) fn has_story(&self, id: MessageId) -> Result<bool, SpoolError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT 1 FROM story WHERE id = ?1")?;
        Ok(statement.exists(params![id.to_i64()])?)
    }

    /// Sets a row aside that cannot be read: it is not due any more.
    pub(super) fn set_aside(&self, id: MessageId) -> Result<(), SpoolError> {
        self.run(
            "UPDATE message SET state = 2 WHERE id = ?1",
            params![id.to_i64()],
        )?;
        Ok(())
    }

    fn run(&self, sql: &str, params: impl Params) -> Result<usize, SpoolError> {
        Ok(self.connection.prepare_cached(sql)?.execute(params)?)
    }
}

/// The record of a row or, if it cannot be read, one that says so, and that nothing is done with but to
/// show it and to delete the message.
pub(super) fn record_or_damage(
    id: MessageId,
    row: &Row,
    column: usize,
) -> Result<Record, SpoolError> {
    match record(row, column) {
        Err(error) if error.is_of_row() => Ok(damaged(id, &error)),
        read => read,
    }
}

fn damaged(id: MessageId, error: &SpoolError) -> Record {
    let unknown = String::new;
    Record {
        id,
        received: id.time(),
        origin: Origin::Client {
            user: unknown(),
            listener: unknown(),
            peer: unknown(),
            helo: unknown(),
            protocol: unknown(),
        },
        envelope: Envelope {
            sender: ReversePath::Null,
            parameters: Parameters::default(),
            recipients: Vec::new(),
        },
        size: 0,
        sum: None,
        lane: String::new(),
        priority: Priority::Normal,
        state: State::Held,
        due: id.time(),
        attempts: 0,
        last: Some(format!(
            "the disk has damaged its record in spool.sqlite ({error}): `queue export {id}` saves its content, `queue delete {id}` \
             removes it"
        )),
        uncertain: false,
        warned: false,
        holds: 0,
        former_lane: None,
    }
}

pub(super) fn record(row: &Row, column: usize) -> Result<Record, SpoolError> {
    let text = row
        .get_ref(column)?
        .as_str()
        .map_err(rusqlite::Error::from)?;
    let record = serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    })?;
    Ok(record)
}

fn flag(record: &Record) -> i64 {
    i64::from(record.state == State::Held)
}

fn json(record: &Record) -> String {
    serde_json::to_string(record).expect("a record has only strings for keys")
}

/// Without the brackets, so that more can be added.
fn listed(events: &[Event]) -> String {
    let text = serde_json::to_string(events).expect("an event has only strings for keys");
    text[1..text.len() - 1].to_owned()
}
