//! Requests that change the whole process, with an answer: reload the configuration, drain this node.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::base::Timestamp;

/// The result of a reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reloaded {
    /// The configuration that is in use now.
    pub file: String,
    /// The changed settings that need a restart.
    pub needs_restart: Vec<String>,
}

/// How far a node is that is being taken out of service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DrainRow {
    /// The time at which it began.
    pub since: Timestamp,
    /// The sessions with apps that have not ended yet, at listeners that other machines reach.
    pub sessions: usize,
    /// True if no more messages are being sent.
    pub is_quiet: bool,
    /// True if there is nothing left to wait for.
    pub is_done: bool,
}

impl DrainRow {
    /// Returns in words what it still waits for.
    pub(crate) fn left(&self) -> String {
        let sessions = match self.sessions {
            1 => "1 session with an app".to_owned(),
            sessions => format!("{sessions} sessions with apps"),
        };
        match self.is_quiet {
            true => format!("{sessions} left"),
            false => format!("{sessions} left, and messages that are being sent"),
        }
    }
}

/// How far this node is; `None` unless it is being taken out of service.
pub(crate) type SharedDrain = Arc<ArcSwapOption<DrainRow>>;

/// The way back to the person who asked; an error is in words for people.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, String>>;

/// A request that changes the whole process.
pub(crate) enum ProcessRequest {
    /// Reread the configuration.
    Reload(Answer<Reloaded>),
    /// Take this node out of service. The second field is how long sessions may go on.
    Drain(Answer<()>, Duration),
    /// Put this node back into service.
    Undrain(Answer<()>),
}

/// The maximum number of requests that wait. More are refused.
const WAITING: usize = 4;

/// Returns the two ends of the way to the part of the program that carries these requests out.
pub(crate) fn channel() -> (mpsc::Sender<ProcessRequest>, mpsc::Receiver<ProcessRequest>) {
    mpsc::channel(WAITING)
}
