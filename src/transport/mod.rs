//! The way out: a message goes to an upstream server, and what came of it is told in the same words
//! whatever the server speaks. SMTP is the only way so far.
//!
//! ```text
//! delivery ─ open, send ─▶ Transport ─ smtp: session, reply, table ─▶ server
//!    ▲                         │
//!    └── Outcome, Interruption ┘  (each with what it shows of the mailbox: Finding)
//! ```
//!
//! Codes, stages and the table of answers stay inside [`smtp`]: delivery decides by [`Outcome`] alone.

pub(crate) mod answer;
pub(crate) mod finding;
pub(crate) mod link;
pub(crate) mod outcome;
pub(crate) mod outgoing;
pub mod smtp;
pub(crate) mod step;
pub(crate) mod upstream;

pub use answer::Answer;
pub use finding::{Finding, Patience, Until};
pub use link::{Link, Transport};
pub use outcome::{FailedRecipient, Interruption, Outcome, Progress};
pub use outgoing::{Body, Outgoing};
pub use step::{Step, Steps};
pub use upstream::Upstream;
