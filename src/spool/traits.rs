//! The spool's traits, one for each kind of caller. A spool on another machine could implement them all:
//! methods that read something return a future, and methods that need no answer take effect before the next
//! call.

use std::sync::Arc;

use super::{
    Claim, Claimed, Content, ContentWriter, Count, Entry, Finish, NewMessage, OperatorAction, Page,
    Place, Record, Selection, SpoolFuture, Story, Used,
};
use crate::base::{BoxFuture, MessageId, Timestamp};

/// The spool for callers that bring messages.
pub trait Intake: Send + Sync + 'static {
    /// An id for a new message.
    fn next_id(&self, now: Timestamp) -> MessageId;

    /// A writer for the content of a new message, as it arrives.
    fn writer(&self, id: MessageId) -> ContentWriter;

    /// True if there is room for another message, as far as this can be known in advance.
    fn has_room(&self) -> BoxFuture<'_, bool>;

    /// Accepts all the messages or none: once this returns `Ok`, they are on stable storage.
    fn put(&self, messages: Vec<NewMessage>) -> SpoolFuture<'_, ()>;
}

/// The spool for callers that read contents.
pub trait Contents: Send + Sync + 'static {
    /// The content of a message.
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

/// The spool for delivery. Nobody else gets a claimed message until the claim is finished or released, or
/// its time ends.
pub trait Work: Contents {
    /// The time, as far as known, at which the next unclaimed message of each place is due. Places without
    /// such messages are left out.
    fn waiting(&self) -> SpoolFuture<'_, Vec<(Place, Timestamp)>>;

    /// Claims up to `max` messages until `until`.
    fn claim(
        &self,
        which: ClaimFrom,
        max: usize,
        now: Timestamp,
        until: Timestamp,
    ) -> SpoolFuture<'_, Vec<Claimed>>;

    /// The lines that a digest has so far, with their numbers, in order.
    fn lines(&self, digest: MessageId) -> SpoolFuture<'_, Vec<(u64, String)>>;

    /// Marks a claimed message as being sent from now on; before, it only waits for its turn.
    fn sending(&self, claim: Claim);

    /// Extends claims until `until`. Returns the claims that were lost to others.
    fn renew(&self, claims: Vec<Claim>, until: Timestamp) -> SpoolFuture<'_, Vec<Claim>>;

    /// Ends claims and stores the fates of their messages durably: all of them or none. If a claim was lost
    /// to others, its events are stored, but its message stays unchanged. Returns the lost claims. The batch
    /// is shared, so that the caller can try again.
    fn finish(&self, batch: Arc<[Finish]>) -> SpoolFuture<'_, Vec<Claim>>;

    /// Releases claims, with their messages unchanged.
    fn release(&self, claims: Vec<(Claim, Place)>);

    /// Waits until a message may have become due since the last call.
    fn changed(&self) -> BoxFuture<'_, ()>;
}

/// The spool for delivery's occasional upkeep.
pub trait Upkeep: Send + Sync + 'static {
    /// Queued messages after `after` that were accepted before `before`, oldest first, at most `limit`.
    fn late(
        &self,
        after: Option<MessageId>,
        before: Timestamp,
        limit: usize,
    ) -> SpoolFuture<'_, Vec<Record>>;

    /// Moves messages whose lane is not among `lanes` to the lane `""`, to be routed again. If the lane is
    /// in `held`, its messages are held instead, for the reason given there.
    fn reroute(&self, lanes: Vec<String>, held: Vec<(String, String)>) -> SpoolFuture<'_, ()>;

    /// Removes some of the stories that need not be kept any longer. Returns true if there may be more.
    fn purge(&self, now: Timestamp) -> SpoolFuture<'_, bool>;
}

/// The spool for the usage of mailboxes: how much of its limits per minute and per day each one has used.
pub trait Ledger: Send + Sync + 'static {
    /// The amounts that mailboxes have used from `since` on.
    fn used(&self, since: Timestamp) -> SpoolFuture<'_, Vec<Used>>;

    /// Stores the story of a message that was never in the queue, and how much of a mailbox's limits it
    /// used.
    fn add_story(&self, story: Story, used: Option<Used>) -> SpoolFuture<'_, ()>;
}

/// The spool for small facts, stored by name.
pub trait Notes: Send + Sync + 'static {
    /// Stores a fact under its name, or removes it.
    fn note(&self, name: &str, value: Option<String>) -> SpoolFuture<'_, ()>;

    /// The facts whose names begin with `prefix`.
    fn notes(&self, prefix: &str) -> SpoolFuture<'_, Vec<(String, String)>>;
}

/// The spool for operators.
pub trait Manage: Contents {
    /// Queued and held messages, oldest first.
    fn list(&self, page: Page) -> SpoolFuture<'_, Vec<Entry>>;

    /// One message.
    fn get(&self, id: MessageId) -> SpoolFuture<'_, Entry>;

    /// Applies an action to messages that nobody has claimed. Returns the number of messages.
    fn act(&self, which: Selection, deed: OperatorAction, now: Timestamp)
    -> SpoolFuture<'_, usize>;

    /// The number of messages by server and state. The call takes the same time however many messages
    /// there are.
    fn counts(&self) -> SpoolFuture<'_, Vec<Count>>;

    /// A message's story, while it is in the queue and for as long as stories are kept.
    fn story(&self, id: MessageId) -> SpoolFuture<'_, Story>;

    /// The stories that contain an address, any address at a domain (`@domain`), or a Message-ID in angle
    /// brackets: the newest `limit`, oldest first.
    fn stories(&self, address: &str, limit: usize) -> SpoolFuture<'_, Vec<Story>>;
}

/// All of the spool that delivery uses.
pub trait Spool: Intake + Work + Upkeep + Ledger + Notes {}

impl<T: Intake + Work + Upkeep + Ledger + Notes> Spool for T {}
