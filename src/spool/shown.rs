//! The spool as people see it: all times are those of the wall clock.

use std::sync::Arc;

use jiff::SignedDuration;

use super::{
    Content, Contents, Count, Entry, EventKind, Manage, NodeRow, OperatorAction, Page, QueueFilter,
    Record, Selection, SpoolFuture, SpoolMeasures, Stories, Story, StoryFilter,
};
use crate::base::{BoxFuture, Clock, MessageId, Timestamp};

/// The spool as people see it. Times in its arguments and results follow the wall clock.
pub struct ShownSpool {
    spool: Arc<dyn Manage>,
    clock: Clock,
}

impl ShownSpool {
    /// Shows a spool whose times are those of `clock`.
    pub fn new(spool: Arc<dyn Manage>, clock: Clock) -> Self {
        Self { spool, clock }
    }

    fn story_shown(&self, mut story: Story) -> Story {
        let by = self.clock.offset();
        move_record(&mut story.record, by);
        story.ended = story.ended.map(|at| at.shifted(by));
        for event in &mut story.events {
            event.at = event.at.shifted(by);
            if let EventKind::Deferred { until, .. } = &mut event.what {
                *until = until.shifted(by);
            }
        }
        story
    }

    fn entry_shown(&self, mut entry: Entry) -> Entry {
        let by = self.clock.offset();
        move_record(&mut entry.record, by);
        if let Some(lease) = &mut entry.lease {
            lease.until = lease.until.shifted(by);
        }
        entry
    }

    /// Converts the times of a person's filter to the time of the spool.
    fn filter(&self, filter: QueueFilter) -> QueueFilter {
        let by = -self.clock.offset();
        QueueFilter {
            before: filter.before.map(|at| at.shifted(by)),
            since: filter.since.map(|at| at.shifted(by)),
            ..filter
        }
    }
}

fn move_record(record: &mut Record, by: SignedDuration) {
    record.received = record.received.shifted(by);
    record.due = record.due.shifted(by);
}

impl Contents for ShownSpool {
    fn content(&self, id: MessageId) -> SpoolFuture<'_, Content> {
        self.spool.content(id)
    }
}

impl Manage for ShownSpool {
    fn list(&self, page: Page) -> SpoolFuture<'_, Vec<Entry>> {
        let filter = self.filter(page.filter);
        Box::pin(async move {
            let entries = self.spool.list(Page { filter, ..page }).await?;
            let shown = entries.into_iter().map(|entry| self.entry_shown(entry));
            Ok(shown.collect())
        })
    }

    fn get(&self, id: MessageId) -> SpoolFuture<'_, Entry> {
        Box::pin(async move { Ok(self.entry_shown(self.spool.get(id).await?)) })
    }

    fn act<'a>(
        &'a self,
        which: Selection,
        deed: OperatorAction,
        now: Timestamp,
        so_far: &'a (dyn Fn(usize) + Sync),
    ) -> SpoolFuture<'a, usize> {
        let which = match which {
            Selection::Matching(filter) => Selection::Matching(self.filter(filter)),
            ids => ids,
        };
        let now = now.shifted(-self.clock.offset());
        self.spool.act(which, deed, now, so_far)
    }

    fn counts(&self) -> SpoolFuture<'_, Vec<Count>> {
        self.spool.counts()
    }

    fn nodes(&self) -> SpoolFuture<'_, Vec<NodeRow>> {
        self.spool.nodes()
    }

    fn takes_messages(&self) -> BoxFuture<'_, bool> {
        self.spool.takes_messages()
    }

    fn measures(&self) -> SpoolFuture<'_, Arc<SpoolMeasures>> {
        Box::pin(async move {
            let mut measures = SpoolMeasures::clone(self.spool.measures().await?.as_ref());
            let by = self.clock.offset();
            for (_, _, at) in &mut measures.oldest {
                *at = at.shifted(by);
            }
            Ok(Arc::new(measures))
        })
    }
}

impl Stories for ShownSpool {
    fn story(&self, id: MessageId) -> SpoolFuture<'_, Story> {
        Box::pin(async move { Ok(self.story_shown(self.spool.story(id).await?)) })
    }

    fn stories(&self, filter: StoryFilter, limit: usize) -> SpoolFuture<'_, Vec<Story>> {
        let by = -self.clock.offset();
        let filter = StoryFilter {
            before: filter.before.map(|at| at.shifted(by)),
            since: filter.since.map(|at| at.shifted(by)),
            ..filter
        };
        let stories = self.spool.stories(filter, limit);
        Box::pin(async move {
            let stories = stories.await?.into_iter();
            Ok(stories.map(|story| self.story_shown(story)).collect())
        })
    }
}
