//! The whole spool, to copy it to or from another engine.

use super::PostgresSpool;
use super::changes::Changes;
use super::rows;
use super::shared::Shared;
use super::{node, schema};
use crate::base::MessageId;
use crate::spool::copy::{CopiedFacts, CopiedMessage, Copyable, MARK};
use crate::spool::lease::DEAD;
use crate::spool::{Content, Record, SpoolError, SpoolFuture, Story};

const UNCERTAIN: &str = "SELECT count(*) FROM message WHERE sending";

const ALIVE: &str = "SELECT name FROM node WHERE seen >= clock_timestamp() - $1 * interval '1 ms' ORDER BY id LIMIT 1";

/// The pieces of contents that an interrupted copy, or a node that is dead, did not complete.
const CLEAN_UP: &str = "DELETE FROM piece WHERE node IS NOT NULL";

const NEWEST: &str = "SELECT (SELECT max(id) FROM message), (SELECT max(id) FROM story)";

const STORIES: &str =
    "SELECT id, record, ended, events FROM story WHERE id > $1 ORDER BY id LIMIT $2";

const FORGET_NOTES: &str = "DELETE FROM note WHERE name <> $1";
const FORGET_USED: &str = "DELETE FROM used";
const SET_NOTES: &str = "
    INSERT INTO note (name, value) SELECT * FROM unnest($1::text[], $2::text[])";

const CLEAR: &str = "
    TRUNCATE message, recipient, piece, digest_line, story, mention, result, used, mailbox, reserved, slot, quota, ended";

impl Copyable for PostgresSpool {
    fn uncertain(&self) -> SpoolFuture<'_, usize> {
        Box::pin(async move {
            let rows = self.shared.database.query(UNCERTAIN, &[]).await?;
            Ok(rows[0].get::<_, i64>(0) as usize)
        })
    }

    fn mark(&self, mark: Option<String>) -> SpoolFuture<'_, ()> {
        Box::pin(async move { set_mark(&self.shared, mark).await })
    }

    fn newest(&self) -> SpoolFuture<'_, (Option<MessageId>, Option<MessageId>)> {
        Box::pin(async move {
            let rows = self.shared.database.query(NEWEST, &[]).await?;
            let id = |column| rows[0].get::<_, Option<i64>>(column);
            Ok((
                id(0).map(MessageId::from_i64),
                id(1).map(MessageId::from_i64),
            ))
        })
    }

    fn stories_after(&self, after: Option<MessageId>, limit: usize) -> SpoolFuture<'_, Vec<Story>> {
        Box::pin(async move {
            let (after, limit) = (after.map_or(-1, MessageId::to_i64), limit as i64);
            let found = self
                .shared
                .database
                .query(STORIES, &[&after, &limit])
                .await?;
            let stories = found.iter().map(|row| {
                let id = rows::id(row);
                match rows::story(id, (row.get(1), row.get(2), row.get(3))) {
                    Err(error) if error.is_unreadable_row() => Ok(Story {
                        record: Record::damaged(id, rows::PLACE, &error),
                        ended: Some(id.time()),
                        events: Vec::new(),
                    }),
                    story => story,
                }
            });
            stories.collect()
        })
    }

    fn add_messages(&self, messages: Vec<CopiedMessage>) -> SpoolFuture<'_, ()> {
        Box::pin(async move {
            let mut changes = Changes::default();
            for CopiedMessage { message, lines } in &messages {
                changes.insert(message, None);
                if !lines.is_empty() {
                    changes.add_lines(message.record.id, lines);
                }
            }
            write(&self.shared, changes).await?;
            let contents = messages.iter().map(|it| &it.message.content);
            contents.for_each(Content::keep);
            Ok(())
        })
    }

    fn add_stories(&self, stories: Vec<Story>) -> SpoolFuture<'_, ()> {
        Box::pin(async move {
            let mut changes = Changes::default();
            stories.iter().for_each(|story| changes.add_story(story));
            write(&self.shared, changes).await
        })
    }

    fn set_facts(&self, facts: CopiedFacts) -> SpoolFuture<'_, ()> {
        Box::pin(async move {
            let mut changes = Changes::default();
            facts.used.iter().for_each(|used| changes.count(used));
            let (names, values): (Vec<String>, Vec<String>) = facts.notes.into_iter().unzip();
            let database = &self.shared.database;
            let set = database.within(async {
                let lent = database.lend().await?;
                lent.begin().await?;
                lent.execute(FORGET_USED, &[]).await?;
                lent.execute(FORGET_NOTES, &[&MARK]).await?;
                lent.execute(SET_NOTES, &[&names, &values]).await?;
                node::set_time(&lent, facts.now).await?;
                changes.write(&lent, false, None).await?;
                lent.done();
                Ok(())
            });
            set.await
        })
    }

    fn clear(&self) -> SpoolFuture<'_, ()> {
        Box::pin(async move {
            let database = &self.shared.database;
            let cleared = database.within(async {
                let lent = database.lend().await?;
                lent.begin().await?;
                lent.batch(CLEAR).await?;
                lent.execute(FORGET_NOTES, &[&MARK]).await?;
                lent.commit().await?;
                lent.done();
                Ok(())
            });
            cleared.await
        })
    }
}

async fn write(shared: &Shared, changes: Changes) -> Result<(), SpoolError> {
    let database = &shared.database;
    let written = database.within(async {
        let lent = database.lend().await?;
        changes.write(&lent, true, None).await?;
        lent.done();
        Ok(())
    });
    written.await
}

/// Sets the mark while no node is alive. A node that joins later sees it.
async fn set_mark(shared: &Shared, mark: Option<String>) -> Result<(), SpoolError> {
    let (database, dead) = (&shared.database, DEAD.as_millis() as f64);
    let set = database.within(async {
        let lent = database.lend().await?;
        lent.begin().await?;
        schema::lock(&lent).await?;
        let rows = lent.query(ALIVE, &[&dead]).await?;
        if let Some(row) = rows.first() {
            return Err(SpoolError::Serving {
                place: shared.database.name().to_owned(),
                node: row.get(0),
            });
        }
        lent.execute(CLEAN_UP, &[]).await?;
        match &mark {
            Some(mark) => super::tasks::set_note(&lent, MARK, mark).await?,
            None => super::tasks::remove_note(&lent, MARK).await?,
        };
        lent.commit().await?;
        lent.done();
        Ok(())
    });
    set.await
}
