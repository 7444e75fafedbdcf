//! What an operator sees: the mail log, one function for each event, how logs are
//! written, and what is counted.
//!
//! Subjects, bodies, passwords and tokens are in no event.

mod format;
pub mod logging;
pub mod maillog;
pub mod mask;
pub mod metrics;
mod writer;
