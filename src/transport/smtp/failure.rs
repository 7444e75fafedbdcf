//! The reason why a session could not begin, or why it ended.

use super::stage::Stage;
use crate::transport::answer::Answer;
use crate::transport::remote::ConnectError;

/// The reason why a session could not begin, or why it ended.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is no protected connection to the server.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server refused the session itself.
    #[error("{host} answered {answer} at {stage}{}", detail.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused {
        /// Host.
        host: String,
        /// The stage.
        stage: Stage,
        /// The server's reply.
        answer: Answer,
        /// Details that the server sent before its reply: the JSON of XOAUTH2's error challenge.
        detail: Option<String>,
    },
    /// The connection was lost.
    #[error("connection to {host} lost at {stage}: {reason}")]
    Lost {
        /// Host.
        host: String,
        /// The stage.
        stage: Stage,
        /// The cause.
        reason: String,
    },
    /// The message content could not be read from the spool.
    #[error("{0}")]
    Content(String),
}

impl Failure {
    /// Returns the stage of the conversation at which the session failed.
    pub fn stage(&self) -> Stage {
        match self {
            Self::Connect(ConnectError::Unreachable { .. }) => Stage::Connect,
            Self::Connect(ConnectError::Tls { .. }) => Stage::Tls,
            Self::Refused { stage, .. } | Self::Lost { stage, .. } => *stage,
            Self::Content(_) => Stage::Content,
        }
    }

    /// Returns the server's reply, if there was one.
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Refused { answer, .. } => Some(answer),
            _ => None,
        }
    }
}
