//! A checked configuration.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::fixed::Fixed;
use crate::alerts::AlertSettings;
use crate::bounces::Handled;
use crate::delivery::{DeliveryOptions, Fallback, MailboxLimits};
use crate::door::{self, Endpoint, User};
use crate::incoming::ReadingProtocol;
use crate::message::Shown;
use crate::routing::Policy;
use crate::submission;
use crate::token;
use crate::transport::RemoteHost;
use crate::transport::smtp::{self, SmtpServer};
use crate::web::{OidcSettings, Person};

/// A configuration that passed all checks.
pub struct Config {
    /// The file.
    pub path: PathBuf,
    /// The settings that only a restart changes.
    pub fixed: Fixed,
    /// The settings that a reload can change.
    pub live: Live,
    /// Warnings about settings that are allowed, but are probably mistakes.
    pub warnings: Vec<String>,
}

/// The settings that a reload can change.
pub struct Live {
    /// This host's name in greetings, EHLO and `Received` fields.
    pub host: String,
    /// How much the `Received` field reveals about the client.
    pub received: Shown,
    /// The listeners that apps connect to.
    pub listeners: Vec<ListenerConfig>,
    /// Limits on the number, size and duration of sessions and messages at all listeners.
    pub limits: door::DoorLimits,
    /// The users who may send.
    pub users: Vec<User>,
    /// Routing.
    pub policy: Policy,
    /// The upstream servers, in the order of the file.
    pub servers: Vec<ServerConfig>,
    /// The servers in direct mode.
    pub direct: HashSet<String>,
    /// The settings of retries, reports and expiry.
    pub delivery: DeliveryOptions,
    /// The sessions whose dialogue is logged.
    pub dialogues: door::Dialogues,
    /// The people who may log in to the page.
    pub people: Vec<Person>,
    /// The OpenID provider at which people sign in to the page, if there is one.
    pub oidc: Option<Arc<OidcSettings>>,
    /// When and how people are told that something needs them.
    pub alerts: AlertSettings,
}

/// A listener: its socket, the clients that it admits, and the rules for mail there.
#[derive(Clone)]
pub struct ListenerConfig {
    /// The socket, and the clients that it admits.
    pub endpoint: Endpoint,
    /// The protocol, with its rules.
    pub service: ServiceConfig,
}

/// The protocol that a listener speaks.
#[derive(Clone)]
pub enum ServiceConfig {
    /// SMTP, with the rules for mail.
    Submission(submission::SubmissionOptions),
    /// A protocol by which apps read mail.
    Incoming(ReadingProtocol),
}

impl ListenerConfig {
    /// Returns the rules for mail that apps send here; `None` if apps read here.
    pub fn submission(&self) -> Option<&submission::SubmissionOptions> {
        match &self.service {
            ServiceConfig::Submission(options) => Some(options),
            ServiceConfig::Incoming(_) => None,
        }
    }
}

/// An upstream server.
pub struct ServerConfig {
    /// The server's name.
    pub name: String,
    /// The mailbox that the server signs in as, for display.
    pub username: String,
    /// How to reach the server for sending, if the server is used for it.
    pub smtp: Option<SmtpServer>,
    /// How to sign in to the server, whatever the protocol.
    pub auth: smtp::Auth,
    /// The host for IMAP, if the server is used for it.
    pub imap: Option<RemoteHost>,
    /// The host for POP3, if the server is used for it.
    pub pop3: Option<RemoteHost>,
    /// The action for matched delivery reports in the mailbox, if mailferry reads them.
    pub bounces: Option<Handled>,
    /// The account that supplies the server's tokens, if the server signs in with OAuth.
    pub token: Option<token::AccountSettings>,
    /// The limits of the server's mailbox.
    pub limits: MailboxLimits,
    /// The server that takes over its mail while this one is held for long, if one is configured.
    pub fallback: Option<Fallback>,
    /// The Microsoft tenant that the server sends for, if the configuration names one.
    pub tenant: Option<String>,
}

/// How a command treats secrets. A command that needs no secrets reads none, because the person who runs it
/// may have neither the service's environment nor the right to read the service's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// Secrets are read from their files, the environment and systemd.
    Read,
    /// Secrets are read by a command that may run outside the service. Credentials that systemd passes only
    /// to the service may therefore be missing.
    Looked,
    /// No secret is read; each configured secret is empty.
    Left,
}
