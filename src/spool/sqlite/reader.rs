//! Reads the database on separate connections, so that an operator's long read does not block the writer.

use std::ops::Range;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, Row, params};

use super::index::{self, Unindexed};
use super::rows::{self, select};
use super::store::FILE;
use crate::base::{MessageId, Timestamp};
use crate::spool::tokens::{self, Wanted};
use crate::spool::{Record, SpoolError, State, Story, StoryFilter};

/// The maximum number of rows in one read transaction, so that no transaction delays checkpoints for long.
const CHUNK: usize = 1_000;

/// A connection that only reads.
pub(super) struct SpoolReader(Connection);

impl SpoolReader {
    pub(super) fn open(folder: &Path) -> Result<Self, SpoolError> {
        let file: PathBuf = folder.join(FILE);
        let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        Ok(Self(connection))
    }

    /// Passes the messages after `after` to `admitted`, oldest first. Returns its first `limit` results that
    /// are not `None`.
    pub(super) fn list<T>(
        &self,
        mut after: Option<MessageId>,
        limit: usize,
        admitted: impl Fn(Record) -> Option<T>,
    ) -> Result<Vec<T>, SpoolError> {
        let mut found = Vec::new();
        let sql = select!("WHERE id > ?1 ORDER BY id LIMIT ?2");
        let mut statement = self.0.prepare(sql)?;
        loop {
            let key = after.map_or(-1, MessageId::to_i64);
            let mut rows = statement.query(params![key, CHUNK as i64])?;
            let mut count = 0;
            while let Some(row) = rows.next()? {
                let id = MessageId::from_i64(row.get(0)?);
                let read = rows::record(&self.0, row).map_err(SpoolError::from);
                let record = rows::or_damaged(id, read)?;
                (after, count) = (Some(record.id), count + 1);
                found.extend(admitted(record));
                if found.len() >= limit {
                    return Ok(found);
                }
            }
            if count < CHUNK {
                return Ok(found);
            }
        }
    }

    /// Returns at most `limit` queued messages after `after` and before `before`, oldest first. Omits
    /// messages that cannot be read.
    pub(super) fn queued(
        &self,
        after: Option<MessageId>,
        before: MessageId,
        limit: usize,
    ) -> Result<Vec<Record>, SpoolError> {
        let sql = select!("WHERE id > ?1 AND id < ?2 AND state = 0 ORDER BY id LIMIT ?3");
        let mut statement = self.0.prepare(sql)?;
        let after = after.map_or(-1, MessageId::to_i64);
        let mut rows = statement.query(params![after, before.to_i64(), limit as i64])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            match rows::record(&self.0, row).map_err(SpoolError::from) {
                Err(error) if error.is_unreadable_row() => {}
                record => found.push(record?),
            }
        }
        Ok(found)
    }

    /// Returns the time at which the oldest message of each server and state was accepted. Reads only indexes.
    pub(super) fn oldest(&self) -> Result<Vec<(String, State, Timestamp)>, SpoolError> {
        let sql = "SELECT lane, 0, min(id) FROM message WHERE state = 0 GROUP BY lane
            UNION ALL SELECT lane, 1, min(id) FROM message WHERE state <> 0 GROUP BY lane";
        let mut statement = self.0.prepare(sql)?;
        let rows = statement.query_map((), |row| {
            let is_held: bool = row.get(1)?;
            let state = if is_held { State::Held } else { State::Queued };
            Ok((row.get(0)?, state, MessageId::from_i64(row.get(2)?).time()))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(super) fn get(&self, id: MessageId) -> Result<Record, SpoolError> {
        let found = rows::find(&self.0, id).transpose();
        rows::or_damaged(id, found.ok_or(SpoolError::Missing(id))?)
    }

    /// Returns the story of a message. A queued message that was never tried has no stored story; the
    /// returned story then has no events.
    pub(super) fn story(&self, id: MessageId) -> Result<Story, SpoolError> {
        rows::story(&self.0, id)
    }

    /// Returns the newest `limit` stories that a filter admits, newest first.
    pub(super) fn stories(
        &self,
        filter: &StoryFilter,
        limit: usize,
        unindexed: &Unindexed,
    ) -> Result<Vec<Story>, SpoolError> {
        let first = filter
            .since
            .map_or(MessageId::from_i64(0), MessageId::first_at);
        let end = filter.before.map(MessageId::first_at);
        let end = [end, filter.below].into_iter().flatten().min();
        let mut end = end.unwrap_or(MessageId::from_i64(i64::MAX));
        if first >= end {
            return Ok(Vec::new());
        }
        let search = Search::of(filter, unindexed, &self.0, first..end)?;
        let mut found = Vec::new();
        loop {
            let ids = search.ids(&self.0, first..end)?;
            for id in &ids {
                // A story may be purged at any time.
                let story = match self.story(*id) {
                    Err(SpoolError::Unknown(_)) => continue,
                    story => story?,
                };
                if filter.admits(&story) {
                    found.push(story);
                }
                if found.len() == limit {
                    return Ok(found);
                }
            }
            match ids.last() {
                Some(last) if ids.len() >= CHUNK => end = *last,
                _ => return Ok(found),
            }
        }
    }
}

/// The quickest way to find the candidates of a filter.
enum Search<'u> {
    /// The full-text table, and the messages that are not in it yet.
    Mentions(Vec<Wanted>, &'u Unindexed),
    /// The table of results.
    Result(&'static str),
    /// All messages of the queue.
    Queue,
    /// All messages of the queue and all stories.
    All,
}

impl<'u> Search<'u> {
    fn of(
        filter: &StoryFilter,
        unindexed: &'u Unindexed,
        connection: &Connection,
        ids: Range<MessageId>,
    ) -> Result<Self, SpoolError> {
        let (wanted, result) = (tokens::wanted(filter), tokens::wanted_result(filter));
        let is_mentioned = !wanted.is_empty();
        let mentions = Self::Mentions(wanted, unindexed);
        Ok(match result {
            // If an address is frequent, messages with such a result are probably fewer.
            Some(name) if !is_mentioned || mentions.ids(connection, ids)?.len() >= CHUNK => {
                Self::Result(name)
            }
            _ if is_mentioned => mentions,
            _ if filter.is_of_queue() => Self::Queue,
            _ => Self::All,
        })
    }

    /// Returns the newest candidates in a range, newest first: all of them, or at least [`CHUNK`].
    fn ids(
        &self,
        connection: &Connection,
        ids: Range<MessageId>,
    ) -> Result<Vec<MessageId>, SpoolError> {
        let (first, end) = (ids.start.to_i64(), ids.end.to_i64());
        let chunk = CHUNK as i64;
        let list = |sql, extra: Option<&str>| -> Result<Vec<MessageId>, SpoolError> {
            let mut statement = connection.prepare_cached(sql)?;
            let id = |row: &Row| row.get(0).map(MessageId::from_i64);
            let rows = match extra {
                Some(extra) => statement.query_map(params![first, end, chunk, extra], id)?,
                None => statement.query_map(params![first, end, chunk], id)?,
            };
            Ok(rows.collect::<Result<_, _>>()?)
        };
        match self {
            Self::Mentions(wanted, unindexed) => {
                let sql = "SELECT rowid FROM mention WHERE rowid >= ?1 AND rowid < ?2 AND mention MATCH ?4
                    ORDER BY rowid DESC LIMIT ?3";
                // First the messages in memory: those that are indexed meanwhile are found in the table too.
                let mut unindexed = unindexed.find(wanted, ids.clone());
                let mut found = list(sql, Some(&index::query(wanted)))?;
                let rest = found.last().filter(|_| found.len() == CHUNK);
                let rest = rest.copied().unwrap_or(ids.start);
                unindexed.retain(|id| *id >= rest);
                found.extend(unindexed);
                found.sort_unstable_by(|one, other| other.cmp(one));
                found.dedup();
                Ok(found)
            }
            Self::Result(name) => {
                let sql = "SELECT id FROM result WHERE id >= ?1 AND id < ?2 AND name = ?4
                    ORDER BY id DESC LIMIT ?3";
                list(sql, Some(name))
            }
            Self::Queue => {
                let sql =
                    "SELECT id FROM message WHERE id >= ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3";
                list(sql, None)
            }
            Self::All => {
                let sql = "SELECT id FROM message WHERE id >= ?1 AND id < ?2
                    UNION SELECT id FROM story WHERE id >= ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3";
                list(sql, None)
            }
        }
    }
}
