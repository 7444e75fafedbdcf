//! A configuration as it was checked.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::base::Secret;
use crate::delivery::{BackOff, Limits, Schedule, Uncertain};
use crate::listener::{self, Endpoint, User};
use crate::message::Shown;
use crate::observe::logging;
use crate::routing::Policy;
use crate::transport::smtp::SmtpServer;
use crate::web;
use crate::{spool, token};

/// A configuration that holds together.
pub struct Config {
    /// The file.
    pub path: PathBuf,
    /// What this host calls itself.
    pub host: String,
    /// How logs look, and what is in them.
    pub log: logging::Settings,
    /// How much of a client its message's `Received` field shows.
    pub received: Shown,
    /// Whom the program becomes when it was started by root, once its ports are bound.
    pub run_as: Option<String>,
    /// Where apps connect.
    pub endpoints: Vec<Endpoint>,
    /// The page for people, where there is to be one.
    pub web: Option<web::Settings>,
    /// How much there may be at once, and how slow it may be.
    pub limits: listener::Limits,
    /// Who may send.
    pub users: Vec<User>,
    /// Routing.
    pub policy: Policy,
    /// The upstream servers, in order.
    pub servers: Vec<Server>,
    /// The servers in direct mode.
    pub direct: HashSet<String>,
    /// When to try again.
    pub schedule: Schedule,
    /// How long a server in trouble is left alone.
    pub back_off: BackOff,
    /// What becomes of a message that may have arrived.
    pub uncertain: Uncertain,
    /// When a sender is told that a message is late, if at all.
    pub warn_after: Option<Duration>,
    /// Reports to one sender in an hour.
    pub reports_per_hour: usize,
    /// How long what is under way may take when the program ends.
    pub grace: Duration,
    /// Where messages and tokens are.
    pub data_dir: PathBuf,
    /// What tokens are encrypted with; none for the key file beside them.
    pub vault_key: Option<Secret>,
    /// The spool.
    pub spool: spool::sqlite::Settings,
    /// What is allowed, but probably not meant.
    pub warnings: Vec<String>,
}

/// An upstream server.
pub struct Server {
    /// Its name.
    pub name: String,
    /// The mailbox that it signs in as, for people.
    pub username: String,
    /// How it is reached.
    pub smtp: SmtpServer,
    /// Where its tokens come from.
    pub token: Option<token::Settings>,
    /// What it may do.
    pub limits: Limits,
    /// The Microsoft tenant that it sends for, if one is named.
    pub tenant: Option<String>,
}

/// Whether secrets are read, or left where they are by a command that needs none: whoever runs it
/// may have neither the service's environment nor the right to read its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// From their files, the environment and systemd.
    Read,
    /// The same for a look from outside: those that only the service has are not missed.
    Looked,
    /// Each that is named is empty.
    Left,
}
