//! The durable queue. A message that it has accepted survives a crash; a message that it hands out is
//! claimed, not removed.
//!
//! | state | on the disk | who ends the state | after a crash |
//! | --- | --- | --- | --- |
//! | arriving | nothing, or a file in `content/` without a row | the listener, with `put` | nothing was promised; when the spool is next opened, an unfinished file is removed, and a finished one is moved to `lost/`, because the disk may have lost its row |
//! | queued | a row with state 0, content in the row or in a file | delivery, with `claim` | still queued |
//! | claimed | the same as queued | delivery, with `finish` or `release` | queued, because a claim ends with its process |
//! | held | a row with state 1 and the reason | the operator, with `act` | still held |
//! | gone | its story, for as long as stories are kept | - | still gone, unless the crash came between the upstream's 250 and the commit of `finish`: then the message is still queued, and may be delivered twice |
//!
//! A message is accepted when `put` commits: its row and its content are then on stable storage. The file of
//! a larger content, and its folder, are synced before that. A report to the sender is stored in the
//! transaction that ends the reported message, so there is exactly one report.
//!
//! Callers use the spool through its traits: [`Intake`] is for adding messages, [`Work`] for delivering them,
//! [`Upkeep`] for delivery's occasional tasks, [`Ledger`] and [`Notes`] for data that delivery must not lose,
//! [`Stories`] for what happened to messages, and [`Manage`] for operators. All times in the spool follow the [time of the spool](time).
//!
//! Every message has a lane (the server that the message waits for) and, within the lane, a flow (its
//! priority and its user). Delivery simply does not claim from a lane or flow that is full or held, so
//! messages that wait there do not slow down other messages.

mod acted;
mod claim;
pub(crate) mod content;
pub mod copy;
mod due;
mod error;
pub(crate) mod filter;
pub mod folder;
mod fresh;
pub(crate) mod lease;
mod lock;
mod open;
pub mod postgres;
mod quota;
pub(crate) mod record;
mod settings;
mod shape;
mod shown;
mod spending;
pub mod sqlite;
pub(crate) mod story;
pub mod time;
mod tokens;
mod traits;

pub use acted::Acted;
pub use claim::{Addition, Claim, Claimed, DigestLines, Fate, Finish, NewMessage};
pub use content::{Content, ContentWriter};
pub use error::{DatabaseFault, SpoolError, SpoolFuture};
pub use filter::{
    OperatorAction, Page, QueueFilter, Selection, StateFilter, StoryFilter, StoryResult,
};
pub use lease::{Count, Entry, Lease, NodeRow, Owner, SpoolMeasures};
pub use open::{copyable, exists, is_in_use, open, visit};
pub use postgres::PostgresSpool;
pub use quota::{NoQuota, Quota};
pub use record::{Flow, Origin, Place, Record, State};
pub use settings::SpoolSettings;
pub use shape::Fingerprint;
pub use shown::ShownSpool;
pub use spending::{Permission, SessionLease, Spending};
pub use sqlite::SqliteSpool;
pub use story::{EventKind, Story, StoryEvent, Used};
pub use traits::{
    ClaimFrom, Contents, Intake, Ledger, Manage, Notes, Spool, Stories, Upkeep, WholeSpool, Work,
    keep, kept,
};
