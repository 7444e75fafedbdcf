//! A spool in memory, for simulations: what the trait asks for, and nothing on a disk. It outlives the
//! runs of the program that work on it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Unbounded};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use jiff::SignedDuration;
use mailferry::base::id::MessageIds;
use mailferry::base::{BoxFuture, MessageId, Timestamp};
use mailferry::spool::{
    Content, ContentWriter, Deed, Entry, Event, Fate, Finish, Flow, Lease, Leased, New, Owner,
    Page, Place, Record, Selection, Spool, SpoolError, State, Story, Used,
};
use tokio::sync::Notify;

#[derive(Default)]
pub struct Memory {
    ids: MessageIds,
    changed: Notify,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    messages: HashMap<MessageId, (Record, Bytes)>,
    /// In the order of the ids, which is that of their coming.
    order: BTreeSet<MessageId>,
    /// What is queued and not leased, in the order in which it is due.
    due: BTreeMap<String, BTreeMap<String, BTreeSet<(Timestamp, MessageId)>>>,
    /// Who is out, and whether there is more in it by now.
    leases: HashMap<MessageId, bool>,
    events: HashMap<MessageId, Vec<Event>>,
    used: Vec<Used>,
    notes: BTreeMap<String, String>,
}

type Later<'a, T> = BoxFuture<'a, Result<T, SpoolError>>;

fn now<'a, T: Send + 'a>(value: Result<T, SpoolError>) -> Later<'a, T> {
    Box::pin(std::future::ready(value))
}

fn owner() -> Owner {
    Owner::new("simulation", 1, 1)
}

impl Memory {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test panicked")
    }

    /// The program has died: what it had is nobody's.
    pub fn restart(&self) {
        let mut inner = self.inner();
        let leases = std::mem::take(&mut inner.leases);
        leases.into_keys().for_each(|id| inner.offer(id));
    }

    /// Whether nothing is left but what waits for a person.
    pub fn is_done(&self) -> bool {
        let inner = self.inner();
        inner.leases.is_empty()
            && inner
                .due
                .values()
                .all(|flows| flows.values().all(BTreeSet::is_empty))
    }

    /// What is left of a message, if anything.
    pub fn left(&self, id: MessageId) -> Option<Record> {
        self.inner()
            .messages
            .get(&id)
            .map(|(record, _)| record.clone())
    }

    /// What is left of a message's content.
    pub fn text(&self, id: MessageId) -> Option<String> {
        let inner = self.inner();
        let (_, content) = inner.messages.get(&id)?;
        Some(String::from_utf8_lossy(content).into_owned())
    }

    /// What there is to tell of a message.
    pub fn events(&self, id: MessageId) -> Vec<Event> {
        self.inner().events.get(&id).cloned().unwrap_or_default()
    }
}

impl Inner {
    fn put(&mut self, new: &New) {
        let Content::Memory(content) = &new.content else {
            panic!("simulated messages are small");
        };
        let id = new.record.id;
        self.take(id);
        self.messages
            .insert(id, (new.record.clone(), content.clone()));
        self.order.insert(id);
        self.offer(id);
    }

    /// Due, if it is there and queued.
    fn offer(&mut self, id: MessageId) {
        let Some((record, _)) = self.messages.get(&id) else {
            return;
        };
        if record.state == State::Queued && !self.leases.contains_key(&id) {
            let place = record.place();
            let flows = self.due.entry(place.lane).or_default();
            let due = flows.entry(place.flow.key()).or_default();
            due.insert((record.due, id));
        }
    }

    fn take(&mut self, id: MessageId) {
        if let Some((record, _)) = self.messages.get(&id) {
            let place = record.place();
            let flows = self.due.get_mut(&place.lane);
            let due = flows.and_then(|flows| flows.get_mut(&place.flow.key()));
            let _ = due.map(|due| due.remove(&(record.due, id)));
        }
    }

    fn lease(&mut self, id: MessageId, until: Timestamp) -> Option<Leased> {
        self.take(id);
        let (record, content) = self.messages.get(&id)?;
        self.leases.insert(id, false);
        Some(Leased {
            record: record.clone(),
            content: Some(Content::Memory(content.clone())),
            lease: Lease {
                owner: owner(),
                until,
            },
        })
    }

    fn finish(&mut self, finish: &Finish) {
        let id = finish.id;
        let has_grown = self.leases.remove(&id).unwrap_or_default();
        self.events
            .entry(id)
            .or_default()
            .extend(finish.events.iter().cloned());
        self.used.extend(finish.used.clone());
        match &finish.fate {
            _ if has_grown => {}
            Fate::Gone => {
                self.messages.remove(&id);
                self.order.remove(&id);
            }
            Fate::Later(record) => self.update(record, State::Queued),
            Fate::Held(record) => self.update(record, State::Held),
        }
        self.offer(id);
        finish.reports.iter().for_each(|report| self.report(report));
    }

    /// See [`Finish::reports`].
    fn report(&mut self, report: &New) {
        let (id, size) = (report.record.id, report.record.size);
        let Some((there, _)) = self.messages.get(&id) else {
            return self.put(report);
        };
        if there.size < size {
            let there = there.clone();
            self.put(&New {
                record: Record { size, ..there },
                content: report.content.clone(),
            });
            if let Some(has_grown) = self.leases.get_mut(&id) {
                *has_grown = true;
            }
        }
    }

    /// An operator has it tried again.
    fn retry(&mut self, id: MessageId, at: Timestamp) {
        self.take(id);
        if let Some((record, _)) = self.messages.get_mut(&id) {
            record.due = at;
            record.lane = String::new();
        }
        self.offer(id);
    }

    fn update(&mut self, record: &Record, state: State) {
        if let Some((known, _)) = self.messages.get_mut(&record.id) {
            *known = Record {
                state,
                ..record.clone()
            };
        }
    }
}

impl Spool for Memory {
    fn next_id(&self, now: Timestamp) -> MessageId {
        self.ids.next(now, 0)
    }

    fn writer(&self, id: MessageId) -> ContentWriter {
        ContentWriter::new(Path::new("/nowhere"), id)
    }

    fn has_room(&self) -> bool {
        true
    }

    fn put(&self, messages: Vec<New>) -> Later<'_, ()> {
        let mut inner = self.inner();
        messages.iter().for_each(|new| inner.put(new));
        drop(inner);
        self.changed.notify_one();
        now(Ok(()))
    }

    fn fresh(&self, _: usize) -> Vec<Leased> {
        Vec::new()
    }

    fn claim(
        &self,
        place: &Place,
        max: usize,
        at: Timestamp,
        until: Timestamp,
    ) -> Later<'_, Vec<Leased>> {
        let mut inner = self.inner();
        let flows = inner.due.get(&place.lane);
        let due = flows.and_then(|flows| flows.get(&place.flow.key()));
        let due = due.into_iter().flatten().take_while(|(due, _)| *due <= at);
        let ids: Vec<MessageId> = due.take(max).map(|(_, id)| *id).collect();
        let claimed = ids.into_iter().filter_map(|id| inner.lease(id, until));
        now(Ok(claimed.collect()))
    }

    fn lease(&self, ids: Vec<MessageId>, _: Timestamp, until: Timestamp) -> Later<'_, Vec<Leased>> {
        let mut inner = self.inner();
        let mut leased = Vec::new();
        for id in ids {
            let is_queued =
                matches!(inner.messages.get(&id), Some((r, _)) if r.state == State::Queued);
            if is_queued && !inner.leases.contains_key(&id) {
                leased.extend(inner.lease(id, until));
            }
        }
        now(Ok(leased))
    }

    fn waiting_lanes(&self) -> Vec<String> {
        self.inner().due.keys().cloned().collect()
    }

    fn due(&self, lane: &str) -> Vec<(Flow, Timestamp)> {
        let inner = self.inner();
        let flows = inner.due.get(lane).into_iter().flatten();
        let first = |(key, due): (&String, &BTreeSet<(Timestamp, MessageId)>)| {
            Some((Flow::of_key(key), due.first()?.0))
        };
        flows.filter_map(first).collect()
    }

    fn sending(&self, _: MessageId) {}

    fn renew(&self, _: Vec<MessageId>, _: Timestamp) -> Later<'_, ()> {
        now(Ok(()))
    }

    fn finish(&self, batch: Arc<[Finish]>) -> Later<'_, ()> {
        let mut inner = self.inner();
        batch.iter().for_each(|finish| inner.finish(finish));
        drop(inner);
        if batch.iter().any(Finish::makes_due) {
            self.changed.notify_one();
        }
        now(Ok(()))
    }

    fn release(&self, leases: Vec<(MessageId, Place)>) {
        let mut inner = self.inner();
        for (id, _) in leases {
            inner.leases.remove(&id);
            inner.offer(id);
        }
    }

    fn content(&self, id: MessageId) -> Later<'_, Content> {
        let inner = self.inner();
        let found = inner.messages.get(&id);
        let content = found.map(|(_, content)| Content::Memory(content.clone()));
        now(content.ok_or(SpoolError::Missing(id)))
    }

    fn reroute(&self, _: Vec<String>, _: Vec<(String, String)>) -> Later<'_, ()> {
        now(Ok(()))
    }

    fn list(&self, page: Page) -> Later<'_, Vec<Entry>> {
        let inner = self.inner();
        let before = page.filter.before.map(MessageId::first_at);
        let after = page.after.map_or(Unbounded, Excluded);
        let ids = inner
            .order
            .range((after, before.map_or(Unbounded, Excluded)));
        let entry = |id: &MessageId| {
            let record = inner.messages.get(id)?.0.clone();
            let lease = inner.leases.contains_key(id).then(|| Lease {
                owner: owner(),
                until: Timestamp(0),
            });
            Some(Entry { record, lease })
        };
        let admitted = ids
            .filter_map(entry)
            .filter(|entry| page.filter.admits(entry));
        now(Ok(admitted.take(page.limit).collect()))
    }

    fn get(&self, id: MessageId) -> Later<'_, Entry> {
        let record = self.left(id).ok_or(SpoolError::Missing(id));
        now(record.map(|record| Entry {
            record,
            lease: None,
        }))
    }

    /// Only what the simulation does: all that is queued is tried again.
    fn act(&self, _: Selection, _: Deed, at: Timestamp) -> Later<'_, usize> {
        let mut inner = self.inner();
        let free = inner.messages.iter().filter(|(id, (record, _))| {
            record.state == State::Queued && !inner.leases.contains_key(id)
        });
        let free: Vec<MessageId> = free.map(|(id, _)| *id).collect();
        free.iter().for_each(|id| inner.retry(*id, at));
        drop(inner);
        self.changed.notify_one();
        now(Ok(free.len()))
    }

    fn story(&self, id: MessageId) -> Later<'_, Story> {
        now(Err(SpoolError::Unknown(id)))
    }

    fn stories(&self, _: &str, _: usize) -> Later<'_, Vec<Story>> {
        now(Ok(Vec::new()))
    }

    fn tell(&self, _: Story, _: Option<Used>) -> Later<'_, ()> {
        now(Ok(()))
    }

    fn used(&self, since: Timestamp) -> Later<'_, Vec<Used>> {
        let inner = self.inner();
        let used = inner.used.iter().filter(|used| used.at >= since);
        now(Ok(used.cloned().collect()))
    }

    fn shift(&self, by: SignedDuration, (name, value): (&str, String)) -> Later<'_, ()> {
        let mut inner = self.inner();
        inner
            .messages
            .values_mut()
            .for_each(|(record, _)| record.shift(by));
        inner.due.clear();
        let all: Vec<MessageId> = inner.order.iter().copied().collect();
        all.into_iter().for_each(|id| inner.offer(id));
        for used in &mut inner.used {
            used.at = used.at.shifted(by);
            used.last = used.last.shifted(by);
        }
        inner.notes.insert(name.to_owned(), value);
        now(Ok(()))
    }

    fn purge(&self, _: Timestamp) -> Later<'_, bool> {
        now(Ok(false))
    }

    fn note(&self, name: &str, value: Option<String>) -> Later<'_, ()> {
        let mut inner = self.inner();
        match value {
            Some(value) => inner.notes.insert(name.to_owned(), value),
            None => inner.notes.remove(name),
        };
        now(Ok(()))
    }

    fn notes(&self, prefix: &str) -> Later<'_, Vec<(String, String)>> {
        let inner = self.inner();
        let notes = inner.notes.iter();
        let notes = notes.filter(|(name, _)| name.starts_with(prefix));
        let notes = notes.map(|(name, value)| (name.clone(), value.clone()));
        now(Ok(notes.collect()))
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.changed.notified())
    }
}
