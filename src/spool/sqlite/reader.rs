//! Reads the database on separate connections, so that an operator's long read does not block the writer.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, Row, params};

use super::rows::{self, select};
use super::store::FILE;
use crate::base::{MessageId, Timestamp};
use crate::spool::{EventKind, Record, SpoolError, Story, filter};

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

    pub(super) fn get(&self, id: MessageId) -> Result<Record, SpoolError> {
        let found = rows::find(&self.0, id).transpose();
        rows::or_damaged(id, found.ok_or(SpoolError::Missing(id))?)
    }

    /// Returns the story of a message. A queued message that was never tried has no stored story; the
    /// returned story then has no events.
    pub(super) fn story(&self, id: MessageId) -> Result<Story, SpoolError> {
        let sql = "SELECT record, ended, events FROM story WHERE id = ?1";
        let mut statement = self.0.prepare(sql)?;
        let mut rows = statement.query([id.to_i64()])?;
        let told = rows.next()?.map(|row| story(id, row)).transpose()?;
        let queued = match self.get(id) {
            Err(SpoolError::Missing(_)) => None,
            found => Some(found?),
        };
        match (told, queued) {
            (Some(told), None) => Ok(told),
            (told, Some(record)) => Ok(Story {
                record,
                ended: None,
                events: told.map(|told| told.events).unwrap_or_default(),
            }),
            (None, None) => Err(SpoolError::Unknown(id)),
        }
    }

    /// Returns the newest `limit` stories that contain `address`, newest first. `address` is an address,
    /// `@domain`, or a Message-ID in angle brackets.
    pub(super) fn stories(&self, address: &str, limit: usize) -> Result<Vec<Story>, SpoolError> {
        if address.starts_with('<') {
            let found = self.stories_of_message_id(&address.to_lowercase(), limit)?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        let wanted = address.trim_matches(['<', '>']).to_lowercase();
        // In JSON, an address is between quotes. A search for `@domain` keeps only the closing quote.
        let needle = serde_json::to_string(&wanted).unwrap_or_default();
        let needle = if wanted.starts_with('@') {
            needle[1..].to_owned()
        } else {
            needle
        };
        // SQLite converts only ASCII to lower case. If `needle` contains other letters, the query returns
        // every story that contains an address, and `mentions_address` picks the matching ones.
        let needle = if needle.is_ascii() {
            needle
        } else {
            "@".into()
        };
        self.search(&needle, limit, |story| mentions_address(&wanted, story))
    }

    /// Returns the newest `limit` stories of messages with this Message-ID, newest first. `id` is in lower
    /// case, with its angle brackets.
    pub(super) fn stories_of_message_id(
        &self,
        id: &str,
        limit: usize,
    ) -> Result<Vec<Story>, SpoolError> {
        let needle = serde_json::to_string(id).unwrap_or_default();
        self.search(&needle, limit, |story| has_message_id(story, id))
    }

    /// Returns the newest `limit` stories that contain `needle` (in lower case) and that `is_one` admits,
    /// newest first.
    fn search(
        &self,
        needle: &str,
        limit: usize,
        is_one: impl Fn(&Story) -> bool,
    ) -> Result<Vec<Story>, SpoolError> {
        let sql = "
            SELECT id FROM (
                SELECT id FROM message WHERE id < ?2 AND instr(lower(sender || ' ' || coalesce(recipient, '')), ?4)
                UNION
                SELECT message FROM recipient WHERE message < ?2 AND instr(lower(address), ?4)
                UNION
                SELECT id FROM story WHERE id < ?2 AND instr(lower(record || events), ?1)
            ) ORDER BY id DESC LIMIT ?3";
        let mut statement = self.0.prepare(sql)?;
        let bare = needle.trim_matches('"');
        let (mut found, mut before) = (Vec::new(), i64::MAX);
        loop {
            let rows = statement.query_map(params![needle, before, CHUNK as i64, bare], |row| {
                row.get(0)
            })?;
            let ids: Vec<i64> = rows.collect::<Result<_, _>>()?;
            for id in &ids {
                let story = self.story(MessageId::from_i64(*id))?;
                if is_one(&story) {
                    found.push(story);
                }
                if found.len() == limit {
                    return Ok(found);
                }
            }
            match ids.last() {
                Some(last) if ids.len() == CHUNK => before = *last,
                _ => return Ok(found),
            }
        }
    }
}

fn has_message_id(story: &Story, id: &str) -> bool {
    let mut events = story.events.iter().map(|event| &event.what);
    events.any(|what| match what {
        EventKind::Delivered { message_id, .. } => message_id.eq_ignore_ascii_case(id),
        _ => false,
    })
}

fn mentions_address(wanted: &str, story: &Story) -> bool {
    let sender = story.record.envelope.sender.address();
    let all = sender.into_iter().chain(story.recipients());
    all.map(|address| address.as_str())
        .any(|address| filter::is(wanted, address))
}

fn story(id: MessageId, row: &Row) -> Result<Story, SpoolError> {
    let text = format!(
        "[{}]",
        row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?
    );
    let events = serde_json::from_str(&text).map_err(|error| {
        let kind = rusqlite::types::Type::Text;
        rusqlite::Error::FromSqlConversionFailure(2, kind, Box::new(error))
    })?;
    let ended: Option<i64> = row.get(1)?;
    let record = serde_json::from_str(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?);
    Ok(Story {
        record: record.unwrap_or_else(|error| rows::damaged(id, &error.to_string())),
        ended: ended.map(Timestamp),
        events,
    })
}
