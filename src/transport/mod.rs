//! The way out: sends a message to an upstream server and reports the result in the same terms for every
//! protocol. SMTP is the only protocol so far.
//!
//! ```text
//! delivery ─ open, send ─▶ Transport ─ smtp: session, reply, table ─▶ server
//!    ▲                         │
//!    └── Outcome, Interruption ┘  (each with its Finding about the mailbox, if any)
//! ```
//!
//! Codes, stages and the table of replies stay inside [`smtp`]: delivery decides by [`Outcome`] and
//! [`Interruption`] only. The crate mail-send opens the TCP connections; see [`RemoteHost`].

pub(crate) mod answer;
pub(crate) mod finding;
pub(crate) mod link;
pub(crate) mod outcome;
pub(crate) mod outgoing;
pub(crate) mod remote;
pub mod smtp;
pub(crate) mod step;
pub(crate) mod upstream;

pub use answer::Answer;
pub use finding::{Finding, Patience, Until};
pub use link::{Link, Transport};
pub use outcome::{FailedRecipient, Interruption, Outcome, Progress};
pub use outgoing::{Body, Outgoing};
pub use remote::{ConnectError, RemoteHost, Tls};
pub use step::{Step, Steps};
pub use upstream::Upstream;
