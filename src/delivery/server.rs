//! A configured server as delivery knows it.

use std::sync::Arc;

use super::usage::MailboxLimits;
use crate::base::Service;
use crate::transport::Upstream;

/// A configured server: how it is reached, and what it may do.
#[derive(Clone)]
pub struct Server {
    /// How it is reached.
    pub upstream: Arc<Upstream>,
    /// What its mailbox may do.
    pub limits: MailboxLimits,
    /// The tenant whose limits count besides the mailbox's, if one is known.
    pub tenant: Option<String>,
}

impl Server {
    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.upstream.name
    }

    /// Whether nothing differs in how it is reached, signed in to and limited.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.upstream.is_same(&other.upstream) && self.limits == other.limits
    }

    /// Which mailbox it sends from: whose limits count, and at which host. If nobody signs in, the server
    /// is a mailbox of its own. Exchange Online has each mailbox once, by whatever host it is reached.
    pub(super) fn mailbox(&self) -> String {
        let user = self.upstream.limited().unwrap_or(self.name());
        let user = user.to_lowercase();
        match self.upstream.smtp.service {
            Service::ExchangeOnline => format!("{user} at Exchange Online"),
            Service::Other => format!("{user} at {}", self.address()),
        }
    }

    /// What versions before 0.2 called that mailbox in the spool.
    pub(super) fn former_mailbox(&self) -> String {
        let user = self.upstream.smtp.auth.username().unwrap_or(self.name());
        format!("{} at {}", user.to_lowercase(), self.address())
    }

    fn address(&self) -> String {
        format!("{}:{}", self.upstream.smtp.host, self.upstream.smtp.port)
    }
}
