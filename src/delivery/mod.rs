//! From the spool to the upstream: each message that is due is sent, and each attempt ends in one fate.
//!
//! ```text
//! spool ─ claim ─▶ scheduler ─▶ desk (per mailbox) ───▶ worker ─▶ attempt ─ sending ─▶ transport
//!   ▲                           queue, sessions,                    │ Outcome
//!   │                           usage, hold ◀── mailbox ─ Finding ──┤
//!   └── fates ◀── report, fact ◀── Settled ── settle (pure) ◀───────┘
//! ```
//!
//! [`world`](self) holds everything that lives as long as the process, `plan` holds one configuration.
//! `direct` and `test` send through `sending` too, but treat the outcome differently. `patrol` takes care of
//! messages that have waited long.

mod attempt;
pub(crate) mod bounce;
mod clock_step;
mod control;
mod desk;
mod desks;
mod direct;
mod fact;
pub(crate) mod fair;
mod fallback;
mod fates;
mod hold;
mod hold_notes;
mod lanes;
mod leases;
mod mailbox;
mod options;
mod orphans;
mod patrol;
mod plan;
mod report;
pub(crate) mod retry;
mod returned;
mod scheduler;
mod sending;
mod server;
mod sessions;
mod settings;
mod settle;
mod shared_holds;
mod storms;
mod test;
pub(crate) mod usage;
mod worker;
mod world;

pub use control::{Delivery, Pause, ServerState};
pub use direct::DirectOutcome;
pub use hold::{Hold, HoldCause};
pub use options::{DeliveryOptions, Uncertain};
pub use returned::Returned;
pub use server::{Fallback, Server};
pub use settings::DeliverySettings;
pub use test::test_stopped;
pub use usage::{BackOff, MailboxLimits};
