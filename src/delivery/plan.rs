//! One configuration in use: its servers, each with the desk of its mailbox.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::desk::Desk;
use super::desks::Desks;
use super::server::{Fallback, Server};
use super::settings::DeliverySettings;
use crate::base::Timestamp;
use crate::message::Address;
use crate::routing::{Route, lane};

/// One configuration in use.
pub(super) struct Plan {
    pub(super) settings: Arc<DeliverySettings>,
    entries: HashMap<String, Arc<ServerEntry>>,
    /// The mailboxes of servers that sign in as each sender, by their names (see `routing/lane.rs`). An entry
    /// is made when the first message needs it.
    per_sender: RwLock<HashMap<String, Arc<ServerEntry>>>,
    is_rerouted: AtomicBool,
}

/// A server, and the desk that handles its mail.
pub(super) struct ServerEntry {
    pub(super) server: Server,
    pub(super) desk: Arc<Desk>,
}

impl ServerEntry {
    /// The server's name.
    pub(super) fn name(&self) -> &str {
        self.server.name()
    }

    /// The tenant's name. If no tenant is configured, the mailbox's name takes its place.
    pub(super) fn tenant(&self) -> &str {
        let tenant = self.server.tenant.as_deref();
        tenant.unwrap_or(self.desk.name())
    }
}

impl Plan {
    /// Combines a configuration with the desks of its servers.
    pub(super) fn new(settings: Arc<DeliverySettings>, desks: &Desks) -> Self {
        let mut desks = desks.of(&settings.servers);
        let servers = settings.servers.iter();
        let entries = servers.filter_map(|server| {
            let (desk, server) = (desks.remove(server.name())?, server.clone());
            Some((
                server.name().to_owned(),
                Arc::new(ServerEntry { server, desk }),
            ))
        });
        Self {
            entries: entries.collect(),
            per_sender: RwLock::default(),
            is_rerouted: AtomicBool::new(false),
            settings,
        }
    }

    /// Notes that the spool has rerouted the mail of servers that are no longer configured.
    pub(super) fn rerouted(&self) {
        self.is_rerouted.store(true, Ordering::Release);
    }

    /// True if the spool has rerouted the mail of servers that are no longer configured. Messages that return
    /// to the lane of such a server later must be routed again too.
    pub(super) fn is_rerouted(&self) -> bool {
        self.is_rerouted.load(Ordering::Acquire)
    }

    /// Returns the server with this name, if it is configured. `desks` has or gets the desk of a mailbox whose
    /// server signs in as each sender.
    pub(super) fn entry(&self, name: &str, desks: &Desks) -> Option<Arc<ServerEntry>> {
        if let Some(entry) = self.known(name) {
            return Some(entry);
        }
        let (server, mailbox) = lane::parts(name);
        let (server, mailbox) = (self.entries.get(server)?, mailbox?);
        if !self.signs_in_as(server.name(), &mailbox) {
            return None;
        }
        let server = server.server.of_mailbox(name, &mailbox);
        // Other servers may sign in to the same mailbox: then the strictest limits apply.
        let mut all = self.settings.servers.clone();
        all.extend(self.per_sender().values().map(|entry| entry.server.clone()));
        all.push(server.clone());
        let desk = desks.of(&all).remove(name)?;
        let entry = Arc::new(ServerEntry { server, desk });
        let per_sender = self.per_sender.write();
        let mut per_sender = per_sender.unwrap_or_else(PoisonError::into_inner);
        Some(per_sender.entry(name.to_owned()).or_insert(entry).clone())
    }

    /// Returns the server with this name, if it is configured and, for a mailbox of a server that signs in as each
    /// sender, if it has been used.
    pub(super) fn known(&self, name: &str) -> Option<Arc<ServerEntry>> {
        let configured = self.entries.get(name).cloned();
        configured.or_else(|| self.per_sender().get(name).cloned())
    }

    fn per_sender(&self) -> RwLockReadGuard<'_, HashMap<String, Arc<ServerEntry>>> {
        self.per_sender
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// True if a server signs in as each sender, and may sign in as this one.
    fn signs_in_as(&self, server: &str, mailbox: &Address) -> bool {
        let mut rules = self.settings.policy.servers.iter();
        rules.any(|rule| rule.name == server && rule.is_per_sender && rule.admits(mailbox))
    }

    /// True if a server signs in as each sender, and the name contains no mailbox.
    pub(super) fn lacks_mailbox(&self, name: &str) -> bool {
        let mut rules = self.settings.policy.servers.iter();
        rules.any(|rule| rule.name == name && rule.is_per_sender)
    }

    /// Returns the name of a server for a message of ours. If the server signs in as each sender, the mailbox is
    /// the first address of its filter, or else `default_from`; `None` if there is neither.
    pub(super) fn for_own(&self, name: &str) -> Option<String> {
        let policy = &self.settings.policy;
        let mut rules = policy.servers.iter();
        let Some(rule) = rules.find(|rule| rule.name == name && rule.is_per_sender) else {
            return Some(name.to_owned());
        };
        let admitted = |address: &&Address| rule.admits(address);
        let default_from = policy.default_from.as_ref().filter(admitted);
        let first = rule
            .filter
            .as_ref()
            .and_then(|filter| filter.addresses().first());
        Some(lane::of(name, first.or(default_from)?))
    }

    /// All servers, in the order of the configuration, and then the mailboxes of servers that sign in as each
    /// sender, in the order of the alphabet.
    pub(super) fn entries(&self) -> Vec<Arc<ServerEntry>> {
        let servers = self.settings.servers.iter();
        let servers = servers.filter_map(|server| self.entries.get(server.name()).cloned());
        let mut all: Vec<_> = servers.collect();
        let configured = all.len();
        all.extend(self.per_sender().values().cloned());
        all[configured..].sort_by(|one, other| one.name().cmp(other.name()));
        all
    }

    /// Forgets mailboxes of servers that sign in as each sender, if they are not in use and have sent nothing in the
    /// last day.
    pub(super) fn forget_idle(&self, now: Timestamp) {
        let per_sender = self.per_sender.write();
        let mut per_sender = per_sender.unwrap_or_else(PoisonError::into_inner);
        per_sender.retain(|_, entry| !entry.desk.is_idle(now));
    }

    /// Uses the mailboxes of an earlier plan, so that their holds and usage stay known.
    pub(super) fn carry_over(&self, former: &Self, desks: &Desks) {
        let former: Vec<String> = former.per_sender().keys().cloned().collect();
        for name in former {
            self.entry(&name, desks);
        }
    }

    /// Returns this server and all other servers that share its account. Returns no server if this server has
    /// no account.
    pub(super) fn sharing(&self, server: &str) -> impl Iterator<Item = Arc<ServerEntry>> {
        let account = |entry: &ServerEntry| {
            let token = entry.server.upstream.token.as_ref()?;
            Some(token.settings().account.clone())
        };
        let ours = self.known(server).and_then(|entry| account(&entry));
        self.entries()
            .into_iter()
            .filter(move |entry| ours.is_some() && account(entry) == ours)
    }

    /// True if a server is configured and not held.
    pub(super) fn works(&self, server: &str) -> bool {
        let is_configured = |name: &str| self.entries.contains_key(name);
        match self.known(server) {
            Some(entry) => entry.desk.held().is_none(),
            None => is_configured(lane::server(server)),
        }
    }

    /// Returns the route that reports take at present, and the address that they are sent from. `None` if no
    /// server can send reports.
    pub(super) fn report_route(&self) -> Option<(Route, Address)> {
        self.settings
            .policy
            .report_route(|server| self.works(server))
    }

    /// True if a report could be sent now: there is a route, and its server is not held.
    pub(super) fn can_report(&self) -> bool {
        let route = self.report_route();
        route.is_some_and(|(route, _)| self.works(&route.server))
    }

    /// True if an address is in one of the domains that this configuration sends from. Mail to it is assumed
    /// to stay within the tenant.
    pub(super) fn is_own_domain(&self, address: &Address) -> bool {
        let policy = &self.settings.policy;
        let own = policy
            .servers
            .iter()
            .filter_map(|rule| rule.address.as_ref());
        let mut own = own.chain(&policy.default_from);
        own.any(|own| own.domain_key() == address.domain_key())
            || policy
                .servers
                .iter()
                .any(|rule| rule.names_domain_of(address))
    }

    /// Returns the fallback through which the mail of a held server goes at present.
    pub(super) fn fallback(&self, server: &str, now: Timestamp) -> Option<&Fallback> {
        let mut servers = self.settings.servers.iter();
        let configured = servers.find(|it| it.name() == lane::server(server))?;
        let fallback = configured.fallback.as_ref()?;
        let since = self.known(server)?.desk.fault_since()?;
        let is_now = now.since(since) >= fallback.after && self.works(&fallback.server);
        is_now.then_some(fallback)
    }

    /// The reason why a server is held, if it is.
    pub(super) fn reason_of(&self, server: &str) -> Option<String> {
        Some(self.known(server)?.desk.held()?.reason)
    }

    /// Returns the host of a server, or the server's name if the server is not configured.
    pub(super) fn host_of<'a>(&'a self, server: &'a str) -> &'a str {
        let entry = self.entries.get(lane::server(server));
        entry.map_or(server, |entry| &entry.server.upstream.smtp.remote.host)
    }
}
