//! A spool in memory: the whole contract of the spool in its shortest form. Simulations use it. Nothing is written to disk,
//! except large contents; the messages stay when a simulated program is killed.

mod queue;

use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use mailferry::base::id::MessageIds;
use mailferry::base::{BoxFuture, Clock, MessageId, Timestamp};
use mailferry::spool::folder::Folder;
use mailferry::spool::{
    Addition, Claim, ClaimFrom, Claimed, Content, ContentWriter, Contents, Count, Entry, Finish,
    Intake, Ledger, Manage, NewMessage, Notes, OperatorAction, Page, Permission, Place, Record,
    Selection, Spending, SpoolError, SpoolFuture, SpoolMeasures, State, Stories, Story, StoryEvent,
    StoryFilter, Upkeep, Used, Work, time,
};
use tempfile::TempDir;
use tokio::sync::Notify;

use queue::Queue;

/// The number of messages that an operator changes at once.
const OPERATOR_PAGE: usize = 1_000;

pub struct Memory {
    ids: MessageIds,
    changed: Notify,
    queue: Mutex<Queue>,
    /// Holds large contents; made when the first one arrives.
    contents: OnceLock<TempDir>,
}

fn now<'a, T: Send + 'a>(value: T) -> SpoolFuture<'a, T> {
    Box::pin(std::future::ready(Ok(value)))
}

impl Memory {
    /// Makes an empty spool that keeps stories for `history`.
    pub fn new(history: Duration) -> Self {
        Self {
            ids: MessageIds::default(),
            changed: Notify::new(),
            queue: Mutex::new(Queue::new(history)),
            contents: OnceLock::new(),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no test panicked")
    }

    /// Drops all claims, because the program that had them was killed.
    pub fn restart(&self) {
        let mut queue = self.queue();
        queue.fresh.clear();
        let claims = std::mem::take(&mut queue.claims);
        claims.into_keys().for_each(|id| queue.offer(id));
    }

    /// Drops a claim, because the node that had it has died.
    pub fn give_up(&self, id: MessageId, number: u64) {
        self.queue().release(Claim { id, number });
    }

    /// True if only messages that wait for a person are left.
    pub fn is_done(&self) -> bool {
        let queue = self.queue();
        queue.claims.is_empty() && queue.is_nothing_due()
    }

    /// Acts as an operator who retries all messages that are queued and not claimed.
    pub fn retry_all(&self, at: Timestamp) {
        let mut queue = self.queue();
        let free = queue.messages.keys().filter(|id| queue.is_free(**id));
        for id in free.copied().collect::<Vec<MessageId>>() {
            let retried = queue.act(id, &OperatorAction::Retry, at, true);
            retried.expect("it is in the queue");
        }
        drop(queue);
        self.changed.notify_one();
    }

    /// Returns the record of a message, if the message is still in the spool.
    pub fn left(&self, id: MessageId) -> Option<Record> {
        let queue = self.queue();
        Some(queue.messages.get(&id)?.record.clone())
    }

    /// Returns the content of a message, if the message is still in the spool.
    pub fn text(&self, id: MessageId) -> Option<String> {
        let content = self.queue().content(id).ok()?;
        let text = content.in_memory().expect("simulated messages are small");
        Some(String::from_utf8_lossy(text).into_owned())
    }

    /// Returns the events of a message's story.
    pub fn events(&self, id: MessageId) -> Vec<StoryEvent> {
        let story = self.queue().story(id);
        story.map(|story| story.events).unwrap_or_default()
    }

    /// Returns the number of large contents.
    pub fn large_contents(&self) -> usize {
        let folder = self.contents.get();
        folder.map_or(0, |folder| {
            std::fs::read_dir(folder.path()).expect("reads").count()
        })
    }
}

impl Intake for Memory {
    fn next_id(&self, now: Timestamp) -> MessageId {
        self.ids.next(now, 0)
    }

    fn writer(&self, id: MessageId) -> ContentWriter {
        let folder = self
            .contents
            .get_or_init(|| tempfile::tempdir().expect("a folder"));
        ContentWriter::new(Arc::new(Folder::new(folder.path().to_owned())), id)
    }

    fn has_room(&self) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(true))
    }

    fn refused(&self, story: Story) {
        self.queue().tell(story);
    }

    fn put(&self, messages: Vec<NewMessage>) -> SpoolFuture<'_, ()> {
        let put = self.queue().put(&messages);
        self.changed.notify_one();
        Box::pin(std::future::ready(put))
    }
}

impl Contents for Memory {
    fn content(&self, id: MessageId) -> SpoolFuture<'_, Content> {
        let content = self.queue().content(id);
        Box::pin(std::future::ready(content))
    }
}

impl Work for Memory {
    fn waiting(&self) -> SpoolFuture<'_, Vec<(Place, Timestamp)>> {
        now(self.queue().waiting())
    }

    fn claim(
        &self,
        which: ClaimFrom,
        max: usize,
        at: Timestamp,
        until: Timestamp,
    ) -> SpoolFuture<'_, Vec<Claimed>> {
        let mut queue = self.queue();
        queue.expire(at);
        let ids = match which {
            ClaimFrom::Fresh => return now(queue.take_fresh(max)),
            ClaimFrom::DueIn(place) => queue.due_in(&place, max, at),
            ClaimFrom::Named(mut ids) => {
                ids.retain(|id| queue.is_free(*id));
                ids
            }
        };
        let claimed = ids.into_iter().filter_map(|id| queue.claim(id, until));
        now(claimed.collect())
    }

    fn lines(&self, digest: MessageId) -> SpoolFuture<'_, Vec<(u64, String)>> {
        now(self.queue().lines_of(digest))
    }

    fn sending(
        &self,
        claim: Claim,
        _: Option<Spending>,
        _: Timestamp,
    ) -> SpoolFuture<'_, Permission> {
        let mut queue = self.queue();
        if !queue.is_held_by(claim) {
            return now(Permission::Lost);
        }
        if let Some(claiming) = queue.claims.get_mut(&claim.id) {
            claiming.is_sending = true;
        }
        now(Permission::Granted)
    }

    fn renew(&self, mut claims: Vec<Claim>, until: Timestamp) -> SpoolFuture<'_, Vec<Claim>> {
        let mut queue = self.queue();
        claims.retain(|claim| !queue.renew(*claim, until));
        now(claims)
    }

    fn finish(&self, batch: Arc<[Finish]>) -> SpoolFuture<'_, Vec<Claim>> {
        let mut queue = self.queue();
        let lost = batch.iter().filter(|finish| !queue.finish(finish));
        let lost = lost.map(|finish| finish.claim).collect();
        if batch.iter().any(Finish::makes_due) {
            self.changed.notify_one();
        }
        now(lost)
    }

    fn release(&self, claims: Vec<(Claim, Place)>) {
        let mut queue = self.queue();
        claims.iter().for_each(|(claim, _)| queue.release(*claim));
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.changed.notified())
    }
}

impl Upkeep for Memory {
    fn late(
        &self,
        after: Option<MessageId>,
        before: Timestamp,
        limit: usize,
    ) -> SpoolFuture<'_, Vec<Record>> {
        let after = after.map_or(Unbounded, Excluded);
        let before = Excluded(MessageId::first_at(before));
        let queue = self.queue();
        let messages = queue.messages.range((after, before));
        let records = messages.map(|(_, message)| &message.record);
        let queued = records.filter(|record| record.state == State::Queued);
        now(queued.take(limit).cloned().collect())
    }

    fn reroute(&self, lanes: Vec<String>, held: Vec<(String, String)>) -> SpoolFuture<'_, ()> {
        self.queue().reroute(&lanes, &held);
        self.changed.notify_one();
        now(())
    }

    fn resume_time<'a>(&'a self, clock: &'a Clock) -> SpoolFuture<'a, ()> {
        Box::pin(time::resume(self, clock))
    }

    fn note_time<'a>(&'a self, clock: &'a Clock) -> SpoolFuture<'a, ()> {
        Box::pin(time::note(self, clock))
    }

    fn purge(&self, at: Timestamp) -> SpoolFuture<'_, bool> {
        self.queue().purge(at);
        now(false)
    }
}

impl Ledger for Memory {
    fn used(&self, since: Timestamp) -> SpoolFuture<'_, Vec<Used>> {
        let queue = self.queue();
        let used = queue.used.values().filter(|used| used.at > since);
        now(used.cloned().collect())
    }

    fn add_story(&self, story: Story, used: Option<Used>) -> SpoolFuture<'_, ()> {
        let mut queue = self.queue();
        used.iter().for_each(|used| queue.count(used));
        queue.tell(story);
        now(())
    }

    fn extend_story(&self, addition: Addition) -> SpoolFuture<'_, bool> {
        let is_extended = self.queue().extend(&addition);
        self.changed.notify_one();
        now(is_extended)
    }
}

impl Stories for Memory {
    fn story(&self, id: MessageId) -> SpoolFuture<'_, Story> {
        let story = self.queue().story(id);
        Box::pin(std::future::ready(story.ok_or(SpoolError::Unknown(id))))
    }

    fn stories(&self, filter: StoryFilter, limit: usize) -> SpoolFuture<'_, Vec<Story>> {
        now(self.queue().admitted_stories(&filter, limit))
    }
}

impl Notes for Memory {
    fn note(&self, name: &str, value: Option<String>) -> SpoolFuture<'_, ()> {
        let mut queue = self.queue();
        match value {
            Some(value) => queue.notes.insert(name.to_owned(), value),
            None => queue.notes.remove(name),
        };
        now(())
    }

    fn notes(&self, prefix: &str) -> SpoolFuture<'_, Vec<(String, String)>> {
        let queue = self.queue();
        let notes = queue.notes.iter();
        let notes = notes.filter(|(name, _)| name.starts_with(prefix));
        let notes = notes.map(|(name, value)| (name.clone(), value.clone()));
        now(notes.collect())
    }
}

impl Manage for Memory {
    fn list(&self, page: Page) -> SpoolFuture<'_, Vec<Entry>> {
        let entries = self.queue().admitted(&page.filter).into_iter();
        let entries =
            entries.filter(|entry| page.after.is_none_or(|after| entry.record.id > after));
        now(entries.take(page.limit).collect())
    }

    fn get(&self, id: MessageId) -> SpoolFuture<'_, Entry> {
        let entry = self.queue().entry(id);
        Box::pin(std::future::ready(entry))
    }

    fn act<'a>(
        &'a self,
        which: Selection,
        deed: OperatorAction,
        at: Timestamp,
        so_far: &'a (dyn Fn(usize) + Sync),
    ) -> SpoolFuture<'a, usize> {
        let mut queue = self.queue();
        let (ids, is_named): (Vec<MessageId>, bool) = match which {
            Selection::Ids(ids) => (ids, true),
            Selection::Matching(filter) => {
                let entries = queue.admitted(&filter).into_iter();
                (entries.map(|entry| entry.record.id).collect(), false)
            }
        };
        let mut count = 0;
        for page in ids.chunks(OPERATOR_PAGE) {
            for id in page {
                match queue.act(*id, &deed, at, is_named) {
                    Ok(is_changed) => count += usize::from(is_changed),
                    Err(error) => return Box::pin(std::future::ready(Err(error))),
                }
            }
            so_far(count);
        }
        drop(queue);
        self.changed.notify_one();
        now(count)
    }

    fn counts(&self) -> SpoolFuture<'_, Vec<Count>> {
        now(self.queue().counts())
    }

    fn takes_messages(&self) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(true))
    }

    fn measures(&self) -> SpoolFuture<'_, Arc<SpoolMeasures>> {
        let queue = self.queue();
        let mut measures = SpoolMeasures::default();
        for message in queue.messages.values() {
            let record = &message.record;
            measures.used += record.size;
            let mut oldest = measures.oldest.iter();
            if !oldest.any(|(lane, state, _)| *lane == record.lane && *state == record.state) {
                let first = (record.lane.clone(), record.state, record.received);
                measures.oldest.push(first);
            }
        }
        now(Arc::new(measures))
    }
}
