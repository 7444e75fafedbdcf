//! What an operator sees: the mail log, one function for each event, and how logs are written.
//!
//! Subjects, bodies, passwords and tokens are in no event.

pub mod logging;
pub mod maillog;
