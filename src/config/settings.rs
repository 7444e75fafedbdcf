//! A configuration as it was checked.

use std::collections::HashSet;
use std::path::PathBuf;

use super::fixed::Fixed;
use crate::delivery::{DeliveryOptions, MailboxLimits};
use crate::door::{self, Endpoint, User};
use crate::message::Shown;
use crate::routing::Policy;
use crate::submission;
use crate::token;
use crate::transport::smtp::SmtpServer;

/// A configuration that holds together.
pub struct Config {
    /// The file.
    pub path: PathBuf,
    /// What a restart takes.
    pub fixed: Fixed,
    /// What a reload takes as well.
    pub live: Live,
    /// What is allowed, but probably not meant.
    pub warnings: Vec<String>,
}

/// The settings that a reload changes.
pub struct Live {
    /// What this host calls itself.
    pub host: String,
    /// How much of a client its message's `Received` field shows.
    pub received: Shown,
    /// Where apps connect.
    pub listeners: Vec<ListenerConfig>,
    /// How much there may be at once, and how slow it may be.
    pub limits: door::DoorLimits,
    /// Who may send.
    pub users: Vec<User>,
    /// Routing.
    pub policy: Policy,
    /// The upstream servers, in order.
    pub servers: Vec<ServerConfig>,
    /// The servers in direct mode.
    pub direct: HashSet<String>,
    /// How delivery tries again, reports and ends.
    pub delivery: DeliveryOptions,
}

/// A listener: where it is and who is let in, and what holds for mail there.
#[derive(Clone)]
pub struct ListenerConfig {
    /// Where it is, and who is let in.
    pub endpoint: Endpoint,
    /// What holds for mail.
    pub submission: submission::SubmissionOptions,
}

/// An upstream server.
pub struct ServerConfig {
    /// Its name.
    pub name: String,
    /// The mailbox that it signs in as, for people.
    pub username: String,
    /// How it is reached.
    pub smtp: SmtpServer,
    /// Where its tokens come from.
    pub token: Option<token::AccountSettings>,
    /// What it may do.
    pub limits: MailboxLimits,
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
