//! Several nodes on one spool in memory, for simulations. Each node has a handle of its own. A node that dies does nothing
//! more: its calls never return. Some time later the others take over from it, as they do with PostgreSQL.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use mailferry::base::shared_secrets::SharedSecrets;
use mailferry::base::{BoxFuture, Clock, MessageId, Timestamp};
use mailferry::spool::{
    Addition, Claim, ClaimFrom, Claimed, Content, ContentWriter, Contents, Finish, Intake, Ledger,
    NewMessage, Notes, Permission, Place, Record, SessionLease, Spending, SpoolFuture, Stories,
    Story, StoryFilter, Upkeep, Used, Work,
};
use mailferry::transport::{Interruption, Link, Outcome, Outgoing, Steps, Transport, Upstream};
use tokio::sync::Notify;

use super::exchange::{Door, Exchange};
use crate::support::Memory;

/// How long a message counts towards a mailbox's limit per minute: a little longer, because messages travel.
const MINUTE: Duration = Duration::from_secs(62);

/// How long the sessions of a dead node rest.
const REST: Duration = Duration::from_secs(60);

/// What the nodes share.
pub struct Shared {
    pub memory: Arc<Memory>,
    exchange: Arc<Exchange>,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The nodes that have not been buried, in the order in which they joined.
    nodes: Vec<Arc<Alive>>,
    claims: HashMap<MessageId, Owned>,
    /// Messages that a node was sending when it died.
    orphans: HashSet<MessageId>,
    /// All messages that were ever among the orphans.
    unwritten: HashSet<MessageId>,
    /// What was sent lately, by mailbox: when, and with which claim.
    sent: HashMap<String, Vec<(Timestamp, Claim)>>,
    /// The leased sessions, by mailbox: the node, or the end of the rest.
    leases: HashMap<String, Vec<Lease>>,
    last_node: u64,
}

struct Owned {
    node: u64,
    number: u64,
    is_sending: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Lease {
    Of(u64),
    RestsUntil(Timestamp),
}

/// Whether a node is alive.
struct Alive {
    node: u64,
    is_dead: AtomicBool,
    died: Notify,
    changed: Notify,
}

/// A node's handle of the spool.
pub struct Node {
    shared: Arc<Shared>,
    alive: Arc<Alive>,
}

/// A node's way to Exchange.
pub struct NodeDoor {
    door: Door,
    alive: Arc<Alive>,
}

struct NodeLink {
    link: Box<dyn Link>,
    alive: Arc<Alive>,
}

impl Alive {
    fn is_dead(&self) -> bool {
        self.is_dead.load(Ordering::Acquire)
    }

    /// Runs a part of what a node does; a dead node never ends it.
    async fn unless_dead<T>(&self, work: impl Future<Output = T>) -> T {
        let died = self.died.notified();
        if !self.is_dead() {
            tokio::select! {
                biased;
                () = died => {}
                done = work => return done,
            }
        }
        std::future::pending().await
    }
}

impl Shared {
    pub fn new(memory: Arc<Memory>, exchange: Arc<Exchange>, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            memory,
            exchange,
            clock,
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panicked")
    }

    /// Joins a node.
    pub fn join(self: &Arc<Self>) -> (Arc<Node>, Arc<NodeDoor>) {
        let mut state = self.state();
        state.last_node += 1;
        let alive = Arc::new(Alive {
            node: state.last_node,
            is_dead: AtomicBool::new(false),
            died: Notify::new(),
            changed: Notify::new(),
        });
        state.nodes.push(alive.clone());
        let door = NodeDoor {
            door: Door(self.exchange.clone(), state.last_node),
            alive: alive.clone(),
        };
        let shared = self.clone();
        (Arc::new(Node { shared, alive }), Arc::new(door))
    }

    /// Kills a node. Its connections close.
    pub fn kill(&self, node: &Node) {
        node.alive.is_dead.store(true, Ordering::Release);
        node.alive.died.notify_waiters();
        self.exchange.close_all(node.alive.node);
    }

    /// Takes over from a node that is dead.
    pub fn bury(&self, node: &Node) {
        let mut state = self.state();
        let (dead, until) = (node.alive.node, self.clock.now().after(REST));
        state.nodes.retain(|alive| alive.node != dead);
        let lost = state.claims.extract_if(|_, owned| owned.node == dead);
        let lost: Vec<(MessageId, Owned)> = lost.collect();
        for (id, owned) in lost {
            if owned.is_sending {
                state.orphans.insert(id);
                state.unwritten.insert(id);
            }
            self.memory.give_up(id, owned.number);
        }
        for lease in state.leases.values_mut().flatten() {
            if *lease == Lease::Of(dead) {
                *lease = Lease::RestsUntil(until);
            }
        }
        drop(state);
        self.tell();
    }

    /// True if the others have taken over from a node.
    pub fn is_buried(&self, node: &Node) -> bool {
        let state = self.state();
        !state
            .nodes
            .iter()
            .any(|alive| alive.node == node.alive.node)
    }

    /// Returns the messages that some node was sending when it died.
    pub fn unwritten(&self) -> HashSet<MessageId> {
        self.state().unwritten.clone()
    }

    /// Tells all nodes that messages may be due.
    pub fn tell(&self) {
        let nodes = self.state().nodes.clone();
        nodes.iter().for_each(|node| node.changed.notify_one());
    }
}

impl State {
    fn is_own(&self, node: u64, claim: Claim) -> bool {
        let owned = self.claims.get(&claim.id);
        owned.is_some_and(|it| it.node == node && it.number == claim.number)
    }
}

impl Node {
    /// Passes a call on, unless the node is dead: then it never returns.
    fn pass<'a, T: Send + 'a>(
        &'a self,
        call: impl FnOnce(&'a Memory) -> SpoolFuture<'a, T> + Send + 'a,
    ) -> SpoolFuture<'a, T> {
        Box::pin(async move {
            match self.alive.is_dead() {
                true => std::future::pending().await,
                false => call(&self.shared.memory).await,
            }
        })
    }

    /// Decides about a claim at once, unless the node is dead.
    fn decide<'a, T: Send + 'a>(
        &'a self,
        decide: impl FnOnce(&mut State) -> T + Send + 'a,
    ) -> SpoolFuture<'a, T> {
        self.pass(move |_| {
            let decided = decide(&mut self.shared.state());
            Box::pin(std::future::ready(Ok(decided)))
        })
    }

    fn sent(
        &self,
        state: &mut State,
        claim: Claim,
        spending: &Spending,
        now: Timestamp,
    ) -> Permission {
        let sent = state.sent.entry(spending.mailbox.clone()).or_default();
        sent.retain(|(at, its)| *its != claim && now < at.after(MINUTE));
        let most = spending.limits.per_minute.unwrap_or(usize::MAX);
        if sent.len() >= most {
            return Permission::UsedUp(sent[sent.len() - most].0.after(MINUTE));
        }
        sent.push((now, claim));
        Permission::Granted
    }
}

impl Intake for Node {
    fn next_id(&self, now: Timestamp) -> MessageId {
        self.shared.memory.next_id(now)
    }

    fn writer(&self, id: MessageId) -> ContentWriter {
        self.shared.memory.writer(id)
    }

    fn has_room(&self) -> BoxFuture<'_, bool> {
        self.shared.memory.has_room()
    }

    fn refused(&self, story: Story) {
        self.shared.memory.refused(story);
    }

    fn put(&self, messages: Vec<NewMessage>) -> SpoolFuture<'_, ()> {
        self.pass(|memory| {
            let put = memory.put(messages);
            self.shared.tell();
            put
        })
    }
}

impl Contents for Node {
    fn content(&self, id: MessageId) -> SpoolFuture<'_, Content> {
        self.pass(move |memory| memory.content(id))
    }
}

impl Work for Node {
    fn waiting(&self) -> SpoolFuture<'_, Vec<(Place, Timestamp)>> {
        self.pass(|memory| memory.waiting())
    }

    fn claim(
        &self,
        which: ClaimFrom,
        max: usize,
        now: Timestamp,
        until: Timestamp,
    ) -> SpoolFuture<'_, Vec<Claimed>> {
        Box::pin(async move {
            let claimed = self
                .pass(|memory| memory.claim(which, max, now, until))
                .await;
            let mut claimed = claimed?;
            let mut state = self.shared.state();
            for message in &mut claimed {
                let Claim { id, number } = message.claim;
                message.may_have_arrived = state.orphans.contains(&id);
                let owned = Owned {
                    node: self.alive.node,
                    number,
                    is_sending: false,
                };
                state.claims.insert(id, owned);
            }
            Ok(claimed)
        })
    }

    fn lines(&self, digest: MessageId) -> SpoolFuture<'_, Vec<(u64, String)>> {
        self.pass(move |memory| memory.lines(digest))
    }

    fn sending(
        &self,
        claim: Claim,
        spending: Option<Spending>,
        now: Timestamp,
    ) -> SpoolFuture<'_, Permission> {
        self.decide(move |state| {
            if !state.is_own(self.alive.node, claim) {
                return Permission::Lost;
            }
            let permission = match &spending {
                Some(spending) => self.sent(state, claim, spending, now),
                None => Permission::Granted,
            };
            if let (Permission::Granted, Some(owned)) =
                (permission, state.claims.get_mut(&claim.id))
            {
                owned.is_sending = true;
            }
            permission
        })
    }

    fn renew(&self, claims: Vec<Claim>, until: Timestamp) -> SpoolFuture<'_, Vec<Claim>> {
        self.pass(move |memory| {
            let state = self.shared.state();
            let is_own = |claim: &Claim| state.is_own(self.alive.node, *claim);
            let (own, mut lost): (Vec<Claim>, Vec<Claim>) = claims.into_iter().partition(is_own);
            let renewed = memory.renew(own, until);
            Box::pin(async move {
                lost.extend(renewed.await?);
                Ok(lost)
            })
        })
    }

    fn finish(&self, batch: Arc<[Finish]>) -> SpoolFuture<'_, Vec<Claim>> {
        Box::pin(async move {
            let ended = self.decide(|state| {
                for finish in batch.iter() {
                    // Nothing takes over from a node that is alive here.
                    assert!(state.is_own(self.alive.node, finish.claim));
                    state.claims.remove(&finish.claim.id);
                    state.orphans.remove(&finish.claim.id);
                    if finish.used.is_none() {
                        let sent = state.sent.values_mut();
                        sent.for_each(|sent| sent.retain(|(_, claim)| *claim != finish.claim));
                    }
                }
            });
            ended.await?;
            let lost = self.shared.memory.finish(batch).await;
            self.shared.tell();
            lost
        })
    }

    fn release(&self, claims: Vec<(Claim, Place)>) {
        if self.alive.is_dead() {
            return;
        }
        let mut state = self.shared.state();
        for (claim, _) in &claims {
            assert!(state.is_own(self.alive.node, *claim));
            state.claims.remove(&claim.id);
        }
        drop(state);
        self.shared.memory.release(claims);
        self.shared.tell();
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.alive.unless_dead(self.alive.changed.notified()))
    }
}

impl Upkeep for Node {
    fn late(
        &self,
        after: Option<MessageId>,
        before: Timestamp,
        limit: usize,
    ) -> SpoolFuture<'_, Vec<Record>> {
        self.pass(move |memory| memory.late(after, before, limit))
    }

    fn reroute(&self, lanes: Vec<String>, held: Vec<(String, String)>) -> SpoolFuture<'_, ()> {
        self.pass(move |memory| memory.reroute(lanes, held))
    }

    fn resume_time<'a>(&'a self, clock: &'a Clock) -> SpoolFuture<'a, ()> {
        self.pass(move |memory| memory.resume_time(clock))
    }

    fn note_time<'a>(&'a self, clock: &'a Clock) -> SpoolFuture<'a, ()> {
        self.pass(move |memory| memory.note_time(clock))
    }

    fn secrets(&self) -> Option<Arc<dyn SharedSecrets>> {
        None
    }

    fn leads(&self) -> bool {
        let state = self.shared.state();
        let eldest = state.nodes.iter().find(|node| !node.is_dead());
        eldest.is_some_and(|eldest| eldest.node == self.alive.node)
    }

    fn leave(&self) -> SpoolFuture<'_, ()> {
        self.pass(|memory| memory.leave())
    }

    fn purge(&self, now: Timestamp) -> SpoolFuture<'_, bool> {
        self.pass(move |memory| memory.purge(now))
    }
}

impl Ledger for Node {
    fn used(&self, since: Timestamp) -> SpoolFuture<'_, Vec<Used>> {
        self.pass(move |memory| memory.used(since))
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
        let claim = Claim { id, number: 0 };
        self.decide(move |state| self.sent(state, claim, &spending, now))
    }

    fn exhaust(&self, _: &str, _: usize, _: Timestamp) {}

    fn lease_session(&self, mailbox: &str, most: usize) -> SpoolFuture<'_, SessionLease> {
        let mailbox = mailbox.to_owned();
        self.decide(move |state| {
            let (leases, now) = (
                state.leases.entry(mailbox).or_default(),
                self.shared.clock.now(),
            );
            leases.retain(|lease| !matches!(lease, Lease::RestsUntil(until) if *until <= now));
            if leases.len() >= most {
                return SessionLease::None;
            }
            leases.push(Lease::Of(self.alive.node));
            SessionLease::Granted
        })
    }

    fn keep_sessions(&self, mailbox: &str, count: usize) -> SpoolFuture<'_, ()> {
        let mailbox = mailbox.to_owned();
        self.decide(move |state| {
            let mut own = 0;
            let leases = state.leases.entry(mailbox).or_default();
            leases.retain(|lease| {
                let is_own = *lease == Lease::Of(self.alive.node);
                own += usize::from(is_own);
                !is_own || own <= count
            });
        })
    }

    fn sessions_epoch(&self) -> i64 {
        self.alive.node as i64
    }

    fn add_story(&self, story: Story, used: Option<Used>) -> SpoolFuture<'_, ()> {
        self.pass(move |memory| memory.add_story(story, used))
    }

    fn extend_story(&self, addition: Addition) -> SpoolFuture<'_, bool> {
        self.pass(move |memory| memory.extend_story(addition))
    }
}

impl Stories for Node {
    fn story(&self, id: MessageId) -> SpoolFuture<'_, Story> {
        self.pass(move |memory| memory.story(id))
    }

    fn stories(&self, filter: StoryFilter, limit: usize) -> SpoolFuture<'_, Vec<Story>> {
        self.pass(move |memory| memory.stories(filter, limit))
    }
}

impl Notes for Node {
    fn note(&self, name: &str, value: Option<String>) -> SpoolFuture<'_, ()> {
        let name = name.to_owned();
        Box::pin(async move { self.pass(move |memory| memory.note(&name, value)).await })
    }

    fn own_name(&self, name: &str) -> String {
        format!("{name}/{}", self.alive.node)
    }

    fn notes(&self, prefix: &str) -> SpoolFuture<'_, Vec<(String, String)>> {
        let prefix = prefix.to_owned();
        self.pass(move |memory| memory.notes(&prefix))
    }
}

impl Transport for NodeDoor {
    fn test<'a>(
        &'a self,
        upstream: &'a Arc<Upstream>,
        steps: &'a Steps,
    ) -> BoxFuture<'a, Option<Box<dyn Link>>> {
        Box::pin(self.alive.unless_dead(self.door.test(upstream, steps)))
    }

    fn open<'a>(
        &'a self,
        upstream: &'a Arc<Upstream>,
        is_fresh: bool,
    ) -> BoxFuture<'a, Result<Box<dyn Link>, Interruption>> {
        Box::pin(async move {
            let open = self.door.open(upstream, is_fresh);
            let link = NodeLink {
                link: self.alive.unless_dead(open).await?,
                alive: self.alive.clone(),
            };
            Ok(Box::new(link) as Box<dyn Link>)
        })
    }
}

impl Link for NodeLink {
    fn send<'a>(
        &'a mut self,
        message: Outgoing<'a>,
    ) -> BoxFuture<'a, Result<Outcome, Interruption>> {
        Box::pin(self.alive.unless_dead(self.link.send(message)))
    }

    fn is_spent(&self) -> bool {
        self.link.is_spent()
    }

    fn is_alive(&mut self) -> BoxFuture<'_, bool> {
        Box::pin(self.alive.unless_dead(self.link.is_alive()))
    }

    fn quit(self: Box<Self>) -> BoxFuture<'static, ()> {
        let Self { link, alive } = *self;
        Box::pin(async move { alive.unless_dead(link.quit()).await })
    }
}
