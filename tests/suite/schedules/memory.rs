//! A spool in memory, for simulations. It does everything that delivery requires, and writes nothing to
//! disk. It keeps its messages when the simulated program is killed and restarted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use mailferry::base::id::MessageIds;
use mailferry::base::shared_secrets::SharedSecrets;
use mailferry::base::{BoxFuture, Clock, MessageId, Timestamp};
use mailferry::spool::folder::Folder;
use mailferry::spool::{
    Addition, Claim, ClaimFrom, Claimed, Content, ContentWriter, Contents, DigestLines, Fate,
    Finish, Flow, Intake, Ledger, NewMessage, Notes, Permission, Place, Record, SessionLease,
    Spending, SpoolError, SpoolFuture, State, Stories, Story, StoryEvent, StoryFilter, Upkeep,
    Used, Work, time,
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
    /// The messages in the order of their ids, which is the order of arrival.
    order: BTreeSet<MessageId>,
    /// Messages that are queued and not claimed, by lane and flow, in the order in which they are due.
    due: BTreeMap<String, BTreeMap<String, BTreeSet<(Timestamp, MessageId)>>>,
    /// Claimed messages, with the numbers of their claims.
    claims: HashMap<MessageId, u64>,
    /// The lines of digests, by digest and number.
    lines: BTreeMap<(MessageId, u64), String>,
    last: u64,
    events: HashMap<MessageId, Vec<StoryEvent>>,
    used: Vec<Used>,
    notes: BTreeMap<String, String>,
}

fn now<'a, T: Send + 'a>(value: Result<T, SpoolError>) -> SpoolFuture<'a, T> {
    Box::pin(std::future::ready(value))
}

impl Memory {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test panicked")
    }

    /// Drops all claims, because the program that had them was killed.
    pub fn restart(&self) {
        let mut inner = self.inner();
        let claims = std::mem::take(&mut inner.claims);
        claims.into_keys().for_each(|id| inner.offer(id));
    }

    /// Drops a claim, because the node that had it has died.
    pub fn give_up(&self, id: MessageId, number: u64) {
        let mut inner = self.inner();
        if inner.claims.get(&id) == Some(&number) {
            inner.claims.remove(&id);
            inner.offer(id);
        }
    }

    /// True if only messages that wait for a person are left.
    pub fn is_done(&self) -> bool {
        let inner = self.inner();
        inner.claims.is_empty()
            && inner
                .due
                .values()
                .all(|flows| flows.values().all(BTreeSet::is_empty))
    }

    /// Acts as an operator who retries all messages that are queued and not claimed.
    pub fn retry_all(&self, at: Timestamp) {
        let mut inner = self.inner();
        let free = inner.order.iter().filter(|id| inner.is_free(**id));
        let free: Vec<MessageId> = free.copied().collect();
        free.into_iter().for_each(|id| inner.retry(id, at));
        drop(inner);
        self.changed.notify_one();
    }

    /// Returns the record of a message, if the message is still in the spool.
    pub fn left(&self, id: MessageId) -> Option<Record> {
        self.inner()
            .messages
            .get(&id)
            .map(|(record, _)| record.clone())
    }

    /// Returns the content of a message, if the message is still in the spool.
    pub fn text(&self, id: MessageId) -> Option<String> {
        let inner = self.inner();
        let (_, content) = inner.messages.get(&id)?;
        let lines = inner.lines_of(id).into_iter().map(|(_, line)| line);
        Some(String::from_utf8_lossy(content).into_owned() + &lines.collect::<String>())
    }

    /// Returns the events of a message's story.
    pub fn events(&self, id: MessageId) -> Vec<StoryEvent> {
        self.inner().events.get(&id).cloned().unwrap_or_default()
    }
}

impl Inner {
    fn put(&mut self, new: &NewMessage) {
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

    /// Makes a message due if it is in the spool, queued and not claimed.
    fn offer(&mut self, id: MessageId) {
        let Some((record, _)) = self.messages.get(&id) else {
            return;
        };
        if record.state == State::Queued && !self.claims.contains_key(&id) {
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

    fn claim(&mut self, id: MessageId, until: Timestamp) -> Option<Claimed> {
        self.take(id);
        let (record, content) = self.messages.get(&id)?;
        self.last += 1;
        self.claims.insert(id, self.last);
        Some(Claimed {
            claim: Claim {
                id,
                number: self.last,
            },
            until,
            record: record.clone(),
            content: Some(Content::Memory(content.clone())),
            may_have_arrived: false,
        })
    }

    fn finish(&mut self, finish: &Finish) {
        let Claim { id, number } = finish.claim;
        let claimed = self.claims.remove(&id).expect("it is claimed");
        assert_eq!(number, claimed, "no claim is lost here");
        self.events
            .entry(id)
            .or_default()
            .extend(finish.events.iter().cloned());
        self.used.extend(finish.used.clone());
        match &finish.fate {
            Fate::Gone(_) => {
                for (line, _) in self.lines_of(id) {
                    if line <= finish.sent_lines {
                        self.lines.remove(&(id, line));
                    }
                }
                if self.lines_of(id).is_empty() {
                    self.messages.remove(&id);
                    self.order.remove(&id);
                }
            }
            Fate::Later(record) => self.update(record, State::Queued),
            Fate::Held(record) => self.update(record, State::Held),
        }
        self.offer(id);
        finish.reports.iter().for_each(|report| self.put(report));
        for DigestLines { digest, lines } in &finish.lines {
            for line in lines {
                self.last += 1;
                self.lines.insert((digest.id, self.last), line.clone());
            }
            if !self.messages.contains_key(&digest.id) {
                self.put(&NewMessage {
                    record: Record::clone(digest),
                    content: Content::Memory(Bytes::new()),
                });
            }
        }
    }

    fn lines_of(&self, digest: MessageId) -> Vec<(u64, String)> {
        let lines = self.lines.range((digest, 0)..=(digest, u64::MAX));
        lines
            .map(|((_, number), line)| (*number, line.clone()))
            .collect()
    }

    /// Acts as an operator who retries a message.
    fn retry(&mut self, id: MessageId, at: Timestamp) {
        self.take(id);
        if let Some((record, _)) = self.messages.get_mut(&id) {
            record.due = at;
            record.lane = String::new();
        }
        self.offer(id);
    }

    /// True if the message is queued and not claimed.
    fn is_free(&self, id: MessageId) -> bool {
        let record = self.messages.get(&id).map(|(record, _)| record);
        record.is_some_and(|record| record.state == State::Queued) && !self.claims.contains_key(&id)
    }

    fn waiting(&self) -> Vec<(Place, Timestamp)> {
        let mut waiting = Vec::new();
        for (lane, flows) in &self.due {
            for (key, due) in flows {
                let (lane, flow) = (lane.clone(), Flow::of_key(key));
                waiting.extend(due.first().map(|(due, _)| (Place { lane, flow }, *due)));
            }
        }
        waiting
    }

    fn due_in(&self, place: &Place, max: usize, at: Timestamp) -> Vec<MessageId> {
        let flows = self.due.get(&place.lane);
        let due = flows.and_then(|flows| flows.get(&place.flow.key()));
        let due = due.into_iter().flatten().take_while(|(due, _)| *due <= at);
        due.take(max).map(|(_, id)| *id).collect()
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

impl Intake for Memory {
    fn next_id(&self, now: Timestamp) -> MessageId {
        self.ids.next(now, 0)
    }

    fn writer(&self, id: MessageId) -> ContentWriter {
        ContentWriter::new(Arc::new(Folder::new("/nowhere".into())), id)
    }

    fn has_room(&self) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(true))
    }

    fn refused(&self, _: Story) {}

    fn put(&self, messages: Vec<NewMessage>) -> SpoolFuture<'_, ()> {
        let mut inner = self.inner();
        messages.iter().for_each(|new| inner.put(new));
        drop(inner);
        self.changed.notify_one();
        now(Ok(()))
    }
}

impl Contents for Memory {
    fn content(&self, id: MessageId) -> SpoolFuture<'_, Content> {
        let inner = self.inner();
        let found = inner.messages.get(&id);
        let content = found.map(|(_, content)| Content::Memory(content.clone()));
        now(content.ok_or(SpoolError::Missing(id)))
    }
}

impl Work for Memory {
    fn waiting(&self) -> SpoolFuture<'_, Vec<(Place, Timestamp)>> {
        now(Ok(self.inner().waiting()))
    }

    fn claim(
        &self,
        which: ClaimFrom,
        max: usize,
        at: Timestamp,
        until: Timestamp,
    ) -> SpoolFuture<'_, Vec<Claimed>> {
        let mut inner = self.inner();
        let ids = match which {
            ClaimFrom::Fresh => Vec::new(),
            ClaimFrom::DueIn(place) => inner.due_in(&place, max, at),
            ClaimFrom::Named(mut ids) => {
                ids.retain(|id| inner.is_free(*id));
                ids
            }
        };
        let claimed = ids.into_iter().filter_map(|id| inner.claim(id, until));
        now(Ok(claimed.collect()))
    }

    fn lines(&self, digest: MessageId) -> SpoolFuture<'_, Vec<(u64, String)>> {
        now(Ok(self.inner().lines_of(digest)))
    }

    fn sending(
        &self,
        claim: Claim,
        _: Option<Spending>,
        _: Timestamp,
    ) -> SpoolFuture<'_, Permission> {
        let is_ours = self.inner().claims.get(&claim.id) == Some(&claim.number);
        now(Ok(if is_ours {
            Permission::Granted
        } else {
            Permission::Lost
        }))
    }

    fn renew(&self, _: Vec<Claim>, _: Timestamp) -> SpoolFuture<'_, Vec<Claim>> {
        now(Ok(Vec::new()))
    }

    fn finish(&self, batch: Arc<[Finish]>) -> SpoolFuture<'_, Vec<Claim>> {
        let mut inner = self.inner();
        batch.iter().for_each(|finish| inner.finish(finish));
        drop(inner);
        if batch.iter().any(Finish::makes_due) {
            self.changed.notify_one();
        }
        now(Ok(Vec::new()))
    }

    fn release(&self, claims: Vec<(Claim, Place)>) {
        let mut inner = self.inner();
        for (claim, _) in claims {
            inner.claims.remove(&claim.id);
            inner.offer(claim.id);
        }
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
        let inner = self.inner();
        let after = after.map_or(Unbounded, Excluded);
        let ids = inner
            .order
            .range((after, Excluded(MessageId::first_at(before))));
        let records = ids.filter(|id| inner.is_free(**id));
        let records = records.filter_map(|id| Some(inner.messages.get(id)?.0.clone()));
        now(Ok(records.take(limit).collect()))
    }

    fn reroute(&self, _: Vec<String>, _: Vec<(String, String)>) -> SpoolFuture<'_, ()> {
        now(Ok(()))
    }

    fn resume_time<'a>(&'a self, clock: &'a Clock) -> SpoolFuture<'a, ()> {
        Box::pin(time::resume(self, clock))
    }

    fn note_time<'a>(&'a self, clock: &'a Clock) -> SpoolFuture<'a, ()> {
        Box::pin(time::note(self, clock))
    }

    fn secrets(&self) -> Option<Arc<dyn SharedSecrets>> {
        None
    }

    fn leads(&self) -> bool {
        true
    }

    fn leave(&self) -> SpoolFuture<'_, ()> {
        now(Ok(()))
    }

    fn purge(&self, _: Timestamp) -> SpoolFuture<'_, bool> {
        now(Ok(false))
    }
}

impl Ledger for Memory {
    fn used(&self, since: Timestamp) -> SpoolFuture<'_, Vec<Used>> {
        let inner = self.inner();
        let used = inner.used.iter().filter(|used| used.at >= since);
        now(Ok(used.cloned().collect()))
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn reserve(&self, _: MessageId, _: Spending, _: Timestamp) -> SpoolFuture<'_, Permission> {
        now(Ok(Permission::Granted))
    }

    fn exhaust(&self, _: &str, _: usize, _: Timestamp) {}

    fn lease_session(&self, _: &str, _: usize) -> SpoolFuture<'_, SessionLease> {
        now(Ok(SessionLease::Granted))
    }

    fn keep_sessions(&self, _: &str, _: usize) -> SpoolFuture<'_, ()> {
        now(Ok(()))
    }

    fn sessions_epoch(&self) -> i64 {
        0
    }

    fn add_story(&self, _: Story, _: Option<Used>) -> SpoolFuture<'_, ()> {
        now(Ok(()))
    }

    fn extend_story(&self, _: Addition) -> SpoolFuture<'_, bool> {
        now(Ok(false))
    }
}

impl Stories for Memory {
    fn story(&self, id: MessageId) -> SpoolFuture<'_, Story> {
        now(Err(SpoolError::Unknown(id)))
    }

    fn stories(&self, _: StoryFilter, _: usize) -> SpoolFuture<'_, Vec<Story>> {
        now(Ok(Vec::new()))
    }
}

impl Notes for Memory {
    fn note(&self, name: &str, value: Option<String>) -> SpoolFuture<'_, ()> {
        let mut inner = self.inner();
        match value {
            Some(value) => inner.notes.insert(name.to_owned(), value),
            None => inner.notes.remove(name),
        };
        now(Ok(()))
    }

    fn notes(&self, prefix: &str) -> SpoolFuture<'_, Vec<(String, String)>> {
        let inner = self.inner();
        let notes = inner.notes.iter();
        let notes = notes.filter(|(name, _)| name.starts_with(prefix));
        let notes = notes.map(|(name, value)| (name.clone(), value.clone()));
        now(Ok(notes.collect()))
    }
}
