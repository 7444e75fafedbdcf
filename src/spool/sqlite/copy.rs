//! The whole spool, to copy it to or from another engine.

use rusqlite::{OptionalExtension, params};
use tokio::sync::oneshot;

use super::store::Store;
use super::writer::Job;
use super::{SqliteSpool, rows};
use crate::base::{MessageId, Timestamp};
use crate::spool::copy::{CopiedFacts, CopiedMessage, Copyable, MARK};
use crate::spool::{Content, Record, SpoolError, SpoolFuture, Story, time};

const CLEAR: &str = "
    DELETE FROM message;
    DELETE FROM recipient;
    DELETE FROM digest_line;
    DELETE FROM story;
    DELETE FROM result;
    INSERT INTO mention (mention) VALUES ('delete-all')";

impl SqliteSpool {
    /// Runs `work` in the thread that writes.
    fn alone<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, SpoolError> + Send + 'static,
    ) -> SpoolFuture<'_, T> {
        self.ask(|answer: oneshot::Sender<Result<T, SpoolError>>| {
            Job::Copy(Box::new(move |store| drop(answer.send(work(store)))))
        })
    }

    /// Runs `work` in the thread that writes, in one transaction.
    fn together<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, SpoolError> + Send + 'static,
    ) -> SpoolFuture<'_, T> {
        self.alone(|store| {
            store.begin()?;
            let done = work(store).and_then(|value| store.commit().map(|()| value));
            if done.is_err() {
                store.rollback();
            }
            done
        })
    }
}

impl Copyable for SqliteSpool {
    fn uncertain(&self) -> SpoolFuture<'_, usize> {
        Box::pin(std::future::ready(Ok(0)))
    }

    fn mark(&self, mark: Option<String>) -> SpoolFuture<'_, ()> {
        // A lock keeps other processes away from the folder.
        self.together(move |store| store.note(MARK, mark.as_deref()))
    }

    fn newest(&self) -> SpoolFuture<'_, (Option<MessageId>, Option<MessageId>)> {
        self.alone(|store| Ok((newest(store, "message")?, newest(store, "story")?)))
    }

    fn stories_after(&self, after: Option<MessageId>, limit: usize) -> SpoolFuture<'_, Vec<Story>> {
        self.alone(move |store| {
            let sql =
                "SELECT record, ended, events, id FROM story WHERE id > ?1 ORDER BY id LIMIT ?2";
            let mut statement = store.connection.prepare_cached(sql)?;
            let mut found =
                statement.query(params![after.map_or(-1, MessageId::to_i64), limit as i64])?;
            let mut stories = Vec::new();
            while let Some(row) = found.next()? {
                let id = MessageId::from_i64(row.get(3)?);
                stories.push(match rows::stored(id, row) {
                    Err(error) if error.is_unreadable_row() => Story {
                        record: Record::damaged(id, rows::PLACE, &error),
                        ended: Some(id.time()),
                        events: Vec::new(),
                    },
                    story => story?,
                });
            }
            Ok(stories)
        })
    }

    fn add_messages(&self, messages: Vec<CopiedMessage>) -> SpoolFuture<'_, ()> {
        Box::pin(async move {
            let contents: Vec<Content> = messages
                .iter()
                .map(|it| it.message.content.clone())
                .collect();
            self.together(move |store| {
                for CopiedMessage { message, lines } in &messages {
                    store.insert(&message.record, &message.content)?;
                    store.add_lines(message.record.id, lines)?;
                }
                Ok(())
            })
            .await?;
            contents.iter().for_each(Content::keep);
            Ok(())
        })
    }

    fn add_stories(&self, stories: Vec<Story>) -> SpoolFuture<'_, ()> {
        self.together(move |store| {
            let mut stories = stories.iter();
            stories.try_for_each(|it| store.insert_story(&it.record, it.ended, &it.events))
        })
    }

    fn set_facts(&self, facts: CopiedFacts) -> SpoolFuture<'_, ()> {
        self.together(move |store| {
            // Without the note `indexed`, all messages are indexed after the next start.
            forget_facts(store)?;
            facts.used.iter().try_for_each(|used| store.count(used))?;
            for (name, value) in &facts.notes {
                store.note(name, Some(value))?;
            }
            let time = time::text(facts.now, Timestamp::now());
            store.note(time::NOTE, Some(&time))
        })
    }

    fn clear(&self) -> SpoolFuture<'_, ()> {
        Box::pin(async move {
            self.together(|store| {
                store.connection.execute_batch(CLEAR)?;
                forget_facts(store)
            })
            .await?;
            self.contents.remove_all()
        })
    }
}

fn forget_facts(store: &Store) -> Result<(), SpoolError> {
    store.connection.execute("DELETE FROM used", ())?;
    let sql = "DELETE FROM note WHERE name <> ?1";
    store.connection.execute(sql, [MARK])?;
    Ok(())
}

fn newest(store: &Store, table: &str) -> Result<Option<MessageId>, SpoolError> {
    let sql = format!("SELECT id FROM {table} ORDER BY id DESC LIMIT 1");
    let id: Option<i64> = store
        .connection
        .query_row(&sql, (), |row| row.get(0))
        .optional()?;
    Ok(id.map(MessageId::from_i64))
}
