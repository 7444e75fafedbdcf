//! The operator's view: the mail log with one function for each event, the writing of logs, and the counters.
//!
//! No event contains subjects, bodies, passwords or tokens.

mod format;
pub(crate) mod logging;
pub(crate) mod maillog;
pub mod mask;
pub(crate) mod metrics;
mod writer;
