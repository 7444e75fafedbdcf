//! Errors of the vault, each with a remedy.

use std::path::Path;

/// The version of the format that this program writes.
pub(super) const VERSION: u32 = 1;

/// An error of the vault.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The text is not a key.
    #[error(
        "{0} is not a vault key, which is 32 bytes in base64 as `mailferry vault new-key` prints them; restore the key from a backup, or make a new one and connect again"
    )]
    BadKey(String),
    /// The key does not decrypt the file, or the file was changed.
    #[error(
        "{0} cannot be decrypted: it was encrypted with a different vault key, or is damaged; restore the key from a backup, or remove the file and connect again"
    )]
    WrongKey(String),
    /// The key file is missing, but files that it sealed are still there.
    #[error(
        "the key file {path} is missing, and {folder} has tokens that were encrypted with it: restore it from a backup, or remove the .token files and connect again"
    )]
    NoKey {
        /// The key file.
        path: String,
        /// The vault's folder.
        folder: String,
    },
    /// Another process has the vault open.
    #[error("the vault in {folder} is in use by another mailferry process{pid}")]
    InUse {
        /// The vault's folder.
        folder: String,
        /// The id of that process, if it is known.
        pid: String,
    },
    /// The file was written by a later version of the program.
    #[error(
        "{path} was written by a later version of mailferry (format {found}, this version reads up to {VERSION}): run the later version"
    )]
    Newer {
        /// The file.
        path: String,
        /// The format of the file.
        found: u32,
    },
}

/// Returns the error for a file that could not be read or written.
pub(super) fn io(path: &Path, source: std::io::Error) -> VaultError {
    VaultError::Io {
        path: path.display().to_string(),
        source,
    }
}
