//! The one thread that touches the database: takes what has come together, commits it as one.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::store::Store;
use super::{Settings, Shared};
use crate::base::{MessageId, Timestamp};
use crate::spool::{
    Content, Entry, Fate, Finish, Lease, Leased, New, Page, Record, Selection, SpoolError, State,
};

/// Jobs in one transaction at the most, so that the first does not wait for ever.
const GROUP: usize = 512;

/// Messages that an operator's `--all` touches in one transaction.
const OPERATOR_PAGE: usize = 1_000;

type Answer<T> = oneshot::Sender<Result<T, SpoolError>>;

pub(super) enum Job {
    Put(Vec<New>, Answer<()>),
    Finish(Arc<[Finish]>, Answer<()>),
    Claim {
        lane: String,
        max: usize,
        now: Timestamp,
        until: Timestamp,
        answer: Answer<Vec<Leased>>,
    },
    Content(MessageId, Answer<Content>),
    Reroute(Vec<String>, Answer<()>),
    List(Page, Answer<Vec<Entry>>),
    Get(MessageId, Answer<Entry>),
    Retry(Selection, Timestamp, Answer<usize>),
    Delete(Selection, Answer<usize>),
}

/// What a write leaves to be done once it is committed.
#[derive(Default)]
struct Effect {
    /// Content files of messages that are gone.
    files: Vec<PathBuf>,
    /// Lanes in which a message is due, and when.
    due: Vec<(String, Timestamp)>,
    /// Messages that were touched.
    count: usize,
}

struct Writer {
    store: Store,
    settings: Settings,
    shared: Arc<Shared>,
}

pub(super) fn spawn(
    store: Store,
    settings: Settings,
    shared: Arc<Shared>,
    mut jobs: mpsc::Receiver<Job>,
) -> Result<JoinHandle<()>, SpoolError> {
    let folder = settings.folder.clone();
    let writer = Writer {
        store,
        settings,
        shared,
    };
    let run = move || {
        let mut group = Vec::with_capacity(GROUP);
        while let Some(job) = jobs.blocking_recv() {
            group.push(job);
            while group.len() < GROUP
                && let Ok(job) = jobs.try_recv()
            {
                group.push(job);
            }
            writer.group(&mut group);
        }
    };
    let builder = std::thread::Builder::new().name("spool".into());
    builder
        .spawn(run)
        .map_err(|error| SpoolError::io(&folder, error))
}

impl Writer {
    /// Answers what only reads, and writes the rest in one transaction.
    fn group(&self, jobs: &mut Vec<Job>) {
        let mut writes = Vec::with_capacity(jobs.len());
        let has_room = self.shared.space.has_room() || self.makes_room();
        for job in jobs.drain(..) {
            match job {
                Job::Claim {
                    lane,
                    max,
                    now,
                    until,
                    answer,
                } => {
                    let _ = answer.send(self.claim(&lane, max, now, until));
                }
                Job::Content(id, answer) => drop(answer.send(self.store.content(id))),
                Job::List(page, answer) => {
                    let records = self.store.list(&page);
                    let entries = |records: Vec<_>| records.into_iter().map(|r| self.entry(r));
                    drop(answer.send(records.map(|records| entries(records).collect())));
                }
                Job::Get(id, answer) => {
                    drop(answer.send(self.store.get(id).map(|record| self.entry(record))));
                }
                Job::Put(_, answer) if !has_room => drop(answer.send(Err(self.full()))),
                write => writes.push(write),
            }
        }
        if !writes.is_empty() {
            self.write_all(writes);
            self.shared.changed.notify_one();
        }
    }

    /// One transaction for all; where that fails, one for each, so that none harms the others.
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

    /// Before new mail is refused, the WAL is emptied: it may be what fills the disk.
    fn makes_room(&self) -> bool {
        self.store.compact();
        self.shared.space.look()
    }

    /// Writes and commits; where the disk is full, once more with the WAL emptied.
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
                messages
                    .iter()
                    .try_for_each(|new| self.store.insert(&new.record, &new.content))?;
            }
            Job::Finish(batch, _) => {
                batch
                    .iter()
                    .try_for_each(|finish| self.finish(finish, &mut effect))?;
            }
            Job::Reroute(lanes, _) => {
                for (lane, due) in self.store.earliest_due()? {
                    if !lane.is_empty() && !lanes.contains(&lane) {
                        self.store.empty_lane(&lane)?;
                        effect.due.push((String::new(), due));
                    }
                }
            }
            Job::Retry(which, now, _) => self.for_each(which, |id| {
                let mut record = self.store.get(id)?;
                self.store.make_due(&mut record, *now)?;
                effect.due.push((record.lane, *now));
                effect.count += 1;
                Ok(())
            })?,
            Job::Delete(which, _) => self.for_each(which, |id| {
                self.store.get(id)?;
                effect.files.extend(self.store.remove(id)?);
                effect.count += 1;
                Ok(())
            })?,
            Job::Claim { .. } | Job::Content(..) | Job::List(..) | Job::Get(..) => {}
        }
        Ok(effect)
    }

    fn finish(&self, finish: &Finish, effect: &mut Effect) -> Result<(), SpoolError> {
        match &finish.fate {
            Fate::Gone => effect.files.extend(self.store.remove(finish.id)?),
            Fate::Later(record) => {
                self.store.update(&Record {
                    state: State::Queued,
                    ..Record::clone(record)
                })?;
                effect.due.push((record.lane.clone(), record.due));
            }
            Fate::Held(record) => {
                self.store.update(&Record {
                    state: State::Held,
                    ..Record::clone(record)
                })?;
            }
        }
        match &finish.report {
            Some(report) => self.store.insert(&report.record, &report.content),
            None => Ok(()),
        }
    }

    /// The messages that are meant and not leased: those are under way, and their attempt decides.
    fn for_each(
        &self,
        which: &Selection,
        mut act: impl FnMut(MessageId) -> Result<(), SpoolError>,
    ) -> Result<(), SpoolError> {
        let is_free = |id: &MessageId| !self.shared.queue().leases.contains_key(id);
        if let Selection::Ids(ids) = which {
            return ids.iter().copied().filter(is_free).try_for_each(act);
        }
        let mut page = Page {
            after: None,
            limit: OPERATOR_PAGE,
        };
        loop {
            let records = self.store.list(&page)?;
            let Some(last) = records.last() else {
                return Ok(());
            };
            page.after = Some(last.id);
            records
                .iter()
                .map(|record| record.id)
                .filter(is_free)
                .try_for_each(&mut act)?;
        }
    }

    /// Makes a committed write known, then answers it; an answer that nobody waits for is no loss.
    fn settle(&self, job: Job, written: Result<Effect, SpoolError>) {
        let effect = match written {
            Ok(effect) => effect,
            Err(error) => return refuse(job, error),
        };
        for file in &effect.files {
            // One that stays behind has no row, and is swept at the next opening.
            let _ = std::fs::remove_file(file);
        }
        let mut queue = self.shared.queue();
        for (lane, due) in &effect.due {
            queue.due_at(lane, *due);
        }
        match job {
            Job::Put(messages, answer) => {
                for new in messages {
                    queue.offer(keep(new), &self.shared.owner);
                }
                let _ = answer.send(Ok(()));
            }
            Job::Finish(batch, answer) => {
                for finish in batch.iter() {
                    queue.leases.remove(&finish.id);
                    if let Some(report) = &finish.report {
                        queue.offer(keep(report.clone()), &self.shared.owner);
                    }
                }
                let _ = answer.send(Ok(()));
            }
            Job::Reroute(_, answer) => drop(answer.send(Ok(()))),
            Job::Retry(_, _, answer) | Job::Delete(_, answer) => {
                drop(answer.send(Ok(effect.count)))
            }
            Job::Claim { .. } | Job::Content(..) | Job::List(..) | Job::Get(..) => {}
        }
    }

    /// A message with who has it.
    fn entry(&self, record: Record) -> Entry {
        let until = self.shared.queue().leases.get(&record.id).copied();
        let lease = until.map(|until| Lease {
            owner: self.shared.owner.clone(),
            until,
        });
        Entry { record, lease }
    }

    /// Leases what is due, and remembers when the first of the rest will be.
    fn claim(
        &self,
        lane: &str,
        max: usize,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<Leased>, SpoolError> {
        let mut queue = self.shared.queue();
        let mut messages = Vec::new();
        let next = self.store.each_queued(lane, |id, due, record| {
            if queue.leases.get(&id).is_some_and(|&lease| lease > now) {
                return Ok(None);
            }
            if due > now || messages.len() >= max {
                return Ok(Some(due));
            }
            let record = record()?;
            queue.leases.insert(id, until);
            messages.push(Leased {
                record,
                content: None,
                lease: Lease {
                    owner: self.shared.owner.clone(),
                    until,
                },
            });
            Ok(None)
        })?;
        match next {
            Some(due) => queue.due.insert(lane.to_owned(), due),
            None => queue.due.remove(lane),
        };
        Ok(messages)
    }
}

/// The spool has the row now, so a file stays.
fn keep(new: New) -> New {
    if let Content::File(file) = &new.content {
        file.keep();
    }
    new
}

fn refuse(job: Job, error: SpoolError) {
    match job {
        Job::Put(_, answer) | Job::Finish(_, answer) | Job::Reroute(_, answer) => {
            let _ = answer.send(Err(error));
        }
        Job::Retry(_, _, answer) | Job::Delete(_, answer) => drop(answer.send(Err(error))),
        Job::Claim { .. } | Job::Content(..) | Job::List(..) | Job::Get(..) => {}
    }
}
