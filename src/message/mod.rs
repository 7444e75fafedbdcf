//! A message: its addresses, envelope and header section, and how it is rewritten. Pure functions.

pub(crate) mod address;
mod delivery_report;
pub(crate) mod envelope;
pub(crate) mod header;
pub mod mailbox;
mod phrase;
pub(crate) mod priority;
pub mod rewrite;

pub use address::{Address, AddressError, ReversePath};
pub use delivery_report::{BouncedRecipient, DeliveryReport, may_be_report};
pub use envelope::{Envelope, Parameters, Recipient};
pub use header::{Author, Headers};
pub use mailbox::Mailbox;
pub use phrase::text_of;
pub use priority::Priority;
pub use rewrite::{Composed, ReplyTo, Rewriting, Shown, Trace};
