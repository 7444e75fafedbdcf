//! Reloading the configuration on request, with an answer.

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

/// The result of a reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reloaded {
    /// The configuration that is in use now.
    pub file: String,
    /// The changed settings that need a restart.
    pub needs_restart: Vec<String>,
}

/// A request to reload, answered with the result, or with what is wrong with the configuration.
pub(crate) type ReloadRequest = oneshot::Sender<Result<Reloaded, String>>;

/// The maximum number of requests that wait. More are refused.
const WAITING: usize = 4;

/// Returns the two ends of the way to the part of the program that reloads.
pub(crate) fn channel() -> (mpsc::Sender<ReloadRequest>, mpsc::Receiver<ReloadRequest>) {
    mpsc::channel(WAITING)
}
