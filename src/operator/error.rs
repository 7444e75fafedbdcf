//! The reason why a request was not carried out, with a kind that scripts recognize by the exit code.

use serde::{Deserialize, Serialize};

use super::accounts::AccountsError;
use crate::spool::SpoolError;
use crate::token::{TokenError, VaultError};

/// The reason why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub(crate) struct OperatorError {
    /// The kind.
    pub kind: ErrorKind,
    /// The reason in words, with the remedy.
    pub text: String,
}

/// The kind of a reason. Each kind has its own exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ErrorKind {
    /// The answer is no: the request was refused, or it names something that does not exist or is in the
    /// wrong state.
    No,
    /// Something needed is not available: a running program, a file, a disk, a port.
    Unavailable,
}

impl OperatorError {
    /// Returns an error of the kind [`ErrorKind::No`].
    pub(crate) fn no(text: impl ToString) -> Self {
        Self {
            kind: ErrorKind::No,
            text: text.to_string(),
        }
    }

    /// Returns an error of the kind [`ErrorKind::Unavailable`].
    pub(crate) fn unavailable(text: impl ToString) -> Self {
        Self {
            kind: ErrorKind::Unavailable,
            text: text.to_string(),
        }
    }

    /// Returns the error for a server name that does not exist.
    pub(crate) fn no_server(server: &str) -> Self {
        Self::no(format!(
            "there is no server named {server}; see `mailferry servers`"
        ))
    }

    /// Returns the error for a running program of a different version.
    pub(crate) fn other_version() -> Self {
        Self::unavailable(
            "the running mailferry is a different version, and this command does not understand its answer; restart mailferry",
        )
    }
}

impl From<SpoolError> for OperatorError {
    fn from(error: SpoolError) -> Self {
        match error {
            SpoolError::Missing(_) | SpoolError::Unknown(_) => Self::no(error),
            _ => Self::unavailable(error),
        }
    }
}

impl From<VaultError> for OperatorError {
    fn from(error: VaultError) -> Self {
        Self::unavailable(error)
    }
}

impl From<AccountsError> for OperatorError {
    fn from(error: AccountsError) -> Self {
        match error {
            AccountsError::Listen { .. }
            | AccountsError::TooMany
            | AccountsError::Vault(_)
            | AccountsError::Token(TokenError::Vault(_)) => Self::unavailable(error),
            _ => Self::no(error),
        }
    }
}
