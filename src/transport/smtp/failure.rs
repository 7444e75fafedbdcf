//! Why a session could not begin, or ended.

use super::stage::Stage;
use crate::transport::answer::Answer;

/// Why a session could not begin, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No connection.
    #[error("{host}:{port} was not reached: {reason}")]
    Unreachable {
        /// Host.
        host: String,
        /// Port.
        port: u16,
        /// What happened.
        reason: String,
    },
    /// The handshake failed.
    #[error("TLS with {host} failed: {reason}")]
    Tls {
        /// Host.
        host: String,
        /// What happened.
        reason: String,
    },
    /// The server said no to the session itself.
    #[error("{host} answered {answer} at {stage}{}", detail.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused {
        /// Host.
        host: String,
        /// Where.
        stage: Stage,
        /// Its words.
        answer: Answer,
        /// What came before them: the JSON of XOAUTH2's error challenge.
        detail: Option<String>,
    },
    /// The connection ended.
    #[error("connection to {host} lost at {stage}: {reason}")]
    Lost {
        /// Host.
        host: String,
        /// Where.
        stage: Stage,
        /// What happened.
        reason: String,
    },
    /// The content could not be read.
    #[error("{0}")]
    Content(String),
}

impl Failure {
    /// Where in the conversation it was.
    pub fn stage(&self) -> Stage {
        match self {
            Self::Unreachable { .. } => Stage::Connect,
            Self::Tls { .. } => Stage::Tls,
            Self::Refused { stage, .. } | Self::Lost { stage, .. } => *stage,
            Self::Content(_) => Stage::Content,
        }
    }

    /// The server's words, where it said any.
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Refused { answer, .. } => Some(answer),
            _ => None,
        }
    }
}
