//! From the spool to the upstream: what is due is sent, and each attempt ends in one fate.
//!
//! ```text
//! spool ─ fresh, claim ─▶ scheduler ─▶ lane (one a server) ─▶ attempt ─ routing, transmit ─▶ upstream
//!              │                        │ fair: whose turn         └▶ outcome ─▶ settle ─ retry, notice ─ bounce
//!              │                        └ mailbox: sessions, usage, holds            └▶ Finish ─▶ spool
//!              ├──────────▶ patrol: whose message waits long is told so, and at last that it is given up
//!              └──────────▶ step: the wall clock was set, which the time of the spool does not follow
//! ```

mod attempt;
pub mod bounce;
mod context;
pub mod fair;
pub mod lane;
mod mailbox;
mod notice;
pub mod outcome;
mod patrol;
pub mod probe;
pub mod retry;
pub mod scheduler;
mod settle;
mod step;
mod transmit;
mod trouble;
pub mod usage;

pub use lane::Server;
pub use mailbox::Hold;
pub use retry::Schedule;
pub use scheduler::{Delivery, ServerState, Settings};
pub use settle::Uncertain;
pub use usage::{BackOff, Limits};
