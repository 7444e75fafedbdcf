//! The spool of one machine: SQLite, and one thread that writes.
//!
//! All that is asked goes to the writer thread, which takes whatever has come together while the
//! last commit was under way into one transaction (WAL, synchronous=FULL: a commit is a sync).
//! A lock on a file beside the database makes this process the only owner, so leases are kept in
//! memory: they end with it. What operators ask for is read on connections of their own.

mod reader;
mod space;
mod store;
mod wal;
mod writer;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::{Notify, mpsc, oneshot};

use super::content::{self, ContentWriter};
use super::{
    Content, Deed, Entry, Finish, Flow, Lease, Leased, New, Owner, Page, Place, Record, Selection,
    Spool, SpoolError, Story, Used,
};
use crate::base::id::MessageIds;
use crate::base::lock::lock_within;
use crate::base::{BoxFuture, MessageId, Timestamp};
use crate::observe::maillog;
use reader::Reader;
use space::Space;
use store::Store;
use writer::Job;

/// Jobs that wait for the writer; more wait at the door.
const JOBS: usize = 1_024;

/// Content (octets) of fresh messages that is kept in memory for delivery; beyond it they are read
/// back when their turn comes.
const FRESH_BYTES: usize = 8 * 1024 * 1024;

/// Fresh messages kept for delivery, whatever their size. Apps that are faster than delivery fill any
/// number, and the others are read from the pages that the system has cached.
const FRESH_MESSAGES: usize = 128;

/// Messages that an operator touches in one transaction.
const OPERATOR_PAGE: usize = 1_000;

/// How long a fresh message is leased.
pub(super) const FRESH_LEASE: Duration = Duration::from_secs(900);

/// Where the spool is and how much it leaves free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The folder; made when missing.
    pub folder: PathBuf,
    /// Bytes of the disk that puts leave free, so that what is queued can still be finished.
    pub reserve: u64,
    /// How long the story of a message is kept when it has ended; zero for not at all.
    pub history: Duration,
}

/// See the module.
pub struct SqliteSpool {
    settings: Settings,
    jobs: Option<mpsc::Sender<Job>>,
    shared: Arc<Shared>,
    ids: MessageIds,
    writer: Option<JoinHandle<()>>,
    _lock: File,
}

/// What the writer and the callers share: which messages are out, and when others are due.
#[derive(Debug)]
struct Shared {
    owner: Owner,
    queue: Mutex<Queue>,
    changed: Notify,
    space: Space,
}

#[derive(Debug, Default)]
struct Queue {
    fresh: VecDeque<Leased>,
    fresh_bytes: usize,
    leases: HashMap<MessageId, Out>,
    due: HashMap<String, BTreeMap<Flow, Timestamp>>,
}

/// A message that is leased.
#[derive(Debug, Clone, Copy)]
struct Out {
    until: Timestamp,
    is_sending: bool,
    /// Whether there is more in it by now than was leased.
    has_grown: bool,
}

impl Out {
    fn until(until: Timestamp) -> Self {
        Self {
            until,
            is_sending: false,
            has_grown: false,
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Queue {
    fn due_at(&mut self, place: &Place, at: Timestamp) {
        let known = self
            .due
            .get_mut(&place.lane)
            .and_then(|flows| flows.get_mut(&place.flow));
        match known {
            Some(due) => *due = at.min(*due),
            None => self.due_is(place, Some(at)),
        }
    }

    fn due_is(&mut self, place: &Place, at: Option<Timestamp>) {
        let flows = self.due.entry(place.lane.clone()).or_default();
        match at {
            Some(at) => flows.insert(place.flow.clone(), at),
            None => flows.remove(&place.flow),
        };
        if flows.is_empty() {
            self.due.remove(&place.lane);
        }
    }

    fn shift(&mut self, by: SignedDuration) {
        for message in &mut self.fresh {
            message.record.shift(by);
            message.lease.until = message.lease.until.shifted(by);
        }
        for out in self.leases.values_mut() {
            out.until = out.until.shifted(by);
        }
        let dues = self.due.values_mut().flat_map(BTreeMap::values_mut);
        dues.for_each(|due| *due = due.shifted(by));
    }

    /// There is more in a message by now; whoever has it has not got that.
    fn grows(&mut self, id: MessageId) {
        if let Some(out) = self.leases.get_mut(&id) {
            out.has_grown = true;
        }
    }

    fn has_grown(&self, id: MessageId) -> bool {
        self.leases.get(&id).is_some_and(|out| out.has_grown)
    }

    /// A message was put: it goes to delivery at once while there is room for it.
    fn offer(&mut self, new: New, owner: &Owner) {
        let in_memory = match &new.content {
            Content::Memory(bytes) => bytes.len(),
            Content::File(_) => 0,
        };
        let fits = self.fresh.len() < FRESH_MESSAGES && self.fresh_bytes + in_memory <= FRESH_BYTES;
        let is_due = new.record.due <= new.record.received;
        if !fits || !is_due {
            return self.due_at(&new.record.place(), new.record.due);
        }
        self.fresh_bytes += in_memory;
        let until = new.record.due.after(FRESH_LEASE);
        self.leases.insert(new.record.id, Out::until(until));
        let owner = owner.clone();
        self.fresh.push_back(Leased {
            record: new.record,
            content: Some(new.content),
            lease: Lease { owner, until },
        });
    }
}

impl SqliteSpool {
    /// Whether a spool was ever opened in this folder.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(store::FILE).exists()
    }

    /// Whether a process has the spool open.
    pub fn is_in_use(folder: &Path) -> bool {
        let lock = File::open(folder.join(LOCK));
        lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Opens the spool for `owner`, makes it when missing, and recovers what a crash left.
    pub fn open(settings: Settings, owner: Owner) -> Result<Self, SpoolError> {
        let content = settings.folder.join("content");
        std::fs::create_dir_all(&content).map_err(|error| SpoolError::io(&content, error))?;
        restrict(&settings.folder)?;
        sync_new_folders(&content)?;
        let lock = lock(&settings.folder)?;
        let shared = Arc::new(Shared {
            owner,
            queue: Mutex::default(),
            changed: Notify::new(),
            space: Space::new(&settings),
        });
        look_at_log(&settings.folder)?;
        let is_new = is_empty(&settings.folder.join(store::FILE));
        if is_new && let count @ 1.. = finished(&content)?.len() {
            let file = settings.folder.join(store::FILE).display().to_string();
            return Err(SpoolError::Emptied { file, count });
        }
        let store = Store::open(&settings.folder)?;
        sweep(&settings.folder, &store)?;
        for (place, due) in store.earliest_due()? {
            shared.queue().due_at(&place, due);
        }
        let (jobs, receiver) = mpsc::channel(JOBS);
        let writer = writer::spawn(store, settings.clone(), shared.clone(), receiver)?;
        Ok(Self {
            settings,
            jobs: Some(jobs),
            shared,
            ids: MessageIds::default(),
            writer: Some(writer),
            _lock: lock,
        })
    }

    /// Hands the writer a job and waits for its answer.
    fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, SpoolError>>) -> Job,
    ) -> BoxFuture<'_, Result<T, SpoolError>> {
        let (answer, answered) = oneshot::channel();
        let job = job(answer);
        Box::pin(async move {
            let jobs = self.jobs.as_ref().ok_or(SpoolError::Closed)?;
            jobs.send(job).await.map_err(|_| SpoolError::Closed)?;
            answered.await.map_err(|_| SpoolError::Closed)?
        })
    }

    /// Reads on a connection of its own, off the runtime.
    fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(Reader) -> Result<T, SpoolError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, SpoolError>> {
        let folder = self.settings.folder.clone();
        Box::pin(async move {
            let looked = tokio::task::spawn_blocking(move || look(Reader::open(&folder)?));
            looked.await.map_err(|_| SpoolError::Closed)?
        })
    }

    async fn act_on(
        &self,
        ids: Vec<MessageId>,
        deed: Deed,
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

impl Shared {
    /// A message with who sends it.
    fn entry(&self, record: Record) -> Entry {
        let out = self.queue().leases.get(&record.id).copied();
        let owner = self.owner.clone();
        let sending = out.filter(|out| out.is_sending);
        let lease = sending.map(|Out { until, .. }| Lease { owner, until });
        Entry { record, lease }
    }
}

impl Spool for SqliteSpool {
    fn next_id(&self, now: Timestamp) -> MessageId {
        self.ids.next(now, rand::random())
    }

    fn writer(&self, id: MessageId) -> ContentWriter {
        ContentWriter::new(&self.settings.folder.join("content"), id)
    }

    fn has_room(&self) -> bool {
        self.shared.space.has_room()
    }

    fn put(&self, messages: Vec<New>) -> BoxFuture<'_, Result<(), SpoolError>> {
        self.ask(|answer| Job::Put(messages, answer))
    }

    fn fresh(&self, max: usize) -> Vec<Leased> {
        let mut queue = self.shared.queue();
        let count = queue.fresh.len().min(max);
        let taken: Vec<Leased> = queue.fresh.drain(..count).collect();
        for message in &taken {
            if let Some(Content::Memory(bytes)) = &message.content {
                queue.fresh_bytes -= bytes.len();
            }
        }
        taken
    }

    fn claim(
        &self,
        place: &Place,
        max: usize,
        now: Timestamp,
        until: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<Leased>, SpoolError>> {
        let place = place.clone();
        self.ask(move |answer| Job::Claim {
            place,
            max,
            now,
            until,
            answer,
        })
    }

    fn lease(
        &self,
        ids: Vec<MessageId>,
        now: Timestamp,
        until: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<Leased>, SpoolError>> {
        self.ask(move |answer| Job::Lease {
            ids,
            now,
            until,
            answer,
        })
    }

    fn waiting_lanes(&self) -> Vec<String> {
        self.shared.queue().due.keys().cloned().collect()
    }

    fn due(&self, lane: &str) -> Vec<(Flow, Timestamp)> {
        let queue = self.shared.queue();
        let flows = queue.due.get(lane).into_iter().flatten();
        flows.map(|(flow, due)| (flow.clone(), *due)).collect()
    }

    fn sending(&self, id: MessageId) {
        if let Some(out) = self.shared.queue().leases.get_mut(&id) {
            out.is_sending = true;
        }
    }

    fn renew(
        &self,
        ids: Vec<MessageId>,
        until: Timestamp,
    ) -> BoxFuture<'_, Result<(), SpoolError>> {
        let mut queue = self.shared.queue();
        for id in ids {
            if let Some(lease) = queue.leases.get_mut(&id) {
                lease.until = until;
            }
        }
        Box::pin(std::future::ready(Ok(())))
    }

    fn finish(&self, batch: Arc<[Finish]>) -> BoxFuture<'_, Result<(), SpoolError>> {
        self.ask(|answer| Job::Finish(batch, answer))
    }

    fn release(&self, leases: Vec<(MessageId, Place)>) {
        let mut queue = self.shared.queue();
        for (id, place) in leases {
            queue.leases.remove(&id);
            // When exactly it is due, the next claim finds out.
            queue.due_at(&place, Timestamp(0));
        }
    }

    fn content(&self, id: MessageId) -> BoxFuture<'_, Result<Content, SpoolError>> {
        self.ask(move |answer| Job::Content(id, answer))
    }

    fn reroute(
        &self,
        lanes: Vec<String>,
        held: Vec<(String, String)>,
    ) -> BoxFuture<'_, Result<(), SpoolError>> {
        self.ask(|answer| Job::Reroute {
            lanes,
            held,
            answer,
        })
    }

    fn list(&self, page: Page) -> BoxFuture<'_, Result<Vec<Entry>, SpoolError>> {
        let shared = self.shared.clone();
        self.read(move |reader| {
            let Page {
                after,
                limit,
                filter,
            } = page;
            let admitted = |record| {
                let entry = shared.entry(record);
                filter.admits(&entry).then_some(entry)
            };
            reader.list(after, limit, admitted)
        })
    }

    fn get(&self, id: MessageId) -> BoxFuture<'_, Result<Entry, SpoolError>> {
        let shared = self.shared.clone();
        self.read(move |reader| Ok(shared.entry(reader.get(id)?)))
    }

    fn act(
        &self,
        which: Selection,
        deed: Deed,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<usize, SpoolError>> {
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
            }
        })
    }

    fn story(&self, id: MessageId) -> BoxFuture<'_, Result<Story, SpoolError>> {
        self.read(move |reader| reader.story(id))
    }

    fn stories(
        &self,
        address: &str,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Story>, SpoolError>> {
        let address = address.to_owned();
        self.read(move |reader| {
            let mut found = reader.stories(&address, limit)?;
            found.reverse();
            Ok(found)
        })
    }

    fn tell(&self, story: Story, used: Option<Used>) -> BoxFuture<'_, Result<(), SpoolError>> {
        self.ask(|answer| Job::Tell(Box::new(story), used, answer))
    }

    fn used(&self, since: Timestamp) -> BoxFuture<'_, Result<Vec<Used>, SpoolError>> {
        self.ask(move |answer| Job::Used(since, answer))
    }

    fn shift(
        &self,
        by: SignedDuration,
        (name, value): (&str, String),
    ) -> BoxFuture<'_, Result<(), SpoolError>> {
        let note = (name.to_owned(), value);
        self.ask(move |answer| Job::Shift { by, note, answer })
    }

    fn purge(&self, now: Timestamp) -> BoxFuture<'_, Result<bool, SpoolError>> {
        self.ask(move |answer| Job::Purge(now, answer))
    }

    fn note(&self, name: &str, value: Option<String>) -> BoxFuture<'_, Result<(), SpoolError>> {
        let name = name.to_owned();
        self.ask(move |answer| Job::Note(name, value, answer))
    }

    fn notes(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<(String, String)>, SpoolError>> {
        let prefix = prefix.to_owned();
        self.ask(move |answer| Job::Notes(prefix, answer))
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.shared.changed.notified())
    }
}

impl Drop for SqliteSpool {
    /// Lets the writer end what it has been given before the lock goes.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// A folder made just now is on stable storage only with the folders above it; three were, at most.
fn sync_new_folders(content: &Path) -> Result<(), SpoolError> {
    let above = content
        .ancestors()
        .take(4)
        .filter(|folder| !folder.as_os_str().is_empty());
    for folder in above {
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| SpoolError::io(folder, error))?;
    }
    Ok(())
}

/// Messages are nobody else's to read.
fn restrict(folder: &Path) -> Result<(), SpoolError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(folder, mode).map_err(|error| SpoolError::io(folder, error))
}

/// The process that has the spool open has a lock on this file.
const LOCK: &str = "lock";

/// How long another process may have the lock for: a command that only looks whether it is taken has it for
/// a moment.
const LOCK_WAIT: Duration = Duration::from_millis(200);

fn lock(folder: &Path) -> Result<File, SpoolError> {
    let path = folder.join(LOCK);
    let io = |error| SpoolError::io(&path, error);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(io)?;
    match lock_within(&file, LOCK_WAIT) {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SpoolError::InUse {
            folder: folder.display().to_string(),
        }),
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}

/// Where contents are moved that have no row and should have one.
const LOST: &str = "lost";

/// Keeps a copy of a log that a disk has damaged, before SQLite drops what it cannot read of it.
fn look_at_log(folder: &Path) -> Result<(), SpoolError> {
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

/// The finished contents of a folder, with the messages that they are of.
fn finished(content: &Path) -> Result<Vec<(MessageId, PathBuf)>, SpoolError> {
    let io = |error| SpoolError::io(content, error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(content).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let id = path
            .file_stem()
            .and_then(|stem| stem.to_str()?.parse().ok());
        let is_arriving = path.extension().is_some_and(|it| it == content::ARRIVING);
        if is_arriving {
            std::fs::remove_file(&path).map_err(|error| SpoolError::io(&path, error))?;
        } else {
            found.extend(id.map(|id| (id, path)));
        }
    }
    Ok(found)
}

/// Removes contents whose messages have ended, and moves aside those that no row and no story knows: they
/// came in the instant of a crash and were never answered, or the disk has lost their rows.
fn sweep(folder: &Path, store: &Store) -> Result<(), SpoolError> {
    let (mut count, lost) = (0, folder.join(LOST));
    for (id, path) in finished(&folder.join("content"))? {
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
