//! What others ask of the spool: a trait for each who asks. All of it could be done by a spool on another
//! machine: what looks at something is a future, and what needs no answer takes effect before whatever is
//! asked next.

use std::sync::Arc;

use super::{
    Claim, Claimed, Content, ContentWriter, Count, Deed, Entry, Finish, New, Page, Place, Record,
    Selection, SpoolFuture, Story, Used,
};
use crate::base::{BoxFuture, MessageId, Timestamp};

/// For those who bring messages.
pub trait Intake: Send + Sync + 'static {
    /// A name for a new message.
    fn next_id(&self, now: Timestamp) -> MessageId;

    /// Where the content of a new message goes as it arrives.
    fn writer(&self, id: MessageId) -> ContentWriter;

    /// Whether there is room for another message, as far as can be told beforehand.
    fn has_room(&self) -> BoxFuture<'_, bool>;

    /// Takes messages: once it returns `Ok`, they are on stable storage. All or none.
    fn put(&self, messages: Vec<New>) -> SpoolFuture<'_, ()>;
}

/// For those who read contents.
pub trait Contents: Send + Sync + 'static {
    /// The content of a message.
    fn content(&self, id: MessageId) -> SpoolFuture<'_, Content>;
}

/// Which messages to claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// Those that this process has just put, their contents in memory.
    Fresh,
    /// Those that are due in a place, earliest first.
    DueIn(Place),
    /// These, due or not, if they are queued.
    Named(Vec<MessageId>),
}

/// For those who deliver. A message that is claimed is nobody else's until the claim is finished or
/// released, or its time ends.
pub trait Work: Contents {
    /// When the next message of each place that nobody has claimed is due, as far as is known; only places
    /// that have such messages.
    fn waiting(&self) -> SpoolFuture<'_, Vec<(Place, Timestamp)>>;

    /// Claims up to `max` messages until `until`.
    fn claim(
        &self,
        which: Which,
        max: usize,
        now: Timestamp,
        until: Timestamp,
    ) -> SpoolFuture<'_, Vec<Claimed>>;

    /// What a digest tells by now, with the lines' numbers, in their order.
    fn lines(&self, digest: MessageId) -> SpoolFuture<'_, Vec<(u64, String)>>;

    /// A claimed message is being sent from now on: until then it only waits for its turn.
    fn sending(&self, claim: Claim);

    /// Keeps claims until `until`; gives those that were lost to others.
    fn renew(&self, claims: Vec<Claim>, until: Timestamp) -> SpoolFuture<'_, Vec<Claim>>;

    /// Ends claims with a fate; all or none, durably. Of those that were lost to others the events are
    /// kept, and the message is left to the others; they are given back. The batch is shared, so that it
    /// can be tried again.
    fn finish(&self, batch: Arc<[Finish]>) -> SpoolFuture<'_, Vec<Claim>>;

    /// Gives claims back, unchanged.
    fn release(&self, claims: Vec<(Claim, Place)>);

    /// Comes back when something may have become due since it was last asked.
    fn changed(&self) -> BoxFuture<'_, ()>;
}

/// For delivery's upkeep, now and then.
pub trait Upkeep: Send + Sync + 'static {
    /// Queued messages after `after` that were taken before `before`, oldest first, at most `limit`.
    fn late(
        &self,
        after: Option<MessageId>,
        before: Timestamp,
        limit: usize,
    ) -> SpoolFuture<'_, Vec<Record>>;

    /// Moves messages whose lane is not among `lanes` to the lane `""`, to be routed anew. Those of a lane
    /// in `held` are held instead, with the reason that stands beside it.
    fn reroute(&self, lanes: Vec<String>, held: Vec<(String, String)>) -> SpoolFuture<'_, ()>;

    /// Removes some of the stories that need be kept no longer; whether there may be more.
    fn purge(&self, now: Timestamp) -> SpoolFuture<'_, bool>;
}

/// For the accounts of mailboxes: how much of their minute and day they have used.
pub trait Ledger: Send + Sync + 'static {
    /// What mailboxes have used since.
    fn used(&self, since: Timestamp) -> SpoolFuture<'_, Vec<Used>>;

    /// Keeps the story of a message that never was in the queue, and what it took of a mailbox's day.
    fn tell(&self, story: Story, used: Option<Used>) -> SpoolFuture<'_, ()>;
}

/// Small facts by their names.
pub trait Notes: Send + Sync + 'static {
    /// Keeps a fact under its name, or forgets it.
    fn note(&self, name: &str, value: Option<String>) -> SpoolFuture<'_, ()>;

    /// The facts whose names begin so.
    fn notes(&self, prefix: &str) -> SpoolFuture<'_, Vec<(String, String)>>;
}

/// For operators.
pub trait Manage: Contents {
    /// What is queued and held, oldest first.
    fn list(&self, page: Page) -> SpoolFuture<'_, Vec<Entry>>;

    /// One message.
    fn get(&self, id: MessageId) -> SpoolFuture<'_, Entry>;

    /// Does this to messages that nobody has claimed; gives to how many.
    fn act(&self, which: Selection, deed: Deed, now: Timestamp) -> SpoolFuture<'_, usize>;

    /// How many messages there are, by server and state; takes no longer however many there are.
    fn counts(&self) -> SpoolFuture<'_, Vec<Count>>;

    /// A message's story, while it is in the queue and for as long as stories are kept.
    fn story(&self, id: MessageId) -> SpoolFuture<'_, Story>;

    /// The stories in which an address stands, or one at `@domain`: the newest `limit`, oldest first.
    fn stories(&self, address: &str, limit: usize) -> SpoolFuture<'_, Vec<Story>>;
}

/// All that delivery asks.
pub trait Spool: Intake + Work + Upkeep + Ledger + Notes {}

impl<T: Intake + Work + Upkeep + Ledger + Notes> Spool for T {}
