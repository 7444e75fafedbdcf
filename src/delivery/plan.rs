//! One configuration in use: its servers, each with the desk of its mailbox.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::desk::Desk;
use super::desks::Desks;
use super::server::Server;
use super::settings::DeliverySettings;
use crate::message::Address;
use crate::routing::Route;

/// One configuration in use.
pub(super) struct Plan {
    pub(super) settings: Arc<DeliverySettings>,
    entries: HashMap<String, Arc<ServerEntry>>,
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

    /// Returns the server with this name, if it is configured.
    pub(super) fn entry(&self, server: &str) -> Option<&Arc<ServerEntry>> {
        self.entries.get(server)
    }

    /// All servers, in the order of the configuration.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Arc<ServerEntry>> {
        let servers = self.settings.servers.iter();
        servers.filter_map(|server| self.entries.get(server.name()))
    }

    /// Returns this server and all other servers that share its account. Returns no server if this server has
    /// no account.
    pub(super) fn sharing(&self, server: &str) -> impl Iterator<Item = &Arc<ServerEntry>> {
        let account = |entry: &ServerEntry| {
            let token = entry.server.upstream.token.as_ref()?;
            Some(token.settings().account.clone())
        };
        let ours = self.entry(server).and_then(|entry| account(entry));
        self.entries()
            .filter(move |entry| ours.is_some() && account(entry) == ours)
    }

    /// True if a server is configured and not held.
    pub(super) fn works(&self, server: &str) -> bool {
        let entry = self.entry(server);
        entry.is_some_and(|entry| entry.desk.held().is_none())
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

    /// The reason why a server is held, if it is.
    pub(super) fn reason_of(&self, server: &str) -> Option<String> {
        Some(self.entry(server)?.desk.held()?.reason)
    }

    /// Returns the host of a server, or the server's name if the server is not configured.
    pub(super) fn host_of<'a>(&'a self, server: &'a str) -> &'a str {
        let entry = self.entry(server);
        entry.map_or(server, |entry| &entry.server.upstream.smtp.remote.host)
    }
}
