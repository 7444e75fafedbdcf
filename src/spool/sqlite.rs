//! The spool of one machine: SQLite, and one thread that writes.
//!
//! All writes and most of delivery's reads go to the writer thread. It puts all writes that arrived during
//! the last commit into one transaction (WAL, synchronous=FULL: a commit is a sync). A lock on a file beside
//! the database makes this process the only owner, so claims are kept in memory and end with the process.
//! Operators' reads use separate read-only connections.

mod copy;
mod counts;
mod index;
mod queue;
mod reader;
mod rows;
mod schema;
mod space;
mod store;
mod wal;
mod writer;

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot};

use super::content::ContentWriter;
use super::folder::Folder;
use super::{
    Addition, Claim, ClaimFrom, Claimed, Content, Contents, Count, Entry, Finish, Intake, Ledger,
    Manage, NewMessage, Notes, OperatorAction, Owner, Page, Permission, Place, QueueFilter, Record,
    Selection, Spending, SpoolError, SpoolFuture, SpoolMeasures, SpoolSettings, Stories, Story,
    StoryFilter, Upkeep, Used, Work, lock, time,
};
use crate::base::id::MessageIds;
use crate::base::{BoxFuture, Clock, MessageId, Timestamp};
use crate::observe::maillog;
use crate::platform::files;
use index::Unindexed;
use queue::SharedQueue;
use reader::SpoolReader;
use space::Space;
use store::Store;
use writer::Job;

/// The number of jobs that may wait for the writer; further callers wait until there is room.
const JOBS: usize = 1_024;

/// The maximum number of messages that an operator's action changes in one transaction.
const OPERATOR_PAGE: usize = 1_000;

/// The maximum number of refused messages whose stories are kept, an hour: about 1 MB of history. An app that
/// sends the same wrong message over and over must not fill the disk.
const REFUSED: usize = 1_000;

/// An hour, in milliseconds.
const HOUR: i64 = 3_600_000;

/// The longest time for which measurements are reused. With a million waiting messages, measuring takes 0.1 s.
const MEASURED: Duration = Duration::from_secs(30);

/// The spool of one machine, in SQLite.
pub struct SqliteSpool {
    settings: SpoolSettings,
    jobs: Option<mpsc::Sender<Job>>,
    shared: Arc<SharedQueue>,
    ids: MessageIds,
    contents: Arc<Folder>,
    /// The present hour, and the number of messages that were refused in it.
    refused: Mutex<(i64, usize)>,
    /// The last measurements, and the time until which they are reused.
    measures: tokio::sync::Mutex<Option<(Instant, Arc<SpoolMeasures>)>>,
    writer: Option<JoinHandle<()>>,
    _lock: File,
}

impl SqliteSpool {
    /// True if a spool was ever opened in this folder.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(store::FILE).exists()
    }

    /// True if a process has the spool open.
    pub fn is_in_use(folder: &Path) -> bool {
        let lock = File::open(folder.join(lock::FILE));
        lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Opens the spool for `owner`, creates it if it is missing, and cleans up after a crash.
    pub fn open(settings: SpoolSettings, owner: Owner) -> Result<Self, SpoolError> {
        let content = settings.folder.join(store::CONTENTS);
        std::fs::create_dir_all(&content).map_err(|error| SpoolError::io(&content, error))?;
        restrict(&settings.folder)?;
        sync_new_folders(&content)?;
        let lock = lock::lock(&settings.folder)?;
        let shared = Arc::new(SharedQueue {
            owner,
            queue: Mutex::default(),
            changed: Notify::new(),
            space: Space::new(&settings),
            unindexed: Unindexed::default(),
        });
        save_damaged_log(&settings.folder)?;
        let is_new = is_empty(&settings.folder.join(store::FILE));
        let contents = Folder::new(content);
        if is_new && let count @ 1.. = contents.finished()?.len() {
            let file = settings.folder.join(store::FILE).display().to_string();
            return Err(SpoolError::Emptied { file, count });
        }
        let store = Store::open(&settings.folder)?;
        sweep(&settings.folder, &contents, &store)?;
        for (place, due) in store.earliest_due()? {
            shared.queue().due.announce(&place, due);
        }
        shared.queue().counts = store.counts()?;
        let (jobs, receiver) = mpsc::channel(JOBS);
        let writer = writer::spawn(store, settings.clone(), shared.clone(), receiver)?;
        Ok(Self {
            settings,
            jobs: Some(jobs),
            shared,
            ids: MessageIds::default(),
            contents: Arc::new(contents),
            refused: Mutex::default(),
            measures: tokio::sync::Mutex::default(),
            writer: Some(writer),
            _lock: lock,
        })
    }

    /// Sends a job to the writer and waits for its answer.
    fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, SpoolError>>) -> Job,
    ) -> SpoolFuture<'_, T> {
        let (answer, answered) = oneshot::channel();
        let job = job(answer);
        Box::pin(async move {
            let jobs = self.jobs.as_ref().ok_or(SpoolError::Closed)?;
            jobs.send(job).await.map_err(|_| SpoolError::Closed)?;
            answered.await.map_err(|_| SpoolError::Closed)?
        })
    }

    /// Runs `look` with a separate read-only connection, on a thread for blocking calls.
    fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(SpoolReader) -> Result<T, SpoolError> + Send + 'static,
    ) -> SpoolFuture<'_, T> {
        let folder = self.settings.folder.clone();
        Box::pin(async move {
            let looked = tokio::task::spawn_blocking(move || look(SpoolReader::open(&folder)?));
            looked.await.map_err(|_| SpoolError::Closed)?
        })
    }

    /// Returns at most `limit` messages that a filter admits, oldest first, each converted by `made`.
    fn listed<T: Send + 'static>(
        &self,
        after: Option<MessageId>,
        limit: usize,
        filter: QueueFilter,
        made: impl Fn(Entry) -> T + Send + 'static,
    ) -> SpoolFuture<'_, Vec<T>> {
        let shared = self.shared.clone();
        self.read(move |reader| {
            let admitted = |record| {
                let entry = shared.entry(record);
                filter.admits(&entry).then(|| made(entry))
            };
            reader.list(after, limit, admitted)
        })
    }

    async fn act_on(
        &self,
        ids: Vec<MessageId>,
        deed: OperatorAction,
        now: Timestamp,
        named: bool,
    ) -> Result<usize, SpoolError> {
        let job = |answer| Job::Act {
            ids,
            deed,
            now,
            named,
            answer,
        };
        self.ask(job).await
    }
}

impl Intake for SqliteSpool {
    fn next_id(&self, now: Timestamp) -> MessageId {
        self.ids.next(now, rand::random())
    }

    fn writer(&self, id: MessageId) -> ContentWriter {
        ContentWriter::new(self.contents.clone(), id)
    }

    fn has_room(&self) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(self.shared.space.has_room()))
    }

    fn refused(&self, story: Story) {
        let hour = story.record.received.0 / HOUR;
        let mut told = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if told.0 != hour {
            *told = (hour, 0);
        }
        told.1 += 1;
        if told.1 <= REFUSED
            && let Some(jobs) = &self.jobs
        {
            // Nobody waits for the answer. A spool that is too busy to take the job keeps no story.
            let (answer, _) = oneshot::channel();
            let _ = jobs.try_send(Job::Tell(Box::new(story), None, answer));
        }
    }

    fn put(&self, messages: Vec<NewMessage>) -> SpoolFuture<'_, ()> {
        self.ask(|answer| Job::Put(messages, answer))
    }
}

impl Contents for SqliteSpool {
    fn content(&self, id: MessageId) -> SpoolFuture<'_, Content> {
        self.ask(move |answer| Job::Content(id, answer))
    }
}

impl Work for SqliteSpool {
    fn waiting(&self) -> SpoolFuture<'_, Vec<(Place, Timestamp)>> {
        let waiting = self.shared.queue().due.all();
        Box::pin(std::future::ready(Ok(waiting)))
    }

    fn claim(
        &self,
        which: ClaimFrom,
        max: usize,
        now: Timestamp,
        until: Timestamp,
    ) -> SpoolFuture<'_, Vec<Claimed>> {
        if which == ClaimFrom::Fresh {
            let fresh = self.shared.queue().fresh.take(max);
            return Box::pin(std::future::ready(Ok(fresh)));
        }
        self.ask(move |answer| Job::Claim {
            which,
            max,
            now,
            until,
            answer,
        })
    }

    fn lines(&self, digest: MessageId) -> SpoolFuture<'_, Vec<(u64, String)>> {
        self.ask(move |answer| Job::Lines(digest, answer))
    }

    fn sending(
        &self,
        claim: Claim,
        _: Option<Spending>,
        _: Timestamp,
    ) -> SpoolFuture<'_, Permission> {
        let mut queue = self.shared.queue();
        let permission = match queue.outstanding(claim) {
            Some(out) => {
                out.is_sending = true;
                Permission::Granted
            }
            None => Permission::Lost,
        };
        drop(queue);
        Box::pin(std::future::ready(Ok(permission)))
    }

    fn renew(&self, claims: Vec<Claim>, until: Timestamp) -> SpoolFuture<'_, Vec<Claim>> {
        let mut queue = self.shared.queue();
        let mut lost = claims;
        lost.retain(|claim| match queue.outstanding(*claim) {
            Some(out) => {
                out.until = until;
                false
            }
            None => true,
        });
        drop(queue);
        Box::pin(std::future::ready(Ok(lost)))
    }

    fn finish(&self, batch: Arc<[Finish]>) -> SpoolFuture<'_, Vec<Claim>> {
        self.ask(|answer| Job::Finish(batch, answer))
    }

    fn release(&self, claims: Vec<(Claim, Place)>) {
        let mut queue = self.shared.queue();
        for (claim, place) in claims {
            queue.release(claim, &place);
        }
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.shared.changed.notified())
    }
}

impl Upkeep for SqliteSpool {
    fn late(
        &self,
        after: Option<MessageId>,
        before: Timestamp,
        limit: usize,
    ) -> SpoolFuture<'_, Vec<Record>> {
        self.read(move |reader| reader.queued(after, MessageId::first_at(before), limit))
    }

    fn reroute(&self, lanes: Vec<String>, held: Vec<(String, String)>) -> SpoolFuture<'_, ()> {
        self.ask(|answer| Job::Reroute {
            lanes,
            held,
            answer,
        })
    }

    fn resume_time<'a>(&'a self, clock: &'a Clock) -> SpoolFuture<'a, ()> {
        Box::pin(time::resume(self, clock))
    }

    fn note_time<'a>(&'a self, clock: &'a Clock) -> SpoolFuture<'a, ()> {
        Box::pin(time::note(self, clock))
    }

    fn purge(&self, now: Timestamp) -> SpoolFuture<'_, bool> {
        self.ask(move |answer| Job::Purge(now, answer))
    }
}

impl Ledger for SqliteSpool {
    fn used(&self, since: Timestamp) -> SpoolFuture<'_, Vec<Used>> {
        self.ask(move |answer| Job::Used(since, answer))
    }

    fn add_story(&self, story: Story, used: Option<Used>) -> SpoolFuture<'_, ()> {
        self.ask(|answer| Job::Tell(Box::new(story), used, answer))
    }

    fn extend_story(&self, addition: Addition) -> SpoolFuture<'_, bool> {
        self.ask(|answer| Job::Extend(addition, answer))
    }
}

impl Stories for SqliteSpool {
    fn story(&self, id: MessageId) -> SpoolFuture<'_, Story> {
        self.read(move |reader| reader.story(id))
    }

    fn stories(&self, filter: StoryFilter, limit: usize) -> SpoolFuture<'_, Vec<Story>> {
        let shared = self.shared.clone();
        self.read(move |reader| reader.stories(&filter, limit, &shared.unindexed))
    }
}

impl Notes for SqliteSpool {
    fn note(&self, name: &str, value: Option<String>) -> SpoolFuture<'_, ()> {
        let name = name.to_owned();
        self.ask(move |answer| Job::Note(name, value, answer))
    }

    fn notes(&self, prefix: &str) -> SpoolFuture<'_, Vec<(String, String)>> {
        let prefix = prefix.to_owned();
        self.ask(move |answer| Job::Notes(prefix, answer))
    }
}

impl Manage for SqliteSpool {
    fn list(&self, page: Page) -> SpoolFuture<'_, Vec<Entry>> {
        let Page {
            after,
            limit,
            filter,
        } = page;
        self.listed(after, limit, filter, |entry| entry)
    }

    fn get(&self, id: MessageId) -> SpoolFuture<'_, Entry> {
        let shared = self.shared.clone();
        self.read(move |reader| Ok(shared.entry(reader.get(id)?)))
    }

    fn act<'a>(
        &'a self,
        which: Selection,
        deed: OperatorAction,
        now: Timestamp,
        so_far: &'a (dyn Fn(usize) + Sync),
    ) -> SpoolFuture<'a, usize> {
        Box::pin(async move {
            let filter = match which {
                Selection::Ids(ids) => return self.act_on(ids, deed, now, true).await,
                Selection::Matching(filter) => filter,
            };
            let (mut count, mut after) = (0, None);
            loop {
                let page = Page {
                    after,
                    limit: OPERATOR_PAGE,
                    filter: filter.clone(),
                };
                let entries = self.list(page).await?;
                let ids: Vec<_> = entries.iter().map(|entry| entry.record.id).collect();
                let Some(last) = ids.last() else {
                    return Ok(count);
                };
                after = Some(*last);
                count += self.act_on(ids, deed.clone(), now, false).await?;
                so_far(count);
            }
        })
    }

    fn counts(&self) -> SpoolFuture<'_, Vec<Count>> {
        let counts = self.shared.queue().counts.all();
        Box::pin(std::future::ready(Ok(counts)))
    }

    fn takes_messages(&self) -> BoxFuture<'_, bool> {
        self.has_room()
    }

    fn measures(&self) -> SpoolFuture<'_, Arc<SpoolMeasures>> {
        let folder = self.settings.folder.clone();
        Box::pin(async move {
            let mut last = self.measures.lock().await;
            let counts = self.shared.queue().counts.all();
            if let Some((until, measures)) = &*last
                && Instant::now() < *until
                && measures.has_all(&counts)
            {
                return Ok(measures.clone());
            }
            let begun = Instant::now();
            let oldest = self.read(|reader| reader.oldest()).await?;
            let measured = tokio::task::spawn_blocking(move || SpoolMeasures {
                oldest,
                used: used(&folder),
                free: files::free_space(&folder).ok(),
            });
            let measures = Arc::new(measured.await.map_err(|_| SpoolError::Closed)?);
            // Measuring takes at most a hundredth of the time.
            let until = Instant::now() + (begun.elapsed() * 100).min(MEASURED);
            *last = Some((until, measures.clone()));
            Ok(measures)
        })
    }
}

impl Drop for SqliteSpool {
    /// Lets the writer finish its jobs before the lock is released.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// Syncs new folders. A new folder is on stable storage only once the folder above it is synced too. At most
/// three folders are new.
fn sync_new_folders(content: &Path) -> Result<(), SpoolError> {
    let above = content
        .ancestors()
        .take(4)
        .filter(|folder| !folder.as_os_str().is_empty());
    for folder in above {
        let synced = files::sync_folder(folder);
        synced.map_err(|error| SpoolError::io(folder, error))?;
    }
    Ok(())
}

/// Returns the octets of all files in the spool's folder. A file that disappears meanwhile is omitted.
fn used(folder: &Path) -> u64 {
    let folders = [folder.to_owned(), folder.join(store::CONTENTS)];
    let files = folders.iter().filter_map(|it| std::fs::read_dir(it).ok());
    let sizes = files
        .flatten()
        .flatten()
        .filter_map(|it| it.metadata().ok());
    sizes.filter(|it| it.is_file()).map(|it| it.len()).sum()
}

/// Makes the folder private, so that other users cannot read the messages.
fn restrict(folder: &Path) -> Result<(), SpoolError> {
    files::keep_folder_private(folder).map_err(|error| SpoolError::io(folder, error))
}

/// The folder for contents that have no row but may have had one.
const LOST: &str = "lost";

/// Copies a write-ahead log that the disk has damaged, before SQLite drops the part that it cannot read.
fn save_damaged_log(folder: &Path) -> Result<(), SpoolError> {
    let log = folder.join(format!("{}-wal", store::FILE));
    let io = |error| SpoolError::io(&log, error);
    let lost = wal::lost_commits(&log).map_err(io)?;
    if lost > 0 {
        let copy = log.with_added_extension(format!("damaged-{}", Timestamp::now().0));
        std::fs::copy(&log, &copy).map_err(io)?;
        maillog::spool_log_damaged(lost, &copy);
    }
    Ok(())
}

fn is_empty(file: &Path) -> bool {
    std::fs::metadata(file).map_or(true, |metadata| metadata.len() == 0)
}

/// Removes contents whose messages have left the queue. Moves aside contents that have neither a row nor a
/// story: they were arriving when the program crashed and were never accepted, or the disk has lost their
/// rows.
fn sweep(folder: &Path, contents: &Folder, store: &Store) -> Result<(), SpoolError> {
    let (mut count, lost) = (0, folder.join(LOST));
    for (id, path) in contents.finished()? {
        let io = |error| SpoolError::io(&path, error);
        if store.exists(id)? {
            continue;
        }
        if store.has_story(id)? {
            std::fs::remove_file(&path).map_err(io)?;
            continue;
        }
        std::fs::create_dir_all(&lost).map_err(io)?;
        let name = path.file_name().unwrap_or_default();
        std::fs::rename(&path, lost.join(name)).map_err(io)?;
        count += 1;
    }
    if count > 0 {
        maillog::contents_without_rows(count, &lost);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
