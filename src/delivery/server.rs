//! A configured server, as delivery uses it.

use std::sync::Arc;
use std::time::Duration;

use super::usage::MailboxLimits;
use crate::base::Service;
use crate::message::{Address, Priority};
use crate::transport::Upstream;
use crate::transport::smtp::Auth;

/// A configured server: its connection and its limits.
#[derive(Clone)]
pub struct Server {
    /// The connection to the server.
    pub upstream: Arc<Upstream>,
    /// The limits of its mailbox.
    pub limits: MailboxLimits,
    /// The tenant whose limits apply in addition to the mailbox's, if a tenant is configured.
    pub tenant: Option<String>,
    /// The server that takes over its mail while this one is held for long, if one is configured.
    pub fallback: Option<Fallback>,
}

impl Server {
    /// The server's name in the configuration.
    pub fn name(&self) -> &str {
        &self.upstream.name
    }

    /// Returns the server for one mailbox, if the server signs in as each sender. `name` is the name of both together.
    pub(super) fn of_mailbox(&self, name: &str, mailbox: &Address) -> Self {
        let mut upstream = Upstream::clone(&self.upstream);
        upstream.name = name.to_owned();
        upstream.smtp.auth = Auth::XOAuth2 {
            username: mailbox.to_string(),
        };
        Self {
            upstream: Arc::new(upstream),
            ..self.clone()
        }
    }

    /// True if the connection, the sign-in and the limits are the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.upstream.is_same(&other.upstream) && self.limits == other.limits
    }

    /// Returns the name of the mailbox that the server sends from: the account whose limits apply, and the
    /// host. A server without a sign-in has a mailbox of its own. An account in Exchange Online is one
    /// mailbox, whichever host is used.
    pub(super) fn mailbox(&self) -> String {
        let user = self.upstream.limited().unwrap_or(self.name());
        let user = user.to_lowercase();
        match self.upstream.smtp.service {
            Service::ExchangeOnline => format!("{user} at Exchange Online"),
            Service::Other => format!("{user} at {}", self.address()),
        }
    }

    /// The mailbox's name in the spool before version 0.2.
    pub(super) fn former_mailbox(&self) -> String {
        let user = self.upstream.smtp.auth.username().unwrap_or(self.name());
        format!("{} at {}", user.to_lowercase(), self.address())
    }

    fn address(&self) -> String {
        format!(
            "{}:{}",
            self.upstream.smtp.remote.host, self.upstream.smtp.remote.port
        )
    }
}

/// The server that takes over the mail of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallback {
    /// The name of the server that takes over.
    pub server: String,
    /// How long the other server must have been unusable because of a fault.
    pub after: Duration,
    /// The priorities of the mail that is taken over; other mail waits.
    pub priorities: Vec<Priority>,
}
