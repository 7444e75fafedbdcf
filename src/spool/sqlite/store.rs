//! The tables, and what is read from and written to them. Blocking; the writer thread calls it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Params, Row, params};

use crate::base::{MessageId, Timestamp};
use crate::spool::content::{self, ContentFile};
use crate::spool::{Content, Page, Record, SpoolError, State};

/// The database, in the spool's folder.
pub(super) const FILE: &str = "spool.sqlite";

/// The format that this program writes.
const FORMAT: i64 = 1;

/// One row a message, its content last, so that what comes before is read without it; null where the
/// content is in a file. `message_due` finds what a lane has to send next. `record` is JSON, so that
/// an operator can read it with the sqlite3 shell.
const SCHEMA: &str = "
    CREATE TABLE message (
        id      INTEGER PRIMARY KEY,
        lane    TEXT    NOT NULL,
        due     INTEGER NOT NULL,
        state   INTEGER NOT NULL,
        record  TEXT    NOT NULL,
        content BLOB
    );
    CREATE INDEX message_due ON message (lane, due) WHERE state = 0;
    PRAGMA user_version = 1;
";

/// Octets of a page: three messages of the usual size fit, so a group commit writes fewer of them
/// (`cargo bench --bench spool`: a tenth faster than 8 KiB at 16 sessions, the same at one).
const PAGE_SIZE: u32 = 16_384;

/// WAL pages between checkpoints: messages that come and go within them never reach the main file.
const CHECKPOINT_PAGES: u32 = 2_000;

pub(super) struct Store {
    connection: Connection,
    contents: PathBuf,
}

impl From<rusqlite::Error> for SpoolError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(Arc::new(error))
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
        connection.pragma_update(None, "cache_size", -4_096)?;
        connection.set_prepared_statement_cache_capacity(32);
        let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match found {
            0 => connection.execute_batch(SCHEMA)?,
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
            contents: folder.join("content"),
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

    pub(super) fn insert(&self, record: &Record, content: &Content) -> Result<(), SpoolError> {
        let content = match content {
            Content::Memory(bytes) => Some(&bytes[..]),
            Content::File(_) => None,
        };
        self.run(
            "INSERT INTO message (id, lane, due, state, record, content) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![record.id.to_i64(), record.lane, record.due.0, flag(record), json(record), content],
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
        Ok((in_file == Some(true)).then(|| content::path(&self.contents, id)))
    }

    /// Shows the queued messages of a lane, earliest due first, until `visit` answers with the due
    /// time at which it stops; gives that. The record is only read where it is asked for.
    pub(super) fn each_queued(
        &self,
        lane: &str,
        mut visit: impl FnMut(
            MessageId,
            Timestamp,
            &dyn Fn() -> Result<Record, SpoolError>,
        ) -> Result<Option<Timestamp>, SpoolError>,
    ) -> Result<Option<Timestamp>, SpoolError> {
        let sql = "SELECT id, due, record FROM message WHERE state = 0 AND lane = ?1 ORDER BY due";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![lane])?;
        while let Some(row) = rows.next()? {
            let (id, due) = (MessageId::from_i64(row.get(0)?), Timestamp(row.get(1)?));
            if let Some(stopped) = visit(id, due, &|| record(row, 2))? {
                return Ok(Some(stopped));
            }
        }
        Ok(None)
    }

    pub(super) fn list(&self, page: &Page) -> Result<Vec<Record>, SpoolError> {
        let after = page.after.map_or(-1, MessageId::to_i64);
        self.records(
            "SELECT record FROM message WHERE id > ?1 ORDER BY id LIMIT ?2",
            params![after, page.limit as i64],
        )
    }

    pub(super) fn get(&self, id: MessageId) -> Result<Record, SpoolError> {
        let found = self.records(
            "SELECT record FROM message WHERE id = ?1",
            params![id.to_i64()],
        )?;
        found.into_iter().next().ok_or(SpoolError::Missing(id))
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
        let path = content::path(&self.contents, id);
        let metadata = std::fs::metadata(&path).map_err(|error| SpoolError::io(&path, error))?;
        Ok(Content::File(Arc::new(ContentFile::kept(
            path,
            metadata.len(),
        ))))
    }

    /// Makes due at once, to be routed anew; due means queued.
    pub(super) fn make_due(&self, record: &mut Record, now: Timestamp) -> Result<(), SpoolError> {
        record.due = now;
        record.state = State::Queued;
        record.lane.clear();
        self.update(record)
    }

    /// Empties the lane of what is queued in this one.
    pub(super) fn empty_lane(&self, lane: &str) -> Result<(), SpoolError> {
        self.run(
            "UPDATE message SET lane = '', record = json_set(record, '$.lane', '')
             WHERE state = 0 AND lane = ?1",
            params![lane],
        )?;
        Ok(())
    }

    pub(super) fn earliest_due(&self) -> Result<Vec<(String, Timestamp)>, SpoolError> {
        let sql = "SELECT lane, min(due) FROM message WHERE state = 0 GROUP BY lane";
        let mut statement = self.connection.prepare(sql)?;
        let rows = statement.query_map((), |row| Ok((row.get(0)?, Timestamp(row.get(1)?))))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(super) fn exists(&self, id: MessageId) -> Result<bool, SpoolError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT 1 FROM message WHERE id = ?1")?;
        Ok(statement.exists(params![id.to_i64()])?)
    }

    fn run(&self, sql: &str, params: impl Params) -> Result<usize, SpoolError> {
        Ok(self.connection.prepare_cached(sql)?.execute(params)?)
    }

    fn records(&self, sql: &str, params: impl Params) -> Result<Vec<Record>, SpoolError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        let mut records = Vec::new();
        while let Some(row) = rows.next()? {
            records.push(record(row, 0)?);
        }
        Ok(records)
    }
}

fn record(row: &Row, column: usize) -> Result<Record, SpoolError> {
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
