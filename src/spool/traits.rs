//! The spool's traits, one for each kind of caller. A spool on another machine could implement all of them,
//! because methods that read something return a future. Methods that need no answer take effect before the
//! next call.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{
    Addition, Claim, Claimed, Content, ContentWriter, Count, Entry, Finish, NewMessage, NoQuota,
    NodeRow, OperatorAction, Page, Permission, Place, Quota, Record, Selection, SessionLease,
    Spending, SpoolFuture, SpoolMeasures, Story, StoryFilter, Used,
};
use crate::base::shared_secrets::SharedSecrets;
use crate::base::shared_sessions::SharedSessions;
use crate::base::{BoxFuture, Clock, MessageId, Timestamp};

/// The spool for callers that bring messages.
pub trait Intake: Send + Sync + 'static {
    /// Returns an id for a new message.
    fn next_id(&self, now: Timestamp) -> MessageId;

    /// Creates a writer for the content of a new message.
    fn writer(&self, id: MessageId) -> ContentWriter;

    /// True if there is room for another message, as far as this can be known in advance.
    fn has_room(&self) -> BoxFuture<'_, bool>;

    /// Stores the story of a message that was refused, in the background. Stores only some of the stories if
    /// there are very many, and none if the spool is busy.
    fn refused(&self, story: Story);

    /// True if the limits of users and listeners hold over several nodes.
    fn shares_limits(&self) -> bool {
        false
    }

    /// Takes amounts of limits that all nodes share: all, or none if one of them has no room. Grants everything if this
    /// process is alone, because then it counts by itself.
    fn take<'a>(&'a self, _asked: &'a [Quota]) -> SpoolFuture<'a, Result<(), NoQuota>> {
        Box::pin(std::future::ready(Ok(Ok(()))))
    }

    /// Gives back amounts that were just taken, because they are not used after all.
    fn give_back(&self, _taken: &[Quota]) {}

    /// Accepts all the messages or none: once this returns `Ok`, they are on stable storage.
    fn put(&self, messages: Vec<NewMessage>) -> SpoolFuture<'_, ()>;
}

/// The spool for callers that read contents.
pub trait Contents: Send + Sync + 'static {
    /// Returns the content of a message.
    fn content(&self, id: MessageId) -> SpoolFuture<'_, Content>;
}

/// The messages to claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimFrom {
    /// Messages that this process has just put, with their contents in memory.
    Fresh,
    /// Messages that are due in a place, earliest first.
    DueIn(Place),
    /// The messages with these ids, due or not, if they are queued.
    Named(Vec<MessageId>),
}

/// The spool for delivery. A claimed message is given to nobody else until its claim is finished, is released
/// or expires.
pub trait Work: Contents {
    /// Returns, for each place, the time at which its next unclaimed message is due, as far as known. Omits
    /// places without unclaimed messages.
    fn waiting(&self) -> SpoolFuture<'_, Vec<(Place, Timestamp)>>;

    /// Claims up to `max` messages until `until`.
    fn claim(
        &self,
        which: ClaimFrom,
        max: usize,
        now: Timestamp,
        until: Timestamp,
    ) -> SpoolFuture<'_, Vec<Claimed>>;

    /// Returns the lines that a digest has so far, with their numbers, in order.
    fn lines(&self, digest: MessageId) -> SpoolFuture<'_, Vec<(u64, String)>>;

    /// Marks a claimed message as being sent, and counts what it uses of its mailbox's limits over all nodes. Before this
    /// call, the message only waits for its turn. If the permission is not granted, the message must not be sent now.
    fn sending(
        &self,
        claim: Claim,
        spending: Option<Spending>,
        now: Timestamp,
    ) -> SpoolFuture<'_, Permission>;

    /// Extends claims until `until`. Returns the lost claims.
    fn renew(&self, claims: Vec<Claim>, until: Timestamp) -> SpoolFuture<'_, Vec<Claim>>;

    /// Ends claims and stores the fates of their messages durably: all of them or none. For a lost claim, the
    /// events are stored, but the message stays unchanged. Returns the lost claims. The caller can keep a
    /// copy of the `Arc`, and pass the same batch again after an error.
    fn finish(&self, batch: Arc<[Finish]>) -> SpoolFuture<'_, Vec<Claim>>;

    /// Releases claims and leaves their messages unchanged.
    fn release(&self, claims: Vec<(Claim, Place)>);

    /// Waits until a message may have become due since the last call.
    fn changed(&self) -> BoxFuture<'_, ()>;
}

/// The spool for delivery's occasional upkeep. The methods about other nodes have defaults for a
/// process that is alone.
pub trait Upkeep: Notes {
    /// Returns at most `limit` queued messages, oldest first: those with ids after `after` that were accepted
    /// before `before`.
    fn late(
        &self,
        after: Option<MessageId>,
        before: Timestamp,
        limit: usize,
    ) -> SpoolFuture<'_, Vec<Record>>;

    /// Moves queued messages whose lane is not in `lanes` to the lane `""`, so that they are routed again.
    /// `held` contains pairs of a lane and a reason: queued messages in that lane are held for that reason
    /// instead.
    fn reroute(&self, lanes: Vec<String>, held: Vec<(String, String)>) -> SpoolFuture<'_, ()>;

    /// Sets `clock` to the [time of the spool](super::time). This must happen before anything is measured with `clock`.
    fn resume_time<'a>(&'a self, clock: &'a Clock) -> SpoolFuture<'a, ()>;

    /// Stores the present time for the next run.
    fn note_time<'a>(&'a self, clock: &'a Clock) -> SpoolFuture<'a, ()>;

    /// Returns the store of tokens that all nodes share; `None` if this process is alone.
    fn secrets(&self) -> Option<Arc<dyn SharedSecrets>> {
        None
    }

    /// Returns the counter of the sessions of users on all nodes; `None` if this process is alone.
    fn user_sessions(&self) -> Option<Arc<dyn SharedSessions>> {
        None
    }

    /// True if this process does what only one of the nodes must do: it tells people of trouble, and reads the delivery
    /// reports in mailboxes. While one node takes this over from another, there may be two for a moment, or none.
    fn leads(&self) -> bool {
        true
    }

    /// Tells the other nodes, soon, whether this one is being taken out of service.
    fn drain(&self, _draining: bool) {}

    /// Ends this process's part in a spool that several nodes share: the others get what it has claimed.
    fn leave(&self) -> SpoolFuture<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Removes some of the expired stories. Returns true if expired stories may be left.
    fn purge(&self, now: Timestamp) -> SpoolFuture<'_, bool>;
}

/// The spool for the usage of mailboxes: how much each mailbox has used of its limits per minute and per day. The
/// methods that count over all nodes grant everything by default, because a process that is alone counts by itself.
pub trait Ledger: Send + Sync + 'static {
    /// Returns the usage of all mailboxes from `since` on.
    fn used(&self, since: Timestamp) -> SpoolFuture<'_, Vec<Used>>;

    /// Returns what all nodes together have used of the mailboxes' limits, to show it to people: the recipients of the day as
    /// one entry for each mailbox, and the messages of the last minute with their times. It may be some seconds old. `None`
    /// if this process is alone.
    fn used_by_all(&self, _now: Timestamp) -> SpoolFuture<'_, Option<Arc<[Used]>>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// True if other processes may use the same mailboxes. Then sessions are [leased](Ledger::lease_session).
    fn is_shared(&self) -> bool {
        false
    }

    /// Counts what a message that is not in the queue uses of its mailbox's limits over all nodes.
    fn reserve(
        &self,
        _id: MessageId,
        _spending: Spending,
        _now: Timestamp,
    ) -> SpoolFuture<'_, Permission> {
        Box::pin(std::future::ready(Ok(Permission::Granted)))
    }

    /// Uses up a mailbox's limit per minute for all nodes, because the server says that the mailbox was too fast.
    fn exhaust(&self, _mailbox: &str, _messages: usize, _now: Timestamp) {}

    /// Requests the right to one more session at a mailbox, of which all nodes together may have `most`.
    fn lease_session(&self, _mailbox: &str, _most: usize) -> SpoolFuture<'_, SessionLease> {
        Box::pin(std::future::ready(Ok(SessionLease::Granted)))
    }

    /// Gives back the rights to sessions at a mailbox, except this many.
    fn keep_sessions(&self, _mailbox: &str, _count: usize) -> SpoolFuture<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// A number that changes when all rights to sessions are lost, because other nodes have taken over from this one.
    fn sessions_epoch(&self) -> i64 {
        0
    }

    /// Stores the story of a message that was never in the queue, and how much of a mailbox's limits it
    /// used.
    fn add_story(&self, story: Story, used: Option<Used>) -> SpoolFuture<'_, ()>;

    /// Adds to the story of a message, and puts reports about it into the queue: all of it or nothing. If the
    /// story is no longer kept, writes nothing and
    /// returns false.
    fn extend_story(&self, addition: Addition) -> SpoolFuture<'_, bool>;
}

/// The spool for callers that look up what happened to messages.
pub trait Stories: Send + Sync + 'static {
    /// Returns a message's story while the message is in the queue, and afterwards for as long as stories are
    /// kept.
    fn story(&self, id: MessageId) -> SpoolFuture<'_, Story>;

    /// Returns the newest `limit` stories that the filter admits, newest first.
    fn stories(&self, filter: StoryFilter, limit: usize) -> SpoolFuture<'_, Vec<Story>>;
}

/// The spool for small facts, stored by name.
pub trait Notes: Send + Sync + 'static {
    /// Stores the fact `value` under `name`. If `value` is `None`, removes the fact.
    fn note(&self, name: &str, value: Option<String>) -> SpoolFuture<'_, ()>;

    /// Waits until another node has stored or removed a fact; forever if this process is alone.
    fn noted(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    /// Returns the name for a fact that is this process's own, if several nodes share the spool.
    fn own_name(&self, name: &str) -> String {
        name.to_owned()
    }

    /// Returns the names that begin with `prefix`, with their facts.
    fn notes(&self, prefix: &str) -> SpoolFuture<'_, Vec<(String, String)>>;
}

/// Returns a fact that [`keep`] stored as JSON; `None` if there is none, or if it cannot be read.
pub async fn kept<T: DeserializeOwned>(notes: &dyn Notes, name: &str) -> Option<T> {
    let notes = notes.notes(name).await.unwrap_or_default();
    let (_, text) = notes.into_iter().find(|(its, _)| its == name)?;
    serde_json::from_str(&text).ok()
}

/// Stores a fact as JSON. If that fails, for example because the disk is full, the earlier one stays.
pub async fn keep<T: Serialize>(notes: &dyn Notes, name: &str, fact: &T) {
    if let Ok(text) = serde_json::to_string(fact) {
        let _ = notes.note(name, Some(text)).await;
    }
}

/// The spool for operators.
pub trait Manage: Contents + Stories {
    /// Returns a page of the queued and held messages, oldest first.
    fn list(&self, page: Page) -> SpoolFuture<'_, Vec<Entry>>;

    /// Returns one message.
    fn get(&self, id: MessageId) -> SpoolFuture<'_, Entry>;

    /// Applies an action to messages that nobody has claimed. Returns the number of changed messages, and tells
    /// `so_far` that number again and again while there are more messages.
    fn act<'a>(
        &'a self,
        which: Selection,
        deed: OperatorAction,
        now: Timestamp,
        so_far: &'a (dyn Fn(usize) + Sync),
    ) -> SpoolFuture<'a, usize>;

    /// Returns the number of messages by server and state. The call takes the same time however many messages
    /// there are.
    fn counts(&self) -> SpoolFuture<'_, Vec<Count>>;

    /// True if there is room for another message, as far as this can be known in advance.
    fn takes_messages(&self) -> BoxFuture<'_, bool>;

    /// Returns the nodes that share the spool, eldest first; none if only one process can use it.
    fn nodes(&self) -> SpoolFuture<'_, Vec<NodeRow>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Returns measurements that take some time. They may be up to half a minute old.
    fn measures(&self) -> SpoolFuture<'_, Arc<SpoolMeasures>>;
}

/// All traits of the spool that delivery uses.
pub trait Spool: Intake + Work + Upkeep + Ledger + Notes + Stories {}

impl<T: Intake + Work + Upkeep + Ledger + Notes + Stories> Spool for T {}

/// All traits of the spool.
pub trait WholeSpool: Spool + Manage {}

impl<T: Spool + Manage> WholeSpool for T {}
