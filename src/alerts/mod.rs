//! Notifies people of problems that need action: once per cause, and again when the problem ends.
//!
//! ```text
//! state of the program ─▶ conditions ─▶ active ─▶ log, metric, page
//!                                          └─ Notice ─▶ channels: webhook, command, mail
//! ```

mod active;
mod channel;
mod conditions;
mod message;
mod send;
mod watch;

pub(crate) use channel::{AlertChannel, Way, WebhookForm};
pub(crate) use conditions::AlertThresholds;
pub(crate) use watch::{AlertSettings, Alerts};
