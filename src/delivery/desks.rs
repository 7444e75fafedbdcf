//! The desks of all mailboxes, and the state that outlives them: operators' holds, kept in the spool, and
//! tenants whose mail to external recipients waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::desk::Desk;
use super::hold::Hold;
use super::server::Server;
use super::usage::MailboxLimits;
use crate::base::Timestamp;
use crate::spool::{Ledger, Spool, SpoolError, Used};

/// The prefix of the names under which the spool keeps operators' holds of mailboxes.
pub(super) const NOTE: &str = "hold/";

/// How long sent mail counts towards a mailbox's daily limit.
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// All desks, by mailbox.
#[derive(Default)]
pub(super) struct Desks {
    known: Mutex<HashMap<String, Arc<Desk>>>,
    /// The usage from earlier runs, for desks that do not exist yet.
    used: Vec<Used>,
    /// Operators' holds from earlier runs, for desks that do not exist yet.
    holds: Mutex<Vec<(String, Hold)>>,
    /// Tenants whose mail to external recipients waits, with the end of the wait and its reason.
    external: Mutex<HashMap<String, (Timestamp, String)>>,
    /// True if other nodes may use the same mailboxes.
    is_shared: bool,
}

impl Desks {
    /// Restores the usage from earlier runs, and operators' holds.
    pub(super) async fn restored(spool: &dyn Spool, now: Timestamp) -> Result<Self, SpoolError> {
        let notes = spool.notes(NOTE).await?.into_iter();
        let hold = |(name, value): (String, String)| {
            let name = name.strip_prefix(NOTE)?.to_owned();
            Some((name, serde_json::from_str(&value).ok()?))
        };
        Ok(Self {
            used: used(spool, now).await?,
            holds: Mutex::new(notes.filter_map(hold).collect()),
            is_shared: spool.is_shared(),
            ..Self::default()
        })
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Arc<Desk>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds or creates the desk of each server. Returns the desks by server name. If servers share a desk,
    /// the strictest limits apply.
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
        let mut holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        let place = holds
            .iter()
            .position(|(held, _)| *held == name || *held == former);
        // A desk that is made again later must not get a hold that was released meanwhile.
        let hold = place.map(|place| holds.swap_remove(place).1);
        let before = (&self.used[..], hold);
        Desk::new(name.to_owned(), former, limits, before, self.is_shared)
    }

    /// All desks.
    pub(super) fn all(&self) -> Vec<Arc<Desk>> {
        self.known().values().cloned().collect()
    }

    /// Removes desks that no configured server uses any more.
    pub(super) fn sweep(&self) {
        let is_used = |desk: &Arc<Desk>| Arc::strong_count(desk) > 1;
        self.known().retain(|_, desk| is_used(desk));
    }

    fn external(&self) -> MutexGuard<'_, HashMap<String, (Timestamp, String)>> {
        self.external.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the tenant's mail to external recipients wait until the given time.
    pub(super) fn hold_external(&self, tenant: &str, until: Timestamp, reason: String) {
        self.external().insert(tenant.to_owned(), (until, reason));
    }

    /// Returns the time until which the tenant's mail to external recipients waits, and the reason. `None` if
    /// that mail does not wait.
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

/// Reads the usage of each mailbox in the last day. If the wall clock was set back between the runs, usage
/// may be dated in the future. That usage is dated `now` instead, so that it counts for at most a day.
async fn used(spool: &dyn Ledger, now: Timestamp) -> Result<Vec<Used>, SpoolError> {
    let mut used = spool.used(now.before(DAY)).await?;
    for used in &mut used {
        used.at = used.at.min(now);
        used.last = used.last.min(now);
    }
    Ok(used)
}
