//! Bounces come home: mailferry reads the delivery reports in the mailboxes that it sends from, because
//! Exchange says there what it cannot deliver after its 250.
//!
//! ```text
//! watch (a task per mailbox) ─ incoming: sign-in, token ─▶ mail server
//!    │ visit: which messages are new, what becomes of each      client: IMAP's commands
//!    └ DeliveryReport ─▶ delivery: finds the message, extends its story, tells the app's sender
//! ```
//!
//! Only reports about messages that mailferry sent are marked, moved or deleted. Other mail is looked at, but
//! not even marked as read.

mod client;
mod handled;
mod progress;
mod visit;
pub(crate) mod watch;
pub(crate) mod watched;

pub use handled::{Folder, FolderError, Handled};
pub use watch::Bounces;
pub use watched::WatchedMailbox;
