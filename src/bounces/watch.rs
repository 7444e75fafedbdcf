//! The tasks that watch mailboxes for reports, one for each mailbox.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::visit::{Visit, VisitError};
use super::watched::{Parts, WatchedMailbox};
use crate::base::Clock;
use crate::delivery::Delivery;
use crate::incoming;
use crate::observe::maillog;
use crate::spool::Upkeep;

/// The pause after the first failure; each further failure doubles the pause.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// The longest pause between two attempts to reach a mailbox.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);

/// The tasks that watch mailboxes.
pub struct Bounces {
    parts: Arc<Parts>,
    tasks: Mutex<JoinSet<()>>,
}

impl Bounces {
    /// Begins to watch these mailboxes.
    pub fn start(
        delivery: Arc<Delivery>,
        spool: Arc<dyn Upkeep>,
        incoming: Arc<incoming::Shared>,
        clock: Clock,
        mailboxes: Vec<WatchedMailbox>,
    ) -> Self {
        let parts = Parts {
            delivery,
            spool,
            incoming,
            clock,
            retry: Notify::new(),
        };
        let bounces = Self {
            parts: Arc::new(parts),
            tasks: Mutex::default(),
        };
        bounces.reconfigure(mailboxes);
        bounces
    }

    /// Watches these mailboxes from now on. All sessions restart; interrupted work is repeated.
    pub fn reconfigure(&self, mailboxes: Vec<WatchedMailbox>) {
        let mut tasks = JoinSet::new();
        for watched in mailboxes {
            let parts = self.parts.clone();
            tasks.spawn(async move { watch_in_turn(&parts, &watched).await });
        }
        // Dropping the former tasks ends them.
        *self.tasks.lock().unwrap_or_else(PoisonError::into_inner) = tasks;
    }

    /// Retries unreachable mailboxes now; called after somebody has signed in.
    pub fn try_again(&self) {
        self.parts.retry.notify_waiters();
    }

    /// Stops watching.
    pub fn stop(&self) {
        self.reconfigure(Vec::new());
    }
}

/// How often a node looks if it is the one that reads the reports.
const LOOK: Duration = Duration::from_secs(5);

/// Watches a mailbox for as long as this process is the one of the nodes that reads the reports.
async fn watch_in_turn(parts: &Parts, watched: &WatchedMailbox) {
    loop {
        while !parts.spool.leads() {
            tokio::time::sleep(LOOK).await;
        }
        let no_longer_leads = async {
            while parts.spool.leads() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            () = watch(parts, watched) => {}
            () = no_longer_leads => {}
        }
    }
}

/// Visits a mailbox again and again.
async fn watch(parts: &Parts, watched: &WatchedMailbox) {
    let mut pause = FIRST_PAUSE;
    let (mut is_watching, mut logged) = (false, String::new());
    loop {
        let (error, has_scanned) = visit(parts, watched, &mut is_watching).await;
        if has_scanned {
            // A lost session is logged only if reconnecting fails.
            pause = FIRST_PAUSE;
            logged.clear();
        }
        let reason = error.to_string();
        let is_news = !has_scanned && reason != logged;
        if is_news && !matches!(error, VisitError::NotReached(_)) {
            maillog::reports_unread(&watched.mailbox.server, &reason);
            (is_watching, logged) = (false, reason);
        }
        pause = match timeout(pause, parts.retry.notified()).await {
            Ok(()) => FIRST_PAUSE,
            Err(_) => (pause * 2).min(LONGEST_PAUSE),
        };
    }
}

/// Visits a mailbox until the session ends. Returns the reason, and true if at least one scan was completed. Logs
/// the first completed scan after the start or after a logged failure.
async fn visit(
    parts: &Parts,
    watched: &WatchedMailbox,
    is_watching: &mut bool,
) -> (VisitError, bool) {
    let mut visit = match Visit::begin(parts, watched).await {
        Ok(visit) => visit,
        Err(error) => return (error, false),
    };
    let mut has_scanned = false;
    loop {
        if let Err(error) = visit.scan().await {
            return (error, has_scanned);
        }
        has_scanned = true;
        if !std::mem::replace(is_watching, true) {
            maillog::reports_watched(&watched.mailbox.server);
        }
        if let Err(error) = visit.wait().await {
            return (error, has_scanned);
        }
    }
}
