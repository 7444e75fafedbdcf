//! What the spool in memory knows, and how each call changes it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use mailferry::base::{MessageId, Timestamp};
use mailferry::spool::{
    Addition, Claim, Claimed, Content, Count, DatabaseFault, DigestLines, Entry, Fate, Finish,
    Flow, Lease, NewMessage, OperatorAction, Origin, Owner, Place, QueueFilter, Record, SpoolError,
    State, Story, StoryEvent, StoryFilter, Used,
};

/// The time for which a message is claimed that is offered fresh.
const FRESH_CLAIM: Duration = Duration::from_secs(900);

/// The length of a slice (milliseconds). A mailbox's messages within a slice are counted together.
const SLICE: i64 = 300_000;

/// The time (milliseconds) for which a slice is kept, from its beginning.
const USED_FOR: i64 = 24 * 3_600_000 + 600_000;

pub(super) struct Queue {
    /// The time for which stories are kept.
    pub(super) history: Duration,
    /// The messages in the order of their ids, which is the order of arrival.
    pub(super) messages: BTreeMap<MessageId, Message>,
    /// Messages that are queued and not claimed, by lane and flow, in the order in which they are due.
    pub(super) due: BTreeMap<String, BTreeMap<String, BTreeSet<(Timestamp, MessageId)>>>,
    pub(super) claims: HashMap<MessageId, Claiming>,
    /// Messages that were just accepted, and are claimed for whoever asks first.
    pub(super) fresh: VecDeque<Claimed>,
    /// The lines of digests, by digest and number.
    pub(super) lines: BTreeMap<(MessageId, u64), String>,
    pub(super) stories: BTreeMap<MessageId, Told>,
    /// What mailboxes used, by the beginning of the slice and mailbox.
    pub(super) used: BTreeMap<(Timestamp, String), Used>,
    pub(super) notes: BTreeMap<String, String>,
    last: u64,
}

pub(super) struct Message {
    pub(super) record: Record,
    pub(super) content: Content,
}

/// Somebody's claim on a message.
pub(super) struct Claiming {
    pub(super) number: u64,
    until: Timestamp,
    pub(super) is_sending: bool,
}

/// The stored story of a message.
#[derive(Default)]
pub(super) struct Told {
    pub(super) events: Vec<StoryEvent>,
    /// The last record, and when the message left the queue.
    ended: Option<(Record, Timestamp)>,
}

impl Queue {
    pub(super) fn new(history: Duration) -> Self {
        Self {
            history,
            messages: BTreeMap::new(),
            due: BTreeMap::new(),
            claims: HashMap::new(),
            fresh: VecDeque::new(),
            lines: BTreeMap::new(),
            stories: BTreeMap::new(),
            used: BTreeMap::new(),
            notes: BTreeMap::new(),
            last: 0,
        }
    }

    fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Accepts all messages or none.
    pub(super) fn put(&mut self, messages: &[NewMessage]) -> Result<(), SpoolError> {
        let is_taken = |new: &NewMessage| self.messages.contains_key(&new.record.id);
        if let Some(new) = messages.iter().find(|new| is_taken(new)) {
            return Err(SpoolError::Database {
                fault: DatabaseFault::Other,
                text: format!("there is a message {}", new.record.id),
            });
        }
        messages.iter().for_each(|new| self.insert(new));
        Ok(())
    }

    /// Adds a message. If it is due, it is claimed and offered fresh.
    fn insert(&mut self, NewMessage { record, content }: &NewMessage) {
        let (record, content) = (record.clone(), content.clone());
        let (id, is_due) = (record.id, record.due <= record.received);
        let until = record.due.after(FRESH_CLAIM);
        self.messages.insert(id, Message { record, content });
        if is_due {
            let claimed = self.claim(id, until);
            self.fresh.extend(claimed);
        } else {
            self.offer(id);
        }
    }

    /// Makes a message due if it is in the spool, queued and not claimed.
    pub(super) fn offer(&mut self, id: MessageId) {
        let Some(Message { record, .. }) = self.messages.get(&id) else {
            return;
        };
        if record.state == State::Queued && !self.claims.contains_key(&id) {
            let place = record.place();
            let flows = self.due.entry(place.lane).or_default();
            let due = flows.entry(place.flow.key()).or_default();
            due.insert((record.due, id));
        }
    }

    /// Makes a message no longer due.
    fn take(&mut self, id: MessageId) {
        if let Some(Message { record, .. }) = self.messages.get(&id) {
            let place = record.place();
            let flows = self.due.get_mut(&place.lane);
            let due = flows.and_then(|flows| flows.get_mut(&place.flow.key()));
            let _ = due.map(|due| due.remove(&(record.due, id)));
        }
    }

    /// Changes a record.
    fn change(&mut self, id: MessageId, change: impl FnOnce(&mut Record)) {
        self.take(id);
        if let Some(message) = self.messages.get_mut(&id) {
            change(&mut message.record);
        }
        self.offer(id);
    }

    pub(super) fn claim(&mut self, id: MessageId, until: Timestamp) -> Option<Claimed> {
        self.take(id);
        let number = self.next_number();
        let Message { record, content } = self.messages.get(&id)?;
        let claiming = Claiming {
            number,
            until,
            is_sending: false,
        };
        self.claims.insert(id, claiming);
        Some(Claimed {
            claim: Claim { id, number },
            until,
            record: record.clone(),
            content: Some(content.clone()),
            may_have_arrived: false,
        })
    }

    /// Takes at most `max` fresh messages.
    pub(super) fn take_fresh(&mut self, max: usize) -> Vec<Claimed> {
        let count = self.fresh.len().min(max);
        self.fresh.drain(..count).collect()
    }

    /// Ends the claims whose time has ended.
    pub(super) fn expire(&mut self, now: Timestamp) {
        let over = self.claims.iter().filter(|(_, its)| its.until <= now);
        let over: Vec<MessageId> = over.map(|(id, _)| *id).collect();
        for id in over {
            self.claims.remove(&id);
            self.fresh.retain(|claimed| claimed.claim.id != id);
            self.offer(id);
        }
    }

    pub(super) fn is_held_by(&self, claim: Claim) -> bool {
        let claiming = self.claims.get(&claim.id);
        claiming.is_some_and(|its| its.number == claim.number)
    }

    /// Extends a claim, unless it is lost.
    pub(super) fn renew(&mut self, claim: Claim, until: Timestamp) -> bool {
        let is_held = self.is_held_by(claim);
        if let Some(claiming) = self.claims.get_mut(&claim.id).filter(|_| is_held) {
            claiming.until = until;
        }
        is_held
    }

    /// Ends a claim without a decision.
    pub(super) fn release(&mut self, claim: Claim) {
        if self.is_held_by(claim) {
            self.claims.remove(&claim.id);
            self.offer(claim.id);
        }
    }

    /// Ends a claim. Returns false if it was lost.
    pub(super) fn finish(&mut self, finish: &Finish) -> bool {
        let id = finish.claim.id;
        let is_held = self.is_held_by(finish.claim);
        if let Some(used) = &finish.used {
            self.count(used);
        }
        self.add_events(id, &finish.events);
        if !is_held {
            return false;
        }
        self.claims.remove(&id);
        match &finish.fate {
            Fate::Gone(last) if self.has_more(last, finish.sent_lines) => self.offer(id),
            Fate::Gone(last) => {
                let ended = finish.events.last().map(|event| event.at);
                self.remove(last, ended);
            }
            Fate::Later(record) => self.change(id, |its| {
                *its = Record::clone(record);
                its.state = State::Queued;
            }),
            Fate::Held(record) => self.change(id, |its| {
                *its = Record::clone(record);
                its.state = State::Held;
            }),
        }
        self.add_reports(&finish.reports, &finish.lines);
        true
    }

    fn add_events(&mut self, id: MessageId, events: &[StoryEvent]) {
        if !self.history.is_zero() && !events.is_empty() {
            let told = self.stories.entry(id).or_default();
            told.events.extend_from_slice(events);
        }
    }

    /// If the message is a digest, removes the lines that were sent. Returns true if the digest has further lines.
    fn has_more(&mut self, last: &Record, sent: u64) -> bool {
        if last.origin != Origin::Digest {
            return false;
        }
        self.lines
            .retain(|(digest, line), _| *digest != last.id || *line > sent);
        !self.lines_of(last.id).is_empty()
    }

    /// Removes a message. Its story ends at `ended`, if it has one.
    fn remove(&mut self, last: &Record, ended: Option<Timestamp>) {
        self.take(last.id);
        self.messages.remove(&last.id);
        if let (Some(told), Some(at)) = (self.stories.get_mut(&last.id), ended) {
            told.ended = Some((last.clone(), at));
        }
    }

    fn add_reports(&mut self, reports: &[NewMessage], lines: &[DigestLines]) {
        reports.iter().for_each(|report| self.insert(report));
        for DigestLines { digest, lines } in lines {
            for line in lines {
                let number = self.next_number();
                self.lines.insert((digest.id, number), line.clone());
            }
            if !self.messages.contains_key(&digest.id) {
                self.insert(&NewMessage {
                    record: Record::clone(digest),
                    content: Content::Memory(Vec::new().into()),
                });
            }
        }
    }

    pub(super) fn lines_of(&self, digest: MessageId) -> Vec<(u64, String)> {
        let lines = self.lines.range((digest, 0)..=(digest, u64::MAX));
        lines
            .map(|((_, number), line)| (*number, line.clone()))
            .collect()
    }

    /// Returns the content of a message; of a digest, the lines that it has so far.
    pub(super) fn content(&self, id: MessageId) -> Result<Content, SpoolError> {
        let message = self.messages.get(&id).ok_or(SpoolError::Missing(id))?;
        if message.record.origin == Origin::Digest {
            let lines = self.lines_of(id).into_iter().map(|(_, line)| line);
            return Ok(Content::Memory(lines.collect::<String>().into()));
        }
        Ok(message.content.clone())
    }

    pub(super) fn count(&mut self, used: &Used) {
        let at = Timestamp(used.at.0 / SLICE * SLICE);
        let slice = self.used.entry((at, used.mailbox.clone()));
        let slice = slice.or_insert_with(|| Used {
            at,
            messages: 0,
            recipients: 0,
            ..used.clone()
        });
        slice.last = slice.last.max(used.last);
        slice.messages += used.messages;
        slice.recipients += used.recipients;
    }

    /// True if no message waits for its time, now or later.
    pub(super) fn is_nothing_due(&self) -> bool {
        let mut flows = self.due.values().flat_map(BTreeMap::values);
        flows.all(BTreeSet::is_empty)
    }

    pub(super) fn waiting(&self) -> Vec<(Place, Timestamp)> {
        let mut waiting = Vec::new();
        for (lane, flows) in &self.due {
            for (key, due) in flows {
                if let Some((due, _)) = due.first() {
                    let (lane, flow) = (lane.clone(), Flow::of_key(key));
                    waiting.push((Place { lane, flow }, *due));
                }
            }
        }
        waiting
    }

    pub(super) fn due_in(&self, place: &Place, max: usize, at: Timestamp) -> Vec<MessageId> {
        let flows = self.due.get(&place.lane);
        let due = flows.and_then(|flows| flows.get(&place.flow.key()));
        let due = due.into_iter().flatten().take_while(|(due, _)| *due <= at);
        due.take(max).map(|(_, id)| *id).collect()
    }

    /// True if the message is queued and not claimed.
    pub(super) fn is_free(&self, id: MessageId) -> bool {
        let message = self.messages.get(&id);
        message.is_some_and(|its| its.record.state == State::Queued)
            && !self.claims.contains_key(&id)
    }

    pub(super) fn entry(&self, id: MessageId) -> Result<Entry, SpoolError> {
        let message = self.messages.get(&id).ok_or(SpoolError::Missing(id))?;
        let claiming = self.claims.get(&id).filter(|its| its.is_sending);
        Ok(Entry {
            record: message.record.clone(),
            lease: claiming.map(|its| Lease {
                owner: Owner::new("relay", 1, 1),
                until: its.until,
            }),
        })
    }

    /// Returns the messages that a filter admits, oldest first.
    pub(super) fn admitted(&self, filter: &QueueFilter) -> Vec<Entry> {
        let entries = self.messages.keys().filter_map(|id| self.entry(*id).ok());
        entries.filter(|entry| filter.admits(entry)).collect()
    }

    /// Applies an operator's action to a message. Returns true if that changed the message.
    pub(super) fn act(
        &mut self,
        id: MessageId,
        deed: &OperatorAction,
        now: Timestamp,
        named: bool,
    ) -> Result<bool, SpoolError> {
        let record = self.entry(id)?.record;
        if self.claims.contains_key(&id) {
            return Ok(false);
        }
        let Some(acted) = deed.on(&record, now, named) else {
            return Ok(false);
        };
        let event = StoryEvent {
            at: now,
            what: acted.event,
        };
        self.add_events(id, &[event]);
        match acted.record {
            Some(new) => self.change(id, |its| *its = new),
            None => {
                self.has_more(&record, u64::MAX);
                self.remove(&record, Some(now));
            }
        }
        Ok(true)
    }

    pub(super) fn reroute(&mut self, lanes: &[String], held: &[(String, String)]) {
        let queued = self.messages.values().map(|message| &message.record);
        let queued = queued.filter(|record| record.state == State::Queued);
        let queued: Vec<(MessageId, String)> =
            queued.map(|its| (its.id, its.lane.clone())).collect();
        for (id, lane) in queued {
            if let Some((_, reason)) = held.iter().find(|(its, _)| *its == lane) {
                self.change(id, |record| {
                    record.state = State::Held;
                    record.last = Some(reason.clone());
                });
            } else if !lane.is_empty() && !lanes.contains(&lane) {
                self.change(id, |record| {
                    record.lane = String::new();
                    record.former_lane = Some(lane);
                });
            }
        }
    }

    /// Returns the number of messages by server and state.
    pub(super) fn counts(&self) -> Vec<Count> {
        let mut counts: BTreeMap<&str, Count> = BTreeMap::new();
        for Message { record, .. } in self.messages.values() {
            let count = counts.entry(&record.lane).or_insert_with(|| Count {
                server: record.lane.clone(),
                queued: 0,
                held: 0,
            });
            match record.state {
                State::Queued => count.queued += 1,
                State::Held => count.held += 1,
            }
        }
        counts.into_values().collect()
    }

    /// Returns the story of a message that is in the queue, or whose story is kept.
    pub(super) fn story(&self, id: MessageId) -> Option<Story> {
        let told = self.stories.get(&id);
        let events = told.map(|told| told.events.clone()).unwrap_or_default();
        if let Some(message) = self.messages.get(&id) {
            return Some(Story {
                record: message.record.clone(),
                ended: None,
                events,
            });
        }
        let (record, at) = told?.ended.clone()?;
        let ended = Some(at);
        Some(Story {
            record,
            ended,
            events,
        })
    }

    /// Returns the newest stories that a filter admits, newest first.
    pub(super) fn admitted_stories(&self, filter: &StoryFilter, limit: usize) -> Vec<Story> {
        let ids: BTreeSet<MessageId> = self
            .messages
            .keys()
            .chain(self.stories.keys())
            .copied()
            .collect();
        let ids = ids.into_iter().rev();
        let ids = ids.filter(|id| filter.below.is_none_or(|below| *id < below));
        let stories = ids.filter_map(|id| self.story(id));
        stories
            .filter(|story| filter.admits(story))
            .take(limit)
            .collect()
    }

    /// Stores the story of a message that was never in the queue.
    pub(super) fn tell(&mut self, story: Story) {
        if self.history.is_zero() {
            return;
        }
        let Story {
            record,
            ended,
            events,
        } = story;
        let ended = ended.map(|at| (record.clone(), at));
        self.stories.insert(record.id, Told { events, ended });
    }

    /// Adds to a story, and its reports to the queue. Returns false if the story is not kept.
    pub(super) fn extend(&mut self, addition: &Addition) -> bool {
        let Some(told) = self.stories.get_mut(&addition.id) else {
            return false;
        };
        told.events.extend_from_slice(&addition.events);
        self.add_reports(&addition.reports, &addition.lines);
        true
    }

    /// Removes the stories and the usage that are no longer kept.
    pub(super) fn purge(&mut self, now: Timestamp) {
        let before = now.before(self.history);
        let is_over = |told: &Told| told.ended.as_ref().is_some_and(|(_, at)| *at < before);
        self.stories.retain(|_, told| !is_over(told));
        self.used.retain(|(at, _), _| at.0 >= now.0 - USED_FOR);
    }
}
