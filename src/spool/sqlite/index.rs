//! The index that finds stories by address, domain, Message-ID and user. It is a full-text table of SQLite,
//! whose tokens are whole addresses.
//!
//! A message is not indexed in the transaction that accepts it: that would write several pages more for each
//! message. The writer thread adds messages to the index in groups, when it has nothing else to do. Until
//! then their tokens are in memory, where a search looks too. After a crash, the messages that were not
//! indexed yet are found by their ids: the index stores the id from which on messages may be missing.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, params};

use super::rows;
use crate::base::MessageId;
use crate::spool::tokens::{self, Wanted, tokens_of};
use crate::spool::{EventKind, SpoolError};

/// The number of messages that are indexed in one transaction: about 2 ms of work.
const GROUP: usize = 256;

/// The number of messages in memory from which on the writer indexes them between two groups of other jobs.
/// A message's tokens take about 150 octets.
pub(super) const MOST: usize = 50_000;

/// More than the longest time between the choice of a message's id and the message's commit, during which a client
/// sends the message: the default of `session_time` is an hour.
const LATE: Duration = Duration::from_secs(24 * 3_600);

/// The pause after a failure, for example because the disk is full.
const PAUSE: Duration = Duration::from_secs(60);

/// The note with the id from which on messages may be missing in the index.
const INDEXED: &str = "indexed";

/// The messages that are not in the index yet, with their tokens.
#[derive(Debug, Default)]
pub(super) struct Unindexed(Mutex<BTreeMap<MessageId, String>>);

impl Unindexed {
    fn messages(&self) -> MutexGuard<'_, BTreeMap<MessageId, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, id: MessageId, tokens: String) {
        self.messages().insert(id, tokens);
    }

    pub(super) fn remove(&self, id: MessageId) {
        self.messages().remove(&id);
    }

    pub(super) fn len(&self) -> usize {
        self.messages().len()
    }

    /// Returns the messages in this range that have all the tokens, newest first.
    pub(super) fn find(&self, wanted: &[Wanted], ids: Range<MessageId>) -> Vec<MessageId> {
        let messages = self.messages();
        let has_all = |tokens: &str| {
            let has = |wanted: &Wanted| {
                tokens
                    .split(' ')
                    .any(|token| wanted.tokens().iter().any(|it| it == token))
            };
            wanted.iter().all(has)
        };
        let found = messages.range(ids).rev();
        let found = found.filter(|(_, tokens)| has_all(tokens));
        found.map(|(id, _)| *id).collect()
    }
}

/// The writer's part of the index.
pub(super) struct Indexer {
    /// The next id to look at for a message that is missing in the index; `None` if none can be missing.
    missing_from: Option<MessageId>,
    /// The time until which nothing is indexed, because the last attempt failed.
    paused: Option<Instant>,
}

impl Indexer {
    pub(super) fn open(connection: &Connection) -> Result<Self, SpoolError> {
        let sql = "SELECT value FROM note WHERE name = ?1";
        let noted: Option<String> = connection
            .query_row(sql, [INDEXED], |row| row.get(0))
            .optional()?;
        let noted = noted.and_then(|id| id.parse::<MessageId>().ok());
        Ok(Self {
            missing_from: Some(noted.unwrap_or(MessageId::from_i64(0))),
            paused: None,
        })
    }

    /// True if there is a group to index.
    pub(super) fn has_group(&self, unindexed: &Unindexed) -> bool {
        !self.is_paused() && (self.missing_from.is_some() || unindexed.len() >= GROUP)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.is_some_and(|until| Instant::now() < until)
    }

    /// Indexes nothing for a while. Forgets the messages in memory if there are too many: they are in the
    /// database, where they are found later like those that a crash left.
    pub(super) fn pause(&mut self, unindexed: &Unindexed) {
        self.paused = Some(Instant::now() + PAUSE);
        let mut messages = unindexed.messages();
        if messages.len() >= MOST
            && let Some((first, _)) = messages.pop_first()
        {
            self.missing_from = Some(self.missing_from.map_or(first, |from| from.min(first)));
            messages.clear();
        }
    }

    /// Indexes a group of messages. The caller has begun a transaction, and calls [`Indexer::commit`] after it.
    pub(super) fn write(
        &self,
        connection: &Connection,
        unindexed: &Unindexed,
    ) -> Result<Group, SpoolError> {
        let mut group = Group {
            missing_from: self.missing_from,
            done: Vec::new(),
        };
        if let Some(from) = self.missing_from {
            group.missing_from = add_missing(connection, unindexed, from)?;
        }
        let waiting: Vec<(MessageId, String)> = {
            let messages = unindexed.messages();
            let first = messages.iter().take(GROUP);
            first.map(|(id, tokens)| (*id, tokens.clone())).collect()
        };
        for (id, tokens) in &waiting {
            // A second insertion would be an error, and would stop the index.
            if !is_indexed(connection, *id)? {
                add(connection, *id, tokens)?;
            }
        }
        group.done = waiting.into_iter().map(|(id, _)| id).collect();
        if let Some(from) = group.missing_from.or_else(|| group.next()) {
            let sql = "INSERT OR REPLACE INTO note (name, value) VALUES (?1, ?2)";
            let mut statement = connection.prepare_cached(sql)?;
            statement.execute([INDEXED, &from.to_string()])?;
        }
        Ok(group)
    }

    pub(super) fn commit(&mut self, group: &Group, unindexed: &Unindexed) {
        self.missing_from = group.missing_from;
        let mut messages = unindexed.messages();
        group.done.iter().for_each(|id| drop(messages.remove(id)));
    }
}

/// A group of messages that was indexed.
pub(super) struct Group {
    missing_from: Option<MessageId>,
    done: Vec<MessageId>,
}

impl Group {
    /// Returns the id from which on messages may be missing in the index after a crash.
    fn next(&self) -> Option<MessageId> {
        let last = self.done.last()?;
        Some(MessageId::first_at(last.time().before(LATE)))
    }
}

/// Indexes a group of the messages that are missing from an id on. Returns the id to continue with.
fn add_missing(
    connection: &Connection,
    unindexed: &Unindexed,
    from: MessageId,
) -> Result<Option<MessageId>, SpoolError> {
    let sql = "
        SELECT id FROM (SELECT id FROM message WHERE id >= ?1 ORDER BY id LIMIT ?2)
        UNION SELECT id FROM (SELECT id FROM story WHERE id >= ?1 ORDER BY id LIMIT ?2)
        ORDER BY id LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![from.to_i64(), GROUP as i64], |row| row.get(0))?;
    let ids: Vec<i64> = rows.collect::<Result<_, _>>()?;
    for id in ids.iter().copied().map(MessageId::from_i64) {
        if unindexed.messages().contains_key(&id) || is_indexed(connection, id)? {
            continue;
        }
        match rows::story(connection, id) {
            Err(error) if error.is_unreadable_row() => continue,
            story => {
                let story = story?;
                add(connection, id, &tokens_of(&story))?;
                add_results(connection, id, story.events.iter().map(|it| &it.what))?;
            }
        }
    }
    let last = ids.last().filter(|_| ids.len() == GROUP);
    Ok(last.map(|last| MessageId::from_i64(last + 1)))
}

fn is_indexed(connection: &Connection, id: MessageId) -> Result<bool, SpoolError> {
    let sql = "SELECT 1 FROM mention_docsize WHERE id = ?1";
    Ok(connection.prepare_cached(sql)?.exists([id.to_i64()])?)
}

fn add(connection: &Connection, id: MessageId, tokens: &str) -> Result<(), SpoolError> {
    let sql = "INSERT INTO mention (rowid, tokens) VALUES (?1, ?2)";
    let mut statement = connection.prepare_cached(sql)?;
    statement.execute(params![id.to_i64(), tokens])?;
    Ok(())
}

/// Removes a message from the index.
pub(super) fn remove(connection: &Connection, id: MessageId) -> Result<(), SpoolError> {
    if is_indexed(connection, id)? {
        let sql = "DELETE FROM mention WHERE rowid = ?1";
        connection.prepare_cached(sql)?.execute([id.to_i64()])?;
    }
    let sql = "DELETE FROM result WHERE name = ?1 AND id = ?2";
    let mut statement = connection.prepare_cached(sql)?;
    for name in tokens::RESULTS {
        statement.execute(params![name, id.to_i64()])?;
    }
    Ok(())
}

/// Stores the results of a message that people look for. Most messages have none of them.
pub(super) fn add_results<'e>(
    connection: &Connection,
    id: MessageId,
    events: impl Iterator<Item = &'e EventKind>,
) -> Result<(), SpoolError> {
    for event in events {
        let Some(name) = tokens::result_of(event) else {
            continue;
        };
        let sql = "INSERT OR IGNORE INTO result (name, id) VALUES (?1, ?2)";
        let mut statement = connection.prepare_cached(sql)?;
        statement.execute(params![name, id.to_i64()])?;
    }
    Ok(())
}

/// Returns the query of the full-text table.
pub(super) fn query(wanted: &[Wanted]) -> String {
    let any = |wanted: &Wanted| {
        let quoted = wanted.tokens().iter().map(|token| format!("\"{token}\""));
        format!("({})", quoted.collect::<Vec<_>>().join(" OR "))
    };
    wanted.iter().map(any).collect::<Vec<_>>().join(" AND ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::sqlite::schema;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_is_one_token_that_is_found(text in "\\PC{1,40}|[ -~\t\u{1}]{1,40}") {
            let connection = Connection::open_in_memory().unwrap();
            schema::prepare(&connection, std::path::Path::new("")).unwrap();
            let wanted = tokens::token(&text);
            add(&connection, MessageId::from_i64(7), &format!("before {wanted} after")).unwrap();
            let sql = "SELECT rowid FROM mention WHERE mention MATCH ?1";
            let found: i64 = connection.query_row(sql, [query(&[Wanted::one(wanted)])], |row| row.get(0)).unwrap();
            prop_assert_eq!(found, 7);
        }
    }
}
