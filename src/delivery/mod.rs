//! From the spool to the upstream: what is due is sent, and each attempt ends in one fate.
//!
//! ```text
//! spool ─ fresh, claim ─▶ scheduler ─▶ lane (one a server) ─▶ attempt ─ routing, rewrite ─▶ upstream
//!                                       │                        └▶ outcome ─ retry ─ bounce
//!                                       └ sessions, kept warm             └▶ Finish ─▶ spool
//! ```

mod attempt;
pub mod bounce;
pub mod lane;
pub mod outcome;
pub mod probe;
pub mod retry;
pub mod scheduler;
mod settle;
mod trouble;

pub use lane::{Hold, Server};
pub use retry::Schedule;
pub use scheduler::{Delivery, Settings};
