//! The spool of several nodes: PostgreSQL. Any node accepts any message, and any node sends it.
//!
//! A message is accepted when its transaction is committed, like in the spool of one machine, and many messages share
//! a commit. A claim is a row's `node` and a fencing number, so that a node that was away for a while cannot decide
//! about a message that another one has claimed meanwhile. A node that dies is noticed because its heartbeats end;
//! then its claims end too, and a message that it was sending may have arrived.
//!
//! All nodes follow one [time of the spool](super::time), whatever their wall clocks show.

mod body;
mod changes;
mod claims;
mod copy;
mod database;
mod finish;
mod local;
mod manage;
mod marks;
mod node;
mod probe;
mod put;
mod quotas;
mod rows;
mod schema;
mod secrets;
mod sessions;
mod settings;
mod shared;
mod stories;
mod tasks;

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::content::ContentWriter;
use super::{
    Addition, Claim, ClaimFrom, Claimed, Content, Contents, Count, Entry, Finish, Intake, Ledger,
    Manage, NewMessage, NoQuota, NodeRow, Notes, OperatorAction, Owner, Page, Permission, Place,
    Quota, Record, Selection, SessionLease, Spending, SpoolError, SpoolFuture, SpoolMeasures,
    Stories, Story, StoryFilter, Upkeep, Used, Work,
};
use crate::base::id::MessageIds;
use crate::base::shared_secrets::SharedSecrets;
use crate::base::shared_sessions::SharedSessions;
use crate::base::{BoxFuture, Clock, MessageId, Timestamp};
use crate::observe::maillog;
use crate::routing::lane;
use body::Bodies;
use database::Database;
use marks::Mark;
pub use probe::DatabaseState;
use put::Put;
use secrets::Secrets;
pub use settings::{NodeIdentity, PostgresSettings};
use shared::Shared;

/// The number of requests that may wait for the committer; further callers wait until there is room.
const PUTS: usize = 1_024;

/// The number of claims that may wait to be marked.
const MARKS: usize = 1_024;

/// The maximum number of messages that an operator's action changes in one transaction.
const OPERATOR_PAGE: usize = 1_000;

/// The maximum number of refused messages whose stories one node writes at the same time. A node that is busier than
/// that keeps no story of the others.
const REFUSED: usize = 4;

/// The longest time that a caller waits for an accepted message, with the time in the queue.
const ACCEPTED: Duration = Duration::from_secs(20);

/// Bits of a message's id below the node's slot: the messages of one node within a millisecond.
const SLOT_SHIFT: u32 = 12;

/// The spool that several nodes share, in PostgreSQL.
pub struct PostgresSpool {
    shared: Arc<Shared>,
    ids: MessageIds,
    puts: mpsc::Sender<Put>,
    marks: mpsc::Sender<Mark>,
    refused: Arc<tokio::sync::Semaphore>,
    /// Ends the tasks when it is dropped.
    stopping: watch::Sender<bool>,
    _lock: Option<File>,
}

impl PostgresSpool {
    /// Connects to the database, creates the tables if they are missing, and joins the nodes. The clock follows the
    /// time that the nodes share. Stories are kept for `history`.
    pub async fn open(
        settings: &PostgresSettings,
        history: Duration,
        node: NodeIdentity,
        clock: Clock,
    ) -> Result<Self, SpoolError> {
        let spool = Self::begin(settings, history, node, clock).await?;
        let (shared, stopped) = (&spool.shared, spool.stopping.subscribe());
        node::join(shared).await?;
        tokio::spawn(node::beat(shared.clone(), stopped.clone()));
        tokio::spawn(tasks::tend(shared.clone(), stopped.clone()));
        tokio::spawn(tasks::listen(shared.clone(), stopped));
        Ok(spool)
    }

    /// Connects to the database for an operator, without being one of the nodes.
    pub async fn visit(
        settings: &PostgresSettings,
        history: Duration,
        owner: Owner,
        clock: Clock,
    ) -> Result<Self, SpoolError> {
        let node = NodeIdentity {
            owner,
            machine: String::new(),
            lock: None,
        };
        Self::begin(settings, history, node, clock).await
    }

    async fn begin(
        settings: &PostgresSettings,
        history: Duration,
        NodeIdentity {
            owner,
            machine,
            lock,
        }: NodeIdentity,
        clock: Clock,
    ) -> Result<Self, SpoolError> {
        let database = Database::new(settings)?;
        let shared = Arc::new(Shared::new(
            database,
            (owner, machine),
            clock.clone(),
            history,
        ));
        schema::prepare(&shared.database).await?;
        node::resume_time(&shared, &clock).await?;
        let (puts, to_commit) = mpsc::channel(PUTS);
        let (marks, to_mark) = mpsc::channel(MARKS);
        tokio::spawn(put::commit(shared.clone(), to_commit));
        tokio::spawn(marks::mark(shared.clone(), to_mark));
        Ok(Self {
            shared,
            ids: MessageIds::default(),
            puts,
            marks,
            refused: Arc::new(tokio::sync::Semaphore::new(REFUSED)),
            stopping: watch::Sender::new(false),
            _lock: lock,
        })
    }

    async fn claim_all(
        &self,
        which: ClaimFrom,
        max: usize,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<Claimed>, SpoolError> {
        let shared = &self.shared;
        let expired = shared.local().expired(now);
        if !expired.is_empty() {
            claims::release(shared, expired.iter(), false).await?;
        }
        let _claiming = shared.claiming.read().await;
        let claimed = match which {
            ClaimFrom::Fresh => Ok(shared.local().fresh.take(max)),
            ClaimFrom::DueIn(place) => claims::claim_due(shared, &place, max, (now, until)).await,
            ClaimFrom::Named(ids) => claims::claim_named(shared, &ids, max, until).await,
        };
        shared.checked(claimed)
    }

    async fn put_all(&self, messages: Vec<NewMessage>) -> Result<(), SpoolError> {
        let (answer, answered) = oneshot::channel();
        let put = Put { messages, answer };
        let accepted = async {
            let sent = self.puts.send(put).await;
            sent.map_err(|_| SpoolError::Closed)?;
            answered.await.map_err(|_| SpoolError::Closed)?
        };
        match tokio::time::timeout(ACCEPTED, accepted).await {
            Ok(accepted) => accepted,
            Err(_) => Err(self.shared.database.no_answer(ACCEPTED)),
        }
    }

    async fn act_on_all(
        &self,
        which: Selection,
        deed: OperatorAction,
        now: Timestamp,
        so_far: &(dyn Fn(usize) + Sync),
    ) -> Result<usize, SpoolError> {
        let filter = match which {
            Selection::Ids(ids) => {
                return manage::act(&self.shared, &ids, &deed, now, true).await;
            }
            Selection::Matching(filter) => filter,
        };
        let (mut count, mut after) = (0, None);
        loop {
            let page = manage::list(&self.shared, after, OPERATOR_PAGE, &filter).await?;
            let ids: Vec<MessageId> = page.iter().map(|entry| entry.record.id).collect();
            let Some(last) = ids.last() else {
                return Ok(count);
            };
            after = Some(*last);
            count += manage::act(&self.shared, &ids, &deed, now, false).await?;
            so_far(count);
        }
    }
}

fn done<'a, T: Send + 'a>(value: T) -> SpoolFuture<'a, T> {
    Box::pin(std::future::ready(Ok(value)))
}

impl Intake for PostgresSpool {
    fn next_id(&self, now: Timestamp) -> MessageId {
        let slot = self.shared.slot.load(Ordering::Acquire);
        let low = rand::random::<u32>() & ((1 << SLOT_SHIFT) - 1);
        self.ids.next(now, slot << SLOT_SHIFT | low)
    }

    fn writer(&self, id: MessageId) -> ContentWriter {
        ContentWriter::new(Arc::new(Bodies(self.shared.clone())), id)
    }

    fn has_room(&self) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(true))
    }

    fn refused(&self, story: Story) {
        let Ok(permit) = self.refused.clone().try_acquire_owned() else {
            return;
        };
        let shared = self.shared.clone();
        tokio::spawn(async move {
            // Nobody waits for the answer.
            let _ = tasks::add_story(&shared, &story, None).await;
            drop(permit);
        });
    }

    fn put(&self, messages: Vec<NewMessage>) -> SpoolFuture<'_, ()> {
        Box::pin(self.put_all(messages))
    }

    fn shares_limits(&self) -> bool {
        true
    }

    fn take<'a>(&'a self, asked: &'a [Quota]) -> SpoolFuture<'a, Result<(), NoQuota>> {
        Box::pin(quotas::take(&self.shared, asked))
    }

    fn give_back(&self, taken: &[Quota]) {
        quotas::give_back(&self.shared, taken);
    }
}

impl Contents for PostgresSpool {
    fn content(&self, id: MessageId) -> SpoolFuture<'_, Content> {
        Box::pin(tasks::content(&self.shared, id))
    }
}

impl Work for PostgresSpool {
    fn waiting(&self) -> SpoolFuture<'_, Vec<(Place, Timestamp)>> {
        done(self.shared.local().due.all())
    }

    fn claim(
        &self,
        which: ClaimFrom,
        max: usize,
        now: Timestamp,
        until: Timestamp,
    ) -> SpoolFuture<'_, Vec<Claimed>> {
        Box::pin(self.claim_all(which, max, now, until))
    }

    fn lines(&self, digest: MessageId) -> SpoolFuture<'_, Vec<(u64, String)>> {
        Box::pin(tasks::lines(&self.shared, digest))
    }

    fn sending(
        &self,
        claim: Claim,
        spending: Option<Spending>,
        now: Timestamp,
    ) -> SpoolFuture<'_, Permission> {
        Box::pin(async move {
            if !self.shared.local().has(claim) {
                return Ok(Permission::Lost);
            }
            let (answer, answered) = oneshot::channel();
            let mark = Mark {
                claim,
                spending,
                now,
                answer,
            };
            let sent = self.marks.send(mark).await;
            sent.map_err(|_| SpoolError::Closed)?;
            answered.await.map_err(|_| SpoolError::Closed)?
        })
    }

    fn renew(&self, claims: Vec<Claim>, until: Timestamp) -> SpoolFuture<'_, Vec<Claim>> {
        let mut local = self.shared.local();
        let mut lost = claims;
        lost.retain(|claim| !local.renew(*claim, until));
        drop(local);
        done(lost)
    }

    fn finish(&self, batch: Arc<[Finish]>) -> SpoolFuture<'_, Vec<Claim>> {
        Box::pin(async move { finish::finish(&self.shared, &batch).await })
    }

    fn release(&self, claims: Vec<(Claim, Place)>) {
        let mut local = self.shared.local();
        for (claim, place) in claims {
            local.release(claim, place);
        }
        drop(local);
        self.shared.untended.notify_one();
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.shared.changed.notified())
    }
}

impl Upkeep for PostgresSpool {
    fn late(
        &self,
        after: Option<MessageId>,
        before: Timestamp,
        limit: usize,
    ) -> SpoolFuture<'_, Vec<Record>> {
        let before = MessageId::first_at(before);
        Box::pin(manage::queued(&self.shared, after, before, limit))
    }

    fn reroute(&self, lanes: Vec<String>, held: Vec<(String, String)>) -> SpoolFuture<'_, ()> {
        Box::pin(async move {
            let is_known = |its: &str| lanes.iter().any(|name| name == lane::server(its));
            manage::reroute(&self.shared, is_known, &held).await
        })
    }

    fn resume_time<'a>(&'a self, _: &'a Clock) -> SpoolFuture<'a, ()> {
        // The clock was set when the spool was opened.
        done(())
    }

    fn note_time<'a>(&'a self, _: &'a Clock) -> SpoolFuture<'a, ()> {
        // Each heartbeat does that.
        done(())
    }

    fn secrets(&self) -> Option<Arc<dyn SharedSecrets>> {
        Some(Arc::new(Secrets::new(self.shared.clone())))
    }

    fn user_sessions(&self) -> Option<Arc<dyn SharedSessions>> {
        Some(Arc::new(sessions::UserSessions(self.shared.clone())))
    }

    fn leads(&self) -> bool {
        self.shared.leads.load(Ordering::Acquire)
    }

    fn drain(&self, draining: bool) {
        self.shared.is_draining.store(draining, Ordering::Release);
    }

    fn leave(&self) -> SpoolFuture<'_, ()> {
        self.stopping.send_replace(true);
        Box::pin(async move {
            // A heartbeat that finds no node would join again.
            self.stopping.closed().await;
            quotas::return_unused(&self.shared, true).await;
            node::leave(&self.shared).await
        })
    }

    fn purge(&self, now: Timestamp) -> SpoolFuture<'_, bool> {
        let before = now.before(self.shared.history);
        Box::pin(stories::purge(&self.shared, before, now))
    }
}

impl Ledger for PostgresSpool {
    fn used(&self, since: Timestamp) -> SpoolFuture<'_, Vec<Used>> {
        Box::pin(tasks::used(&self.shared, since))
    }

    fn used_by_all(&self, now: Timestamp) -> SpoolFuture<'_, Option<Arc<[Used]>>> {
        Box::pin(async move { marks::used_by_all(&self.shared, now).await.map(Some) })
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn reserve(
        &self,
        id: MessageId,
        spending: Spending,
        now: Timestamp,
    ) -> SpoolFuture<'_, Permission> {
        Box::pin(async move { marks::reserve(&self.shared.database, id, &spending, now).await })
    }

    fn exhaust(&self, mailbox: &str, messages: usize, now: Timestamp) {
        let (shared, mailbox, id) = (self.shared.clone(), mailbox.to_owned(), self.next_id(now));
        tokio::spawn(async move {
            let done = marks::exhaust(&shared.database, id, &mailbox, messages, now).await;
            done.unwrap_or_else(|error| maillog::claim_failed("", &error));
        });
    }

    fn lease_session(&self, mailbox: &str, most: usize) -> SpoolFuture<'_, SessionLease> {
        let mailbox = mailbox.to_owned();
        Box::pin(async move { sessions::lease(&self.shared, &mailbox, most).await })
    }

    fn keep_sessions(&self, mailbox: &str, count: usize) -> SpoolFuture<'_, ()> {
        let mailbox = mailbox.to_owned();
        Box::pin(async move { sessions::keep(&self.shared, &mailbox, count).await })
    }

    fn sessions_epoch(&self) -> i64 {
        self.shared.node()
    }

    fn add_story(&self, story: Story, used: Option<Used>) -> SpoolFuture<'_, ()> {
        Box::pin(async move { tasks::add_story(&self.shared, &story, used.as_ref()).await })
    }

    fn extend_story(&self, addition: Addition) -> SpoolFuture<'_, bool> {
        Box::pin(async move { finish::extend(&self.shared, &addition).await })
    }
}

impl Stories for PostgresSpool {
    fn story(&self, id: MessageId) -> SpoolFuture<'_, Story> {
        Box::pin(stories::story(&self.shared, id))
    }

    fn stories(&self, filter: StoryFilter, limit: usize) -> SpoolFuture<'_, Vec<Story>> {
        Box::pin(async move { stories::stories(&self.shared, &filter, limit).await })
    }
}

impl Notes for PostgresSpool {
    fn note(&self, name: &str, value: Option<String>) -> SpoolFuture<'_, ()> {
        let name = name.to_owned();
        Box::pin(async move { tasks::note(&self.shared, &name, value).await })
    }

    fn noted(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.shared.noted.notified())
    }

    fn own_name(&self, name: &str) -> String {
        format!("{name}/{}", self.shared.machine)
    }

    fn notes(&self, prefix: &str) -> SpoolFuture<'_, Vec<(String, String)>> {
        let prefix = prefix.to_owned();
        Box::pin(async move { tasks::notes(&self.shared, &prefix).await })
    }
}

impl Manage for PostgresSpool {
    fn list(&self, page: Page) -> SpoolFuture<'_, Vec<Entry>> {
        Box::pin(
            async move { manage::list(&self.shared, page.after, page.limit, &page.filter).await },
        )
    }

    fn get(&self, id: MessageId) -> SpoolFuture<'_, Entry> {
        Box::pin(manage::get(&self.shared, id))
    }

    fn act<'a>(
        &'a self,
        which: Selection,
        deed: OperatorAction,
        now: Timestamp,
        so_far: &'a (dyn Fn(usize) + Sync),
    ) -> SpoolFuture<'a, usize> {
        Box::pin(self.act_on_all(which, deed, now, so_far))
    }

    fn counts(&self) -> SpoolFuture<'_, Vec<Count>> {
        Box::pin(async move { Ok(manage::measure(&self.shared, true).await?.0) })
    }

    fn nodes(&self) -> SpoolFuture<'_, Vec<NodeRow>> {
        Box::pin(node::list(&self.shared))
    }

    fn takes_messages(&self) -> BoxFuture<'_, bool> {
        Box::pin(async move { self.shared.is_reached.load(Ordering::Acquire) })
    }

    fn measures(&self) -> SpoolFuture<'_, Arc<SpoolMeasures>> {
        Box::pin(async move { Ok(manage::measure(&self.shared, false).await?.1) })
    }
}
