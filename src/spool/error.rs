//! The spool's errors. Their texts say how to solve the problem.

use std::path::Path;
use std::sync::Arc;

use super::shape::Fingerprint;
use crate::base::{BoxFuture, MessageId};

/// The future result of a call to the spool.
pub type SpoolFuture<'a, T> = BoxFuture<'a, Result<T, SpoolError>>;

/// The reason why the spool did not do what was requested.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SpoolError {
    /// The disk is full, or only the reserve is left. Nothing was stored.
    #[error(
        "no space left on the spool's disk (mailferry keeps {reserve} bytes in reserve): free some space on the disk of {folder}"
    )]
    Full {
        /// The spool's folder.
        folder: String,
        /// The disk space (bytes) that new messages must leave free, so that queued messages can be
        /// finished.
        reserve: u64,
    },
    /// Another process has the spool open.
    #[error(
        "{folder} is in use by another mailferry process: stop that process, or set a different `data_dir`"
    )]
    InUse {
        /// The spool's folder.
        folder: String,
    },
    /// The database is missing or empty, but the content folder has messages.
    #[error(
        "{file} is missing or empty, but content/ still holds {count} messages: restore the database from a backup, or move the files out of content/ to start with an empty queue"
    )]
    Emptied {
        /// The database.
        file: String,
        /// The number of messages in the content folder.
        count: usize,
    },
    /// The database was written by a later version of the program.
    #[error(
        "{file} was written by a later version of mailferry (format {found}, this version reads up to {known}): run the later version"
    )]
    Newer {
        /// The database.
        file: String,
        /// The database's format.
        found: i64,
        /// The format of this program.
        known: i64,
    },
    /// The queue has no such message.
    #[error(
        "message {0} is not in the queue: it was delivered, has failed or was deleted; see `mailferry trace {0}`"
    )]
    Missing(MessageId),
    /// The spool has neither the message nor its story.
    #[error(
        "unknown message {0}: it was never received, or its history has been removed ([spool] history)"
    )]
    Unknown(MessageId),
    /// The spool takes part in a copy, or was copied.
    #[error("{place} cannot be used: {why}")]
    Copied {
        /// The spool.
        place: String,
        /// What happened to it, with the remedy.
        why: String,
    },
    /// A node uses the spool.
    #[error(
        "{place} is in use by the node {node}: stop all nodes first, and wait 10 seconds if one of them was killed"
    )]
    Serving {
        /// The spool.
        place: String,
        /// The node.
        node: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The cause.
        source: Arc<std::io::Error>,
    },
    /// The database that the nodes share does not answer. Nothing was stored, or it is not known.
    #[error(
        "the database {name} does not answer: {text}; until it does, mail is answered 451, and nothing is sent"
    )]
    Away {
        /// The database, with its hosts.
        name: String,
        /// The error.
        text: String,
    },
    /// The database cannot be used as it is.
    #[error("[spool] postgresql: {text}")]
    Unusable {
        /// The fault, with the remedy.
        text: String,
    },
    /// The URL of the database cannot be read.
    #[error(
        "[spool] postgresql: the url is wrong: {text}; write it like postgresql://mailferry@db.example.com/mailferry"
    )]
    BadUrl {
        /// The error.
        text: String,
    },
    /// Other nodes believe that this node has stopped, because the database had not heard from it.
    #[error(
        "the other nodes have taken over from this node, because the database had not heard from it for a while; it joins again"
    )]
    TakenOver,
    /// The database reported an error.
    #[error("spool database: {text}{remedy}", remedy = .fault.remedy())]
    Database {
        /// The kind of fault.
        fault: DatabaseFault,
        /// The database's own message.
        text: String,
    },
    /// A content has changed since it was stored: the disk has damaged it.
    #[error(
        "{place} is damaged: expected {wanted}, found {found}; restore it from a backup, or delete the message and inform its sender"
    )]
    Damaged {
        /// The content's file, or the database.
        place: String,
        /// The size and checksum of the content that was stored.
        wanted: Fingerprint,
        /// The size and checksum that were found.
        found: Fingerprint,
    },
    /// The writer has ended, because the program is ending.
    #[error("the spool is closed")]
    Closed,
}

/// A kind of fault in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseFault {
    /// The database's disk is full.
    Full,
    /// The disk has damaged the database.
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
                "; spool.sqlite in `data_dir` is damaged: stop mailferry, copy the folder, then restore a backup, or recover the readable data: sqlite3 spool.sqlite .recover | sqlite3 saved.sqlite"
            }
            _ => "",
        }
    }
}

impl SpoolError {
    /// Creates the error for a file that could not be read or written.
    pub fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.display().to_string(),
            source: Arc::new(source),
        }
    }

    /// True if the error means that there is no room at the moment.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::Io { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            Self::Database { fault, .. } => *fault == DatabaseFault::Full,
            _ => false,
        }
    }

    /// True if one row cannot be read, and nothing else is wrong.
    pub fn is_unreadable_row(&self) -> bool {
        matches!(self, Self::Database { fault, .. } if *fault == DatabaseFault::Row)
    }
}
