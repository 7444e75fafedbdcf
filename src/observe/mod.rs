//! What an operator sees: the mail log, one function for each event, how logs are
//! written, and what is counted.
//!
//! Subjects, bodies, passwords and tokens are in no event.

mod format;
pub(crate) mod logging;
pub(crate) mod maillog;
pub mod mask;
pub(crate) mod metrics;
mod writer;
