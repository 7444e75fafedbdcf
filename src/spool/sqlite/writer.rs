//! The only thread that writes to the database: it takes all waiting jobs and commits them together.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use super::counts::{CountedAs, QueueCounts};
use super::index::{self, Indexer};
use super::queue::{Queue, SharedQueue};
use super::store::{self, Store};
use crate::base::{MessageId, Timestamp};
use crate::observe::maillog;
use crate::routing::lane;
use crate::spool::SpoolSettings;
use crate::spool::tokens::tokens;
use crate::spool::{
    Acted, Addition, Claim, ClaimFrom, Claimed, Content, DigestLines, Fate, Finish, NewMessage,
    OperatorAction, Origin, Place, Record, SpoolError, State, Story, StoryEvent, Used,
};

/// The maximum number of jobs in one transaction, so that the first job does not wait forever.
const GROUP: usize = 512;

type WriterAnswer<T> = oneshot::Sender<Result<T, SpoolError>>;

pub(super) enum Job {
    Put(Vec<NewMessage>, WriterAnswer<()>),
    Finish(Arc<[Finish]>, WriterAnswer<Vec<Claim>>),
    Claim {
        which: ClaimFrom,
        max: usize,
        now: Timestamp,
        until: Timestamp,
        answer: WriterAnswer<Vec<Claimed>>,
    },
    Content(MessageId, WriterAnswer<Content>),
    Lines(MessageId, WriterAnswer<Vec<(u64, String)>>),
    Reroute {
        lanes: Vec<String>,
        held: Vec<(String, String)>,
        answer: WriterAnswer<()>,
    },
    Act {
        ids: Vec<MessageId>,
        deed: OperatorAction,
        now: Timestamp,
        /// True if the operator named the messages by their ids; a missing one is then an error.
        named: bool,
        answer: WriterAnswer<usize>,
    },
    Tell(Box<Story>, Option<Used>, WriterAnswer<()>),
    Extend(Addition, WriterAnswer<bool>),
    Used(Timestamp, WriterAnswer<Vec<Used>>),
    Purge(Timestamp, WriterAnswer<bool>),
    Note(String, Option<String>, WriterAnswer<()>),
    Notes(String, WriterAnswer<Vec<(String, String)>>),
    /// A part of a copy of the whole spool; nothing else uses the spool meanwhile.
    Copy(Box<dyn FnOnce(&Store) + Send>),
}

/// The work that remains after a write is committed, and the write's results.
#[derive(Default)]
struct Effect {
    /// Content files of messages that are gone.
    files: Vec<PathBuf>,
    /// Places in which the write queued a message, and the time at which the message is due.
    due: Vec<(Place, Timestamp)>,
    /// The server and state of each changed message, before the write and after it.
    moved: Vec<(Option<CountedAs>, Option<CountedAs>)>,
    /// All counts, if the messages were counted again.
    counts: Option<QueueCounts>,
    /// Digests that stay queued, because they got lines while they were being sent.
    kept: Vec<MessageId>,
    /// Claims that were lost to later claims.
    lost: Vec<Claim>,
    /// The number of messages that were changed.
    count: usize,
    /// True if there may be more to purge.
    more: bool,
    /// True if a story was found and extended.
    is_extended: bool,
    /// New messages, with their tokens for the index.
    new: Vec<(MessageId, String)>,
    /// Messages that are not to be found any more.
    forgotten: Vec<MessageId>,
}

struct SpoolWriter {
    store: Store,
    indexer: Indexer,
    settings: SpoolSettings,
    shared: Arc<SharedQueue>,
}

pub(super) fn spawn(
    store: Store,
    settings: SpoolSettings,
    shared: Arc<SharedQueue>,
    mut jobs: mpsc::Receiver<Job>,
) -> Result<JoinHandle<()>, SpoolError> {
    let folder = settings.folder.clone();
    let indexer = store.indexer()?;
    let mut writer = SpoolWriter {
        store,
        indexer,
        settings,
        shared,
    };
    let run = move || {
        let mut group = Vec::with_capacity(GROUP);
        while let Some(job) = writer.next(&mut jobs) {
            group.push(job);
            while group.len() < GROUP
                && let Ok(job) = jobs.try_recv()
            {
                group.push(job);
            }
            writer.group(&mut group);
        }
        writer.index_all();
    };
    let builder = std::thread::Builder::new().name("spool".into());
    builder
        .spawn(run)
        .map_err(|error| SpoolError::io(&folder, error))
}

impl SpoolWriter {
    /// Waits for the next job. Indexes messages while there is none.
    fn next(&mut self, jobs: &mut mpsc::Receiver<Job>) -> Option<Job> {
        while self.shared.unindexed.len() >= index::MOST && !self.indexer.is_paused() {
            self.index();
        }
        while self.indexer.has_group(&self.shared.unindexed) {
            match jobs.try_recv() {
                Ok(job) => return Some(job),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => self.index(),
            }
        }
        jobs.blocking_recv()
    }

    /// Adds a group of messages to the index. If that fails, for example because the disk is full, they stay
    /// in memory.
    fn index(&mut self) {
        let unindexed = &self.shared.unindexed;
        match self.transaction(|| self.store.index(&self.indexer, unindexed)) {
            Ok(group) => self.indexer.commit(&group, unindexed),
            Err(error) => {
                maillog::not_indexed(&error);
                self.indexer.pause(&self.shared.unindexed);
            }
        }
    }

    fn index_all(&mut self) {
        while self.shared.unindexed.len() > 0 && !self.indexer.is_paused() {
            self.index();
        }
    }

    /// Answers the jobs that only read, and writes the others in one transaction.
    fn group(&self, jobs: &mut Vec<Job>) {
        let mut writes = Vec::with_capacity(jobs.len());
        let has_room = self.shared.space.has_room() || self.makes_room();
        for job in jobs.drain(..) {
            match job {
                Job::Claim {
                    which,
                    max,
                    now,
                    until,
                    answer,
                } => drop(answer.send(self.claim(which, max, now, until))),
                Job::Content(id, answer) => drop(answer.send(self.store.content(id))),
                Job::Lines(id, answer) => drop(answer.send(self.store.lines(id))),
                Job::Used(since, answer) => drop(answer.send(self.store.used(since))),
                Job::Notes(prefix, answer) => drop(answer.send(self.store.notes(&prefix))),
                Job::Copy(work) => work(&self.store),
                Job::Put(_, answer) if !has_room => drop(answer.send(Err(self.full()))),
                write => writes.push(write),
            }
        }
        let makes_due = writes.iter().any(makes_due);
        if !writes.is_empty() {
            self.write_all(writes);
        }
        if makes_due {
            self.shared.changed.notify_one();
        }
    }

    /// Writes all jobs in one transaction. If that fails, each job gets a transaction of its own, so that one
    /// failing job does not fail the others.
    fn write_all(&self, jobs: Vec<Job>) {
        match self.transaction(|| {
            jobs.iter()
                .map(|job| self.write(job))
                .collect::<Result<Vec<_>, _>>()
        }) {
            Ok(effects) => {
                for (job, effect) in jobs.into_iter().zip(effects) {
                    self.settle(job, Ok(effect));
                }
            }
            Err(error) if jobs.len() == 1 => {
                jobs.into_iter()
                    .for_each(|job| self.settle(job, Err(error.clone())));
            }
            Err(_) => jobs.into_iter().for_each(|job| {
                let written = self.transaction(|| self.write(&job));
                self.settle(job, written);
            }),
        }
    }

    /// Empties the WAL before new mail is refused, because the WAL itself may have filled the disk. Returns
    /// true if there is room now.
    fn makes_room(&self) -> bool {
        self.store.compact();
        self.shared.space.look()
    }

    /// Writes and commits. If the disk is full, empties the WAL and tries once more.
    fn transaction<T>(&self, write: impl Fn() -> Result<T, SpoolError>) -> Result<T, SpoolError> {
        match self.try_transaction(&write) {
            Err(error) if error.is_full() => {
                self.store.compact();
                let again = self.try_transaction(&write);
                again.map_err(|error| if error.is_full() { self.full() } else { error })
            }
            written => written,
        }
    }

    fn try_transaction<T>(
        &self,
        write: &impl Fn() -> Result<T, SpoolError>,
    ) -> Result<T, SpoolError> {
        let written = self.store.begin().and_then(|()| {
            let value = write()?;
            self.store.commit()?;
            Ok(value)
        });
        if written.is_err() {
            self.store.rollback();
        }
        written
    }

    fn full(&self) -> SpoolError {
        let folder = self.settings.folder.display().to_string();
        SpoolError::Full {
            folder,
            reserve: self.settings.reserve,
        }
    }

    fn write(&self, job: &Job) -> Result<Effect, SpoolError> {
        let mut effect = Effect::default();
        match job {
            Job::Put(messages, _) => {
                for new in messages {
                    self.insert(&new.record, &new.content, &mut effect)?;
                }
            }
            Job::Finish(batch, _) => {
                batch
                    .iter()
                    .try_for_each(|finish| self.finish(finish, &mut effect))?;
            }
            Job::Reroute { lanes, held, .. } => {
                for (lane, reason) in held {
                    self.store.hold_lane(lane, reason)?;
                }
                for (place, due) in self.store.earliest_due()? {
                    let server = lane::server(&place.lane);
                    if !server.is_empty() && !lanes.iter().any(|name| name == server) {
                        self.store.empty_lane(&place.lane)?;
                        let lane = String::new();
                        effect.due.push((Place { lane, ..place }, due));
                    }
                }
                effect.counts = Some(self.store.counts()?);
            }
            Job::Act {
                ids,
                deed,
                now,
                named,
                ..
            } => {
                for id in ids {
                    match self.act(*id, deed, *now, *named, &mut effect) {
                        Err(SpoolError::Missing(_)) if !named => {}
                        done => done?,
                    }
                }
            }
            Job::Tell(story, used, _) => {
                used.iter().try_for_each(|used| self.store.count(used))?;
                if !self.settings.history.is_zero() {
                    self.store
                        .insert_story(&story.record, story.ended, &story.events)?;
                    effect.new.push((story.record.id, tokens(&story.record)));
                }
            }
            Job::Extend(addition, _) => self.extend(addition, &mut effect)?,
            Job::Purge(now, _) => {
                let before = now.before(self.settings.history);
                let purged = self.store.purge(before, *now)?;
                effect.more = purged.len() == store::PURGE;
                effect.forgotten.extend(purged);
            }
            Job::Note(name, value, _) => self.store.note(name, value.as_deref())?,
            Job::Claim { .. }
            | Job::Content(..)
            | Job::Lines(..)
            | Job::Used(..)
            | Job::Notes(..)
            | Job::Copy(_) => {}
        }
        Ok(effect)
    }

    fn insert(
        &self,
        record: &Record,
        content: &Content,
        effect: &mut Effect,
    ) -> Result<(), SpoolError> {
        effect.new.push((record.id, tokens(record)));
        self.store.insert(record, content)
    }

    /// Removes a message of this size (octets). Without a history, nobody can find it any more.
    fn remove(&self, id: MessageId, size: u64, effect: &mut Effect) -> Result<(), SpoolError> {
        if self.settings.history.is_zero() {
            self.store.unindex(id)?;
            effect.forgotten.push(id);
        }
        effect.files.extend(self.store.remove(id, size)?);
        Ok(())
    }

    fn finish(&self, finish: &Finish, effect: &mut Effect) -> Result<(), SpoolError> {
        let is_lost = self.shared.queue().has_lost(finish.claim);
        let stays = match &finish.fate {
            Fate::Gone(last) => is_lost || self.has_more(last, finish.sent_lines)?,
            Fate::Later(_) | Fate::Held(_) => true,
        };
        let ended = finish.events.last().map(|event| event.at);
        if !finish.events.is_empty() {
            self.add_story(finish.record(), ended.filter(|_| !stays), &finish.events)?;
        }
        if let Some(used) = &finish.used {
            self.store.count(used)?;
        }
        if is_lost {
            effect.lost.push(finish.claim);
            return Ok(());
        }
        match &finish.fate {
            // The digest got lines while it was being sent.
            Fate::Gone(last) if stays => {
                effect.due.push((last.place(), last.due));
                effect.kept.push(last.id);
            }
            Fate::Gone(last) => self.remove(last.id, last.size, &mut *effect)?,
            Fate::Later(record) => {
                let queued = Record {
                    state: State::Queued,
                    ..Record::clone(record)
                };
                self.store.update(&queued, &finish.events)?;
                effect.due.push((record.place(), record.due));
            }
            Fate::Held(record) => {
                let held = Record {
                    state: State::Held,
                    ..Record::clone(record)
                };
                self.store.update(&held, &finish.events)?;
            }
        }
        self.add_reports(&finish.reports, &finish.lines, effect)
    }

    fn extend(&self, addition: &Addition, effect: &mut Effect) -> Result<(), SpoolError> {
        if !self.store.extend_story(addition.id, &addition.events)? {
            return Ok(());
        }
        effect.is_extended = true;
        self.add_reports(&addition.reports, &addition.lines, effect)
    }

    fn add_reports(
        &self,
        reports: &[NewMessage],
        lines: &[DigestLines],
        effect: &mut Effect,
    ) -> Result<(), SpoolError> {
        for report in reports {
            self.insert(&report.record, &report.content, effect)?;
        }
        let mut lines = lines.iter();
        lines.try_for_each(|lines| self.add_lines(lines, effect))
    }

    /// If the message is a digest, removes the lines that were sent. Returns true if the digest has further
    /// lines.
    fn has_more(&self, last: &Record, sent: u64) -> Result<bool, SpoolError> {
        match last.origin {
            Origin::Digest => self.store.remove_lines(last.id, sent),
            _ => Ok(false),
        }
    }

    fn add_lines(
        &self,
        DigestLines { digest, lines }: &DigestLines,
        effect: &mut Effect,
    ) -> Result<(), SpoolError> {
        if !self.store.exists(digest.id)? {
            let nothing = Content::Memory(Bytes::new());
            self.insert(digest, &nothing, effect)?;
            effect.moved.push((None, counted(digest)));
            effect.due.push((digest.place(), digest.due));
        }
        self.store.add_lines(digest.id, lines)
    }

    fn add_story(
        &self,
        record: &Record,
        ended: Option<Timestamp>,
        events: &[StoryEvent],
    ) -> Result<(), SpoolError> {
        if self.settings.history.is_zero() {
            Ok(())
        } else {
            self.store.add_story(record, ended, events)
        }
    }

    /// Applies an operator's action to one message. Does nothing to a claimed message, because its attempt
    /// decides its fate.
    fn act(
        &self,
        id: MessageId,
        deed: &OperatorAction,
        now: Timestamp,
        named: bool,
        effect: &mut Effect,
    ) -> Result<(), SpoolError> {
        let record = match self.store.get(id) {
            // The only possible action on an unreadable row is to remove it.
            Err(error) if error.is_unreadable_row() => {
                if *deed == OperatorAction::Delete {
                    self.remove(id, u64::MAX, effect)?;
                    self.store.unindex(id)?;
                    effect.forgotten.push(id);
                    effect.counts = Some(self.store.counts()?);
                    effect.count += 1;
                }
                return Ok(());
            }
            read => read?,
        };
        if self.shared.queue().claims.contains_key(&id) {
            return Ok(());
        }
        let Some(Acted { record: new, event }) = deed.on(&record, now, named) else {
            return Ok(());
        };
        let ended = new.is_none().then_some(now);
        let event = StoryEvent {
            at: now,
            what: event,
        };
        self.add_story(new.as_ref().unwrap_or(&record), ended, &[event])?;
        match &new {
            Some(new) => {
                self.store.update(new, &[])?;
                if new.state == State::Queued {
                    effect.due.push((new.place(), new.due));
                }
            }
            None => {
                self.has_more(&record, u64::MAX)?;
                self.remove(id, record.size, effect)?;
            }
        }
        let after = new.as_ref().and_then(counted);
        effect.moved.push((counted(&record), after));
        effect.count += 1;
        Ok(())
    }

    /// Updates the shared state after a committed write, then answers the job. If the caller no longer waits
    /// for the answer, nothing is lost.
    fn settle(&self, job: Job, written: Result<Effect, SpoolError>) {
        let effect = match written {
            Ok(effect) => effect,
            Err(error) => return refuse(job, error),
        };
        for file in &effect.files {
            // If this fails, the file is removed or moved to `lost/` when the spool is next opened.
            let _ = std::fs::remove_file(file);
        }
        for (id, tokens) in effect.new {
            self.shared.unindexed.add(id, tokens);
        }
        for id in &effect.forgotten {
            self.shared.unindexed.remove(*id);
        }
        let mut queue = self.shared.queue();
        for (before, now) in &effect.moved {
            queue.counts.moved(before.as_ref(), now.as_ref());
        }
        if let Some(counts) = effect.counts {
            queue.counts = counts;
        }
        for (place, due) in &effect.due {
            queue.due.announce(place, *due);
            self.shared.changed.notify_one();
        }
        match job {
            Job::Put(messages, answer) => {
                messages
                    .into_iter()
                    .for_each(|new| enqueue(&mut queue, new));
                let _ = answer.send(Ok(()));
            }
            Job::Finish(batch, answer) => {
                for finish in batch.iter() {
                    let is_kept = effect.kept.contains(&finish.claim.id);
                    if queue.finish(finish, is_kept) {
                        finish
                            .reports
                            .iter()
                            .for_each(|it| enqueue(&mut queue, it.clone()));
                    }
                }
                drop(answer.send(Ok(effect.lost)));
            }
            Job::Extend(addition, answer) => {
                if effect.is_extended {
                    let reports = addition.reports.into_iter();
                    reports.for_each(|report| enqueue(&mut queue, report));
                }
                let _ = answer.send(Ok(effect.is_extended));
            }
            Job::Reroute {
                lanes,
                held,
                answer,
            } => {
                queue.reroute(&lanes, &held);
                drop(answer.send(Ok(())));
            }
            Job::Tell(_, _, answer) | Job::Note(_, _, answer) => {
                drop(answer.send(Ok(())));
            }
            Job::Act { answer, .. } => drop(answer.send(Ok(effect.count))),
            Job::Purge(_, answer) => drop(answer.send(Ok(effect.more))),
            Job::Claim { .. }
            | Job::Content(..)
            | Job::Lines(..)
            | Job::Used(..)
            | Job::Notes(..)
            | Job::Copy(_) => {}
        }
    }

    fn claim(
        &self,
        which: ClaimFrom,
        max: usize,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<Claimed>, SpoolError> {
        match which {
            ClaimFrom::Fresh => Ok(self.shared.queue().fresh.take(max)),
            ClaimFrom::DueIn(place) => self.claim_due(&place, max, now, until),
            ClaimFrom::Named(ids) => self.claim_named(&ids, now, until),
        }
    }

    /// Claims due messages of a place, and stores when the place's next message is due.
    fn claim_due(
        &self,
        place: &Place,
        max: usize,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<Claimed>, SpoolError> {
        let announced = self.shared.queue().due.announced();
        let mut ids = Vec::new();
        let next = self.store.each_queued(place, |id, due| {
            if self.shared.queue().is_claimed(id, now) {
                return ControlFlow::Continue(());
            }
            if due > now || ids.len() >= max {
                return ControlFlow::Break(());
            }
            ids.push(id);
            ControlFlow::Continue(())
        })?;
        let mut claimed = Vec::with_capacity(ids.len());
        for id in ids {
            match self.store.take(id) {
                Err(error) if error.is_unreadable_row() => self.set_aside(id, place, &error)?,
                taken => {
                    let (record, content) = taken?;
                    claimed.push(self.shared.queue().claim(record, content, until));
                }
            }
        }
        let mut queue = self.shared.queue();
        queue.due.record_next(place, next, announced);
        Ok(claimed)
    }

    /// Marks a message of this place as unreadable, so that it is no longer due.
    fn set_aside(
        &self,
        id: MessageId,
        place: &Place,
        error: &SpoolError,
    ) -> Result<(), SpoolError> {
        maillog::record_damaged(id, error);
        self.transaction(|| self.store.set_aside(id))?;
        let counted = |state| (place.lane.clone(), state);
        let (before, now) = (counted(State::Queued), counted(State::Held));
        let mut queue = self.shared.queue();
        queue.counts.moved(Some(&before), Some(&now));
        Ok(())
    }

    /// Claims those messages with these ids that are queued and not claimed.
    fn claim_named(
        &self,
        ids: &[MessageId],
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<Claimed>, SpoolError> {
        let mut queue = self.shared.queue();
        let mut messages = Vec::new();
        for id in ids {
            let record = match self.store.find(*id) {
                Err(error) if error.is_unreadable_row() => continue,
                found => found?,
            };
            if let Some(record) = record
                && record.state == State::Queued
                && !queue.is_claimed(*id, now)
            {
                messages.push(queue.claim(record, None, until));
            }
        }
        Ok(messages)
    }
}

fn counted(record: &Record) -> Option<CountedAs> {
    Some((record.lane.clone(), record.state))
}

/// True if a job may make a message due. A job that only ends messages makes none due.
fn makes_due(job: &Job) -> bool {
    match job {
        Job::Finish(batch, _) => batch.iter().any(Finish::makes_due),
        Job::Put(..) | Job::Extend(..) | Job::Reroute { .. } | Job::Act { .. } => true,
        _ => false,
    }
}

/// Takes a message whose row is committed into the queue.
fn enqueue(queue: &mut Queue, new: NewMessage) {
    queue.counts.came(&new.record.lane, new.record.state);
    queue.offer(keep(new));
}

/// Keeps the content's file, because the message's row is committed now.
fn keep(new: NewMessage) -> NewMessage {
    if let Content::Stored(stored) = &new.content {
        stored.keep();
    }
    new
}

fn refuse(job: Job, error: SpoolError) {
    match job {
        Job::Finish(_, answer) => drop(answer.send(Err(error))),
        Job::Put(_, answer)
        | Job::Reroute { answer, .. }
        | Job::Tell(_, _, answer)
        | Job::Note(_, _, answer) => drop(answer.send(Err(error))),
        Job::Act { answer, .. } => drop(answer.send(Err(error))),
        Job::Extend(_, answer) => drop(answer.send(Err(error))),
        Job::Purge(_, answer) => drop(answer.send(Err(error))),
        Job::Claim { .. }
        | Job::Content(..)
        | Job::Lines(..)
        | Job::Used(..)
        | Job::Notes(..)
        | Job::Copy(_) => {}
    }
}
