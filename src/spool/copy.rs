//! Copies a spool to another engine: the queue, the stories, the usage of mailboxes, and the notes. Neither spool can be
//! used to accept or send messages from the first step to the last, so no message can be sent from both. A copy that was
//! interrupted goes on where it stopped.

mod plan;

use std::sync::Arc;

use super::content::ContentWriter;
use super::traits::{Intake, Ledger, Manage, Upkeep, Work};
use super::{Content, NewMessage, Origin, Page, Record, SpoolError, SpoolFuture, Story, Used};
use crate::base::{Clock, MessageId, Timestamp, limits};
pub use plan::CopyRefused;
pub(super) use plan::{CopyMark, MARK};
use plan::{Role, Step};
use tokio::io::AsyncReadExt;

/// The number of messages, or of stories, in one transaction.
const GROUP: usize = 256;

/// The maximum size (octets) of the contents of one transaction, besides the first one.
const GROUP_BYTES: u64 = 16 * 1024 * 1024;

/// Notes that belong to one engine, and are not copied.
const OWN_NOTES: [&str; 3] = [MARK, super::time::NOTE, "indexed"];

/// A message with the lines of its digest.
pub struct CopiedMessage {
    /// The message. The size of a digest is that without its lines.
    pub message: NewMessage,
    /// The lines, if the message is a digest.
    pub lines: Vec<String>,
}

/// The facts that are copied together at the end.
pub struct CopiedFacts {
    /// The usage of mailboxes.
    pub used: Vec<Used>,
    /// Notes by name.
    pub notes: Vec<(String, String)>,
    /// The time of the spool.
    pub now: Timestamp,
}

/// A spool that can be copied, or copied to, while no other process uses it.
pub trait Copyable: Intake + Work + Ledger + Upkeep + Manage {
    /// Returns the number of messages whose fate is not known, because a node has died.
    fn uncertain(&self) -> SpoolFuture<'_, usize>;

    /// Sets or removes the mark, unless another process uses the spool to accept and send messages.
    fn mark(&self, mark: Option<String>) -> SpoolFuture<'_, ()>;

    /// Returns the newest message of the queue, and the newest story.
    fn newest(&self) -> SpoolFuture<'_, (Option<MessageId>, Option<MessageId>)>;

    /// Returns at most `limit` stories, oldest first, after this one.
    fn stories_after(&self, after: Option<MessageId>, limit: usize) -> SpoolFuture<'_, Vec<Story>>;

    /// Stores messages, all or none, in the state that they have.
    fn add_messages(&self, messages: Vec<CopiedMessage>) -> SpoolFuture<'_, ()>;

    /// Stores stories, all or none.
    fn add_stories(&self, stories: Vec<Story>) -> SpoolFuture<'_, ()>;

    /// Replaces usage, notes and time.
    fn set_facts(&self, facts: CopiedFacts) -> SpoolFuture<'_, ()>;

    /// Removes everything except the mark.
    fn clear(&self) -> SpoolFuture<'_, ()>;
}

/// A spool, and the name by which people know it.
pub type Named = (Arc<dyn Copyable>, String);

/// The numbers of copied items.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Copied {
    /// Messages of the queue.
    pub messages: usize,
    /// Stories of the history.
    pub stories: usize,
}

/// The reason why a spool was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The spools must not be copied like that.
    #[error(transparent)]
    Refused(#[from] CopyRefused),
    /// A spool could not be read or written.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// Begins to copy, or goes on: from now on, neither spool can be used to accept or send messages. Returns false if the
/// copy is already complete.
pub async fn begin((source, from): &Named, (target, to): &Named) -> Result<bool, CopyError> {
    let (theirs, ours) = (mark(source.as_ref()).await?, mark(target.as_ref()).await?);
    let is_empty = target.newest().await? == (None, None);
    let step = plan::step((from, theirs.as_ref()), (to, ours.as_ref()), is_empty)?;
    match step {
        Step::Done => return Ok(false),
        Step::GoOn => set(target.as_ref(), Role::Target, from).await?,
        Step::Begin { clears } => {
            let uncertain = source.uncertain().await?;
            if uncertain > 0 {
                return Err(CopyRefused::Uncertain(uncertain).into());
            }
            set(source.as_ref(), Role::Source, to).await?;
            // Nobody uses the target while it has its former mark. After a crash with the new mark, the copy would go on
            // beside what should have been removed.
            if clears {
                target.clear().await?;
            }
            if let Err(error) = set(target.as_ref(), Role::Target, from).await {
                if theirs.is_none() {
                    source.mark(None).await?;
                }
                return Err(error.into());
            }
        }
    }
    Ok(true)
}

/// Copies what the target does not have yet. Tells `so_far` how much is done.
pub async fn run(
    (source, _): &Named,
    (target, _): &Named,
    clock: &Clock,
    so_far: &dyn Fn(Copied),
) -> Result<Copied, CopyError> {
    let (source, target) = (source.as_ref(), target.as_ref());
    let (message, story) = target.newest().await?;
    let mut done = Copied::default();
    // A story has more to find a message by than the message of the queue, so it comes first.
    let mut after = story;
    loop {
        let stories = source.stories_after(after, GROUP).await?;
        let Some(last) = stories.last() else { break };
        after = Some(last.record.id);
        done.stories += stories.len();
        target.add_stories(stories).await?;
        so_far(done);
    }
    let mut after = message;
    loop {
        let page = Page {
            after,
            limit: GROUP,
            ..Page::default()
        };
        let entries = source.list(page).await?;
        let Some(last) = entries.last() else { break };
        after = Some(last.record.id);
        let mut records = entries.into_iter().map(|entry| entry.record).peekable();
        while records.peek().is_some() {
            let group = group(source, target, &mut records).await?;
            done.messages += group.len();
            target.add_messages(group).await?;
            so_far(done);
        }
    }
    let mut notes = source.notes("").await?;
    notes.retain(|(name, _)| !OWN_NOTES.contains(&name.as_str()));
    let facts = CopiedFacts {
        used: source.used(Timestamp(0)).await?,
        notes,
        now: clock.now(),
    };
    target.set_facts(facts).await?;
    Ok(done)
}

/// Ends a copy: the target can be used from now on, the source no longer.
pub async fn end((source, _): &Named, (target, to): &Named) -> Result<(), CopyError> {
    set(source.as_ref(), Role::Left, to).await?;
    Ok(target.mark(None).await?)
}

/// Gives up a copy that is not complete: the source can be used as before, and the target is empty.
pub async fn undo((source, from): &Named, (target, to): &Named) -> Result<(), CopyError> {
    let (theirs, ours) = (mark(source.as_ref()).await?, mark(target.as_ref()).await?);
    let clears = plan::undo((from, theirs.as_ref()), (to, ours.as_ref()))?;
    if clears {
        target.clear().await?;
        target.mark(None).await?;
    }
    Ok(source.mark(None).await?)
}

/// Returns the mark of a spool; `None` if it has none.
async fn mark(spool: &dyn Copyable) -> Result<Option<CopyMark>, SpoolError> {
    let notes = spool.notes(MARK).await?;
    let note = notes.into_iter().find(|(name, _)| name == MARK);
    Ok(note.map(|(_, text)| CopyMark::parse(&text)))
}

async fn set(spool: &dyn Copyable, role: Role, other: &str) -> Result<(), SpoolError> {
    let other = other.to_owned();
    spool.mark(Some(CopyMark { role, other }.text())).await
}

/// Reads messages for one transaction.
async fn group(
    source: &dyn Copyable,
    target: &dyn Copyable,
    records: &mut std::iter::Peekable<impl Iterator<Item = Record>>,
) -> Result<Vec<CopiedMessage>, CopyError> {
    let (mut group, mut octets) = (Vec::new(), 0);
    while let Some(record) = records.peek()
        && (group.is_empty() || octets + record.size <= GROUP_BYTES)
        && let Some(record) = records.next()
    {
        octets += record.size;
        group.push(message(source, target, record).await?);
    }
    Ok(group)
}

async fn message(
    source: &dyn Copyable,
    target: &dyn Copyable,
    mut record: Record,
) -> Result<CopiedMessage, CopyError> {
    // A record that cannot be read is shown without recipients.
    if record.envelope.recipients.is_empty() {
        return Err(CopyRefused::Damaged(record.id).into());
    }
    if record.origin == Origin::Digest {
        let lines = source.lines(record.id).await?;
        let lines: Vec<String> = lines.into_iter().map(|(_, line)| line).collect();
        let size: usize = lines.iter().map(String::len).sum();
        record.size = record.size.saturating_sub(size as u64);
        let content = Content::Memory(Default::default());
        let message = NewMessage { record, content };
        return Ok(CopiedMessage { message, lines });
    }
    let content = source.content(record.id).await?;
    let content = match content {
        Content::Memory(_) => content,
        Content::Stored(_) => stored(&content, target.writer(record.id)).await?,
    };
    Ok(CopiedMessage {
        message: NewMessage { record, content },
        lines: Vec::new(),
    })
}

/// Copies a large content to the target's storage.
async fn stored(content: &Content, mut writer: ContentWriter) -> Result<Content, SpoolError> {
    let mut reader = content.open().await?;
    loop {
        let mut piece = Vec::with_capacity(limits::FILE_CHUNK);
        let read = (&mut reader)
            .take(limits::FILE_CHUNK as u64)
            .read_to_end(&mut piece)
            .await;
        match read.map_err(|error| SpoolError::io("the message's content".as_ref(), error))? {
            0 => return writer.finish().await,
            _ => writer.write(piece).await?,
        }
    }
}
