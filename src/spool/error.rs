//! Why the spool did not do it, with what to do about it.

use std::path::Path;
use std::sync::Arc;

use super::shape::Shape;
use crate::base::{BoxFuture, MessageId};

/// What a question to the spool gives, in time.
pub type SpoolFuture<'a, T> = BoxFuture<'a, Result<T, SpoolError>>;

/// See the module.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SpoolError {
    /// The disk is full, or down to what is reserved. Nothing was put.
    #[error(
        "the spool's disk is full, or down to its reserve of {reserve} bytes: free some space in {folder}"
    )]
    Full {
        /// Where.
        folder: String,
        /// Bytes that puts leave free, so that what is queued can be finished.
        reserve: u64,
    },
    /// Another process has it open.
    #[error(
        "{folder} is in use by another mailferry process: stop that one, or set another `data_dir`"
    )]
    InUse {
        /// Where.
        folder: String,
    },
    /// The database is gone, and contents are not.
    #[error(
        "{file} is missing or empty, and content/ beside it has {count} messages: put the database back from a backup, or move the files of content/ elsewhere to begin anew"
    )]
    Emptied {
        /// The database.
        file: String,
        /// Messages in the content folder.
        count: usize,
    },
    /// Written by a later version of the program.
    #[error(
        "{file} was written by a later version of mailferry (format {found}, this one knows {known}): run that version"
    )]
    Newer {
        /// The database.
        file: String,
        /// Its format.
        found: i64,
        /// The format of this program.
        known: i64,
    },
    /// No such message.
    #[error(
        "message {0} is not in the queue: it was delivered, reported or deleted; see `mailferry trace {0}`"
    )]
    Missing(MessageId),
    /// No such message, nor its story.
    #[error(
        "unknown message {0}: it was never received, or its history has been removed ([spool] history)"
    )]
    Unknown(MessageId),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: String,
        /// Why.
        source: Arc<std::io::Error>,
    },
    /// The database did not do it.
    #[error("spool database: {text}{remedy}", remedy = .fault.remedy())]
    Database {
        /// What is wrong with it.
        fault: DatabaseFault,
        /// Its own words.
        text: String,
    },
    /// A content is not what was put: the disk has lost it.
    #[error(
        "{place} is damaged: {wanted} were put, {found} are there; put it back from a backup, or delete the message and tell its sender"
    )]
    Damaged {
        /// The content's file, or the database.
        place: String,
        /// What was put, as [`Shape`] shows it.
        wanted: Shape,
        /// What is there.
        found: Shape,
    },
    /// The writer has ended, as the program does.
    #[error("the spool is closed")]
    Closed,
}

/// What is wrong with the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseFault {
    /// Its disk is full.
    Full,
    /// The disk has changed what was written.
    Damaged,
    /// One row cannot be read; others can.
    Row,
    /// Anything else.
    Other,
}

impl DatabaseFault {
    fn remedy(self) -> &'static str {
        match self {
            Self::Damaged => {
                "; the disk has damaged spool.sqlite in `data_dir`: stop mailferry, copy the folder, then put a backup in its place, or save what can be read: sqlite3 spool.sqlite .recover | sqlite3 saved.sqlite"
            }
            _ => "",
        }
    }
}

impl SpoolError {
    /// A file that could not be read or written.
    pub fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.display().to_string(),
            source: Arc::new(source),
        }
    }

    /// Whether it means that there is no room, now.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::Io { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            Self::Database { fault, .. } => *fault == DatabaseFault::Full,
            _ => false,
        }
    }

    /// Whether one row cannot be read, and nothing else is wrong.
    pub fn is_of_row(&self) -> bool {
        matches!(self, Self::Database { fault, .. } if *fault == DatabaseFault::Row)
    }
}
