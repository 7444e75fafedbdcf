//! Why a request was not carried out, with the kind of reason that scripts tell apart.

use serde::{Deserialize, Serialize};

use super::accounts::AccountsError;
use crate::spool::SpoolError;
use crate::token::{TokenError, VaultError};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub(crate) struct OperatorError {
    /// The kind.
    pub kind: ErrorKind,
    /// The reason in words, with the remedy.
    pub text: String,
}

/// The kind of a reason; each has an exit code of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ErrorKind {
    /// The answer is no: not there, refused, or not in that state.
    No,
    /// Something that is needed is not available: a program that runs, a file, a disk, a port.
    Unavailable,
}

impl OperatorError {
    /// The answer is no.
    pub(crate) fn no(text: impl ToString) -> Self {
        Self {
            kind: ErrorKind::No,
            text: text.to_string(),
        }
    }

    /// Something is not available.
    pub(crate) fn unavailable(text: impl ToString) -> Self {
        Self {
            kind: ErrorKind::Unavailable,
            text: text.to_string(),
        }
    }

    /// There is no server of this name.
    pub(crate) fn no_server(server: &str) -> Self {
        Self::no(format!(
            "there is no server named {server}; see `mailferry servers`"
        ))
    }

    /// The other side is another version of the program.
    pub(crate) fn other_version() -> Self {
        Self::unavailable(
            "the running mailferry answers what this command does not understand: it is another version; restart it",
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
