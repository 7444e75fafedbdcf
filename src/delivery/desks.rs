//! The desks of all mailboxes, and what outlives them: an operator's holds, kept in the spool, and tenants
//! whose mail to external recipients waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::desk::Desk;
use super::hold::Hold;
use super::server::Server;
use super::usage::MailboxLimits;
use crate::base::Timestamp;
use crate::spool::{Ledger, Notes, Spool, SpoolError, Used};

/// The name, in the spool, of an operator's hold of a mailbox.
const NOTE: &str = "hold/";

/// How long what a mailbox has sent counts to its day.
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// See the module.
#[derive(Default)]
pub(super) struct Desks {
    known: Mutex<HashMap<String, Arc<Desk>>>,
    /// What earlier runs have used, for desks that are not there yet.
    used: Vec<Used>,
    /// What an operator held in earlier runs, for desks that are not there yet.
    holds: Vec<(String, Hold)>,
    /// Tenants whose mail to external recipients waits, until when, and why.
    external: Mutex<HashMap<String, (Timestamp, String)>>,
}

impl Desks {
    /// With what earlier runs have used, and what an operator holds.
    pub(super) async fn restored(spool: &dyn Spool, now: Timestamp) -> Result<Self, SpoolError> {
        let notes = spool.notes(NOTE).await?.into_iter();
        let hold = |(name, value): (String, String)| {
            let name = name.strip_prefix(NOTE)?.to_owned();
            Some((name, serde_json::from_str(&value).ok()?))
        };
        Ok(Self {
            used: used(spool, now).await?,
            holds: notes.filter_map(hold).collect(),
            ..Self::default()
        })
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Arc<Desk>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The desk of each server, by the server's name. Of servers that share one, the strictest limits hold.
    pub(super) fn of(&self, servers: &[Server]) -> HashMap<String, Arc<Desk>> {
        let mut limits: HashMap<String, MailboxLimits> = HashMap::new();
        for server in servers {
            let shared = limits.entry(server.mailbox()).or_insert(server.limits);
            *shared = shared.stricter(server.limits);
        }
        let mut known = self.known();
        let desk = |server: &Server| {
            let name = server.mailbox();
            let limits = limits.get(&name).copied().unwrap_or(server.limits);
            let desk = known
                .entry(name)
                .or_insert_with_key(|name| self.new_desk(name, server, limits));
            desk.limit(limits);
            (server.name().to_owned(), desk.clone())
        };
        servers.iter().map(desk).collect()
    }

    fn new_desk(&self, name: &str, server: &Server, limits: MailboxLimits) -> Arc<Desk> {
        let former = server.former_mailbox();
        let mut held = self.holds.iter();
        let held = held.find(|(held, _)| *held == name || *held == former);
        let hold = held.map(|(_, hold)| hold.clone());
        Desk::new(name.to_owned(), former, limits, &self.used, hold)
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<Desk>> {
        self.known().values().cloned().collect()
    }

    /// Forgets those that no server signs in to any more.
    pub(super) fn sweep(&self) {
        let is_used = |desk: &Arc<Desk>| Arc::strong_count(desk) > 1;
        self.known().retain(|_, desk| is_used(desk));
    }

    fn external(&self) -> MutexGuard<'_, HashMap<String, (Timestamp, String)>> {
        self.external.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tenant's mail to external recipients waits until then.
    pub(super) fn hold_external(&self, tenant: &str, until: Timestamp, reason: String) {
        self.external().insert(tenant.to_owned(), (until, reason));
    }

    /// Until when the tenant's mail to external recipients waits, and why, if it does.
    pub(super) fn external_hold(
        &self,
        tenant: &str,
        now: Timestamp,
    ) -> Option<(Timestamp, String)> {
        let mut external = self.external();
        external.retain(|_, (until, _)| now < *until);
        external.get(tenant).cloned()
    }
}

/// What each mailbox has sent in the last day. A wall clock that was set back since must not make it last.
async fn used(spool: &dyn Ledger, now: Timestamp) -> Result<Vec<Used>, SpoolError> {
    let mut used = spool.used(now.before(DAY)).await?;
    for used in &mut used {
        used.at = used.at.min(now);
        used.last = used.last.min(now);
    }
    Ok(used)
}

/// Keeps whether an operator holds a mailbox for the next run.
pub(super) async fn note_hold(desk: &Desk, spool: &dyn Notes) -> Result<(), SpoolError> {
    let by_hand = desk.held().filter(|hold| hold.until.is_none());
    let value = by_hand.and_then(|hold| serde_json::to_string(&hold).ok());
    let former = format!("{NOTE}{}", desk.former_name());
    spool.note(&former, None).await?;
    spool.note(&format!("{NOTE}{}", desk.name()), value).await
}
