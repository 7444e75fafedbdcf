//! The state that the parts of the spool share.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, RwLock};

use super::database::Database;
use super::local::Local;
use crate::base::{Clock, MessageId};
use crate::spool::{Count, Owner, SpoolError, SpoolMeasures, Used};

/// The counts and measurements, and the time until which they are reused.
pub(super) type Measured = Option<(Instant, Vec<Count>, Arc<SpoolMeasures>)>;

/// The state that the parts of the spool share.
pub(super) struct Shared {
    pub(super) database: Database,
    pub(super) owner: Owner,
    /// Identifies the data folder, which only one process can use at a time.
    pub(super) machine: String,
    pub(super) clock: Clock,
    pub(super) history: Duration,
    /// The number and the slot of this run among the nodes.
    pub(super) node: AtomicI64,
    pub(super) slot: AtomicU32,
    pub(super) local: Mutex<Local>,
    /// Held, for reading, while claims of this node change in the database and in memory.
    pub(super) claiming: RwLock<()>,
    /// True if the database may have claims of this node that this node does not know, because an answer did not come.
    pub(super) has_strays: AtomicBool,
    /// True if this node is the eldest that is alive.
    pub(super) leads: AtomicBool,
    /// True if the last heartbeat reached the database.
    pub(super) is_reached: AtomicBool,
    /// True if this node is being taken out of service.
    pub(super) is_draining: AtomicBool,
    pub(super) changed: Notify,
    /// Notified if there is work for the task that tends to claims.
    pub(super) untended: Notify,
    /// Held while slots of users are taken or given back, so that a slot that was just taken is not given back.
    pub(super) slots_of_users: tokio::sync::Mutex<()>,
    /// Notified when another node has written a note.
    pub(super) noted: Notify,
    pub(super) measured: tokio::sync::Mutex<Measured>,
    /// The octets that the tables take, and the time until which this is reused.
    pub(super) size: tokio::sync::Mutex<Option<(Instant, u64)>>,
    /// The usage of the mailboxes' limits by all nodes, and the time until which it is reused.
    pub(super) used: tokio::sync::Mutex<Option<(Instant, Arc<[Used]>)>>,
}

impl Shared {
    pub(super) fn new(
        database: Database,
        (owner, machine): (Owner, String),
        clock: Clock,
        history: Duration,
    ) -> Self {
        Self {
            database,
            owner,
            machine,
            clock,
            history,
            node: AtomicI64::default(),
            slot: AtomicU32::default(),
            local: Mutex::default(),
            claiming: RwLock::default(),
            has_strays: AtomicBool::default(),
            leads: AtomicBool::default(),
            is_reached: AtomicBool::new(true),
            is_draining: AtomicBool::default(),
            changed: Notify::new(),
            untended: Notify::new(),
            slots_of_users: tokio::sync::Mutex::default(),
            noted: Notify::new(),
            measured: tokio::sync::Mutex::default(),
            size: tokio::sync::Mutex::default(),
            used: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn local(&self) -> MutexGuard<'_, Local> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of this run among the nodes.
    pub(super) fn node(&self) -> i64 {
        self.node.load(Ordering::Acquire)
    }

    /// True if stories are kept.
    pub(super) fn keeps_stories(&self) -> bool {
        !self.history.is_zero()
    }

    /// Notes if the database may have stored something without telling.
    pub(super) fn checked<T>(&self, done: Result<T, SpoolError>) -> Result<T, SpoolError> {
        if matches!(done, Err(SpoolError::Away { .. })) {
            self.has_strays.store(true, Ordering::Release);
            self.untended.notify_one();
        }
        done
    }

    /// Removes the pieces of a content that was not accepted, soon.
    pub(super) fn abandon(&self, id: MessageId) {
        self.local().abandoned.push(id);
        self.untended.notify_one();
    }

    /// Removes messages that were not promised to anybody, soon.
    pub(super) fn revoke(&self, ids: Vec<MessageId>) {
        self.local().revoked.extend(ids);
        self.untended.notify_one();
    }

    /// Tells delivery, and soon the other nodes, that messages are due.
    pub(super) fn announced(&self) {
        self.changed.notify_one();
        self.untended.notify_one();
    }
}
