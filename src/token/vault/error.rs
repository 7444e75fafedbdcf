//! Why the vault did not do it, with what to do about it.

use std::path::Path;

/// The format that this program writes.
pub(super) const VERSION: u32 = 1;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The key is none.
    #[error(
        "{0} is not a vault key, which is 32 bytes in base64 as `mailferry vault new-key` prints them; restore it from a backup, or make one and connect again"
    )]
    BadKey(String),
    /// The key does not open the file, or the file was changed.
    #[error(
        "{0} cannot be decrypted: it was written with another vault key, or damaged; restore the key from a backup, or remove the file and connect again"
    )]
    WrongKey(String),
    /// The key's file is gone, what it sealed is not.
    #[error(
        "{path} is missing, and {folder} has tokens that it sealed: restore it from a backup, or remove the .token files and connect again"
    )]
    NoKey {
        /// The key's file.
        path: String,
        /// The vault.
        folder: String,
    },
    /// Another process has it open.
    #[error("the vault in {folder} is in use by another mailferry process{pid}")]
    InUse {
        /// The vault.
        folder: String,
        /// Which, as far as it said.
        pid: String,
    },
    /// Written by a later version of the program.
    #[error(
        "{path} was written by a later version of mailferry (format {found}, this one knows {VERSION}): run that version"
    )]
    Newer {
        /// Which.
        path: String,
        /// Its format.
        found: u32,
    },
}

/// A file that could not be read or written.
pub(super) fn io(path: &Path, source: std::io::Error) -> VaultError {
    VaultError::Io {
        path: path.display().to_string(),
        source,
    }
}
