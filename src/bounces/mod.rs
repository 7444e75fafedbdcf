//! Reads delivery reports (bounces) in the mailboxes that mailferry sends from, because Exchange reports there
//! what fails after it has accepted a message.
//!
//! ```text
//! watch (a task per mailbox) ─ incoming: sign-in, token ─▶ mail server
//!    │ visit: which messages are new, which are reports         client: IMAP's commands
//!    └ DeliveryReport ─▶ delivery: finds the message, extends its story, notifies the app's sender
//! ```
//!
//! Only reports about messages that mailferry sent are marked, moved or deleted. Other mail is only examined, and
//! stays unread.

mod client;
mod handled;
mod progress;
mod visit;
pub(crate) mod watch;
pub(crate) mod watched;

pub use handled::{Folder, FolderError, Handled};
pub use watch::Bounces;
pub use watched::WatchedMailbox;
