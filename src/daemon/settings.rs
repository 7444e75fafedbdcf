//! The settings of each part, taken from the configuration.

use std::path::PathBuf;
use std::sync::Arc;

use super::error::DaemonError;
use super::privilege;
use crate::bounces::WatchedMailbox;
use crate::config::{self, Config, ServerConfig};
use crate::delivery;
use crate::door::{self, Checks, Users};
use crate::incoming::{self, Mailbox};
use crate::observe::maillog;
use crate::operator::accounts::Named;
use crate::operator::route::{RouteListener, RouteSettings};
use crate::submission;
use crate::token::Sources;
use crate::transport::Upstream;
use crate::web::PageLive;

/// Returns the vault's folder.
pub(super) fn tokens(config: &Config) -> PathBuf {
    config.fixed.data_dir.join("tokens")
}

/// Returns each server, with its account if it has one.
pub(super) fn by_server(config: &Config, sources: &Sources) -> Result<Vec<Named>, DaemonError> {
    let account = |server: &ServerConfig| {
        let settings = server.token.clone();
        let source = settings
            .map(|settings| sources.source(settings))
            .transpose()?;
        Ok((server.name.clone(), source))
    };
    config.live.servers.iter().map(account).collect()
}

/// Returns the parts of the configuration that the page shows or uses.
pub(super) fn page_live(config: &Config) -> PageLive {
    PageLive {
        people: config.live.people.clone(),
        oidc: config.live.oidc.clone(),
        route: route_settings(config),
        sections: config::effective::sections(config),
    }
}

/// Returns the configured limits, lowered if the process may not open enough files for them.
pub(super) fn door_limits(config: &Config) -> door::DoorLimits {
    let mut limits = config.live.limits.clone();
    let room = privilege::room_by_files();
    if room.sessions < limits.sessions {
        maillog::file_limit_too_low(room.sessions, limits.sessions);
        limits.sessions = room.sessions;
    }
    limits.lingering = limits.lingering.min(room.lingering);
    limits
}

/// Returns delivery's settings.
pub(super) fn delivery_settings(
    config: &Config,
    sources: &Sources,
) -> Result<delivery::DeliverySettings, DaemonError> {
    let accounts = by_server(config, sources)?.into_iter();
    let server = |(server, (name, token)): (&ServerConfig, _)| {
        let smtp = server.smtp.clone()?;
        Some(delivery::Server {
            upstream: Arc::new(Upstream { name, smtp, token }),
            limits: server.limits,
            tenant: server.tenant.clone(),
            fallback: server.fallback.clone(),
        })
    };
    let live = &config.live;
    Ok(delivery::DeliverySettings {
        policy: live.policy.clone(),
        servers: live
            .servers
            .iter()
            .zip(accounts)
            .filter_map(server)
            .collect(),
        options: live.delivery.clone(),
        host: live.host.clone(),
        received: live.received,
    })
}

/// Returns the settings that all listeners share.
pub(super) fn door_settings(config: &Config, checks: &Arc<Checks>) -> door::DoorSettings {
    door::DoorSettings {
        users: Users::new(config.live.users.clone(), checks.clone()),
        limits: door_limits(config),
        dialogues: config.live.dialogues.clone(),
    }
}

/// Returns the mailboxes, and the users who may read them.
pub(super) fn incoming_settings(
    config: &Config,
    sources: &Sources,
) -> Result<incoming::IncomingSettings, DaemonError> {
    Ok(mailboxes(config, by_server(config, sources)?))
}

/// Returns the mailboxes without the sources of their tokens, and the users who may read them.
pub fn readers(config: &Config) -> incoming::IncomingSettings {
    let servers = config.live.servers.iter();
    mailboxes(
        config,
        servers.map(|server| (server.name.clone(), None)).collect(),
    )
}

pub(super) fn mailboxes(config: &Config, accounts: Vec<Named>) -> incoming::IncomingSettings {
    let mailbox = |(server, (name, token)): (&ServerConfig, Named)| {
        let mailbox = Mailbox {
            server: name.clone(),
            address: server.username.clone(),
            imap: server.imap.clone(),
            pop3: server.pop3.clone(),
            auth: server.auth.clone(),
            token,
        };
        (name, Arc::new(mailbox))
    };
    let reader = |user: &door::User| (user.name.clone(), user.mailboxes.clone());
    incoming::IncomingSettings {
        mailboxes: config
            .live
            .servers
            .iter()
            .zip(accounts)
            .map(mailbox)
            .collect(),
        readers: config.live.users.iter().map(reader).collect(),
    }
}

/// Returns the mailboxes whose delivery reports are read.
pub(super) fn watched(
    config: &Config,
    incoming: &incoming::IncomingSettings,
) -> Vec<WatchedMailbox> {
    let servers = config.live.servers.iter();
    let watched = servers.filter_map(|server| {
        Some(WatchedMailbox {
            handled: server.bounces.clone()?,
            mailbox: incoming.mailboxes.get(&server.name)?.clone(),
        })
    });
    watched.collect()
}

/// Returns the settings that decide which server a message takes.
pub(crate) fn route_settings(config: &Config) -> RouteSettings {
    let listeners = config.live.listeners.iter().map(|listener| RouteListener {
        endpoint: listener.endpoint.clone(),
        assume_from: listener.submission().and_then(|it| it.assume_from.clone()),
    });
    RouteSettings {
        path: config.path.display().to_string(),
        policy: config.live.policy.clone(),
        users: config.live.users.clone(),
        listeners: listeners.collect(),
    }
}

pub(super) fn submission_settings(config: &Config) -> submission::SubmissionSettings {
    submission::SubmissionSettings {
        policy: config.live.policy.clone(),
        direct: config.live.direct.clone(),
    }
}
