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

pub mod answer;
pub mod finding;
pub mod link;
pub mod outcome;
pub mod outgoing;
pub mod smtp;
pub mod step;
pub mod upstream;

pub use answer::Answer;
pub use finding::{Finding, Patience, Until};
pub use link::{Link, Transport};
pub use outcome::{Interruption, Outcome, Progress, Refused};
pub use outgoing::{Body, Outgoing};
pub use step::{Step, Steps};
pub use upstream::Upstream;
