//! The only place where all parts meet: build, run, reload, drain.

mod error;
pub mod privilege;
mod sockets;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use crate::base::{BoxFuture, Clock, Timestamp, certificate};
use crate::config::{Config, Fixed, Server};
use crate::delivery::{self, Delivery};
use crate::listener::accept::Bound;
use crate::listener::{
    self, Answered, Certificate, Checks, Direct, Endpoint, Listener, Shared, Socket, Users,
};
use crate::observe::maillog;
use crate::operator::accounts::Named;
use crate::operator::{Accounts, Control, Local, control};
use crate::spool::{Content, Manage, Owner, Record, Shown, SqliteSpool, Upkeep};
use crate::token::{Sources, Vault};
use crate::transport::{Upstream, smtp::Smtp};
use crate::web::{self, Web};
pub use error::DaemonError;
pub use privilege::{PrivilegeError, Root};
use sockets::Sockets;

/// The program at work.
pub struct Daemon {
    sockets: Sockets,
    shared: Arc<Shared>,
    delivery: Arc<Delivery>,
    sources: Arc<Sources>,
    checks: Arc<Checks>,
    accounts: Arc<Accounts>,
    listeners: Vec<Listener>,
    control: Control,
    web: Option<Web>,
    tending: JoinHandle<()>,
    grace: Duration,
    fixed: Fixed,
}

/// Hands messages for direct servers from the listener to delivery, which do not know each other.
struct Through(Arc<Delivery>);

impl Direct for Through {
    fn submit<'a>(&'a self, record: &'a Record, content: &'a Content) -> BoxFuture<'a, Answered> {
        Box::pin(async move {
            match self.0.direct(record, content).await {
                delivery::Answered::Upstream(answer) => Answered::Upstream {
                    code: answer.code,
                    enhanced: answer.enhanced.into_owned(),
                    text: answer.text.into_owned(),
                },
                delivery::Answered::Refused(refusal) => Answered::Refused(refusal),
                delivery::Answered::Trouble(reason) => Answered::Trouble(reason),
                delivery::Answered::Unavailable => Answered::Unavailable,
            }
        })
    }
}

impl Daemon {
    /// Starts: everything that can fail does so before the first client is accepted.
    pub async fn start(config: Config, clock: Clock, root: Root) -> Result<Self, DaemonError> {
        let sockets = Sockets::passed();
        let bound = sockets.bind_all(config.live.endpoints.iter())?;
        sockets
            .unused(&config.live.endpoints)
            .for_each(maillog::socket_unused);
        privilege::drop_rights(config.fixed.run_as.as_deref(), root)?;
        let endpoints = ready(&config)?;
        let owner = Owner::this_process(&config.live.host);
        let spool = Arc::new(SqliteSpool::open(config.fixed.spool.clone(), owner)?);
        let sources = sources(&config, clock.another())?;
        let accounts = Arc::new(Accounts::new(
            sources.clone(),
            by_server(&config, &sources)?,
            config
                .fixed
                .web
                .as_ref()
                .and_then(|web| web.external_url.clone()),
        ));
        let checks = Arc::default();
        let delivery_settings = delivery_settings(&config, &sources)?;
        let listener_settings = listener_settings(&config, &checks);
        let names = config
            .live
            .servers
            .iter()
            .map(|server| server.name.clone())
            .collect();
        spool.reroute(names, Vec::new()).await?;
        let delivery = Delivery::start(
            spool.clone(),
            delivery_settings,
            Arc::new(Smtp::default()),
            clock.clone(),
        );
        let delivery = Arc::new(delivery.await?);
        tokio::spawn(follow_sign_ins(accounts.connected(), delivery.clone()));
        let socket = control::socket(&config.fixed.spool.folder);
        let shown: Arc<dyn Manage> = Arc::new(Shown::new(spool.clone(), clock.clone()));
        let operator = Local::running(shown, delivery.clone(), accounts.clone());
        let web = match &config.fixed.web {
            Some(settings) => Some(serve_web(settings, operator.clone()).await?),
            None => None,
        };
        let control = Control::serve(&socket, operator);
        let control = control.map_err(|source| DaemonError::Control {
            path: socket.display().to_string(),
            source,
        })?;
        tell_of_accounts(&accounts).await;
        let tended = sources.clone();
        let tending = tokio::spawn(async move { tended.tend().await });
        let direct = Arc::new(Through(delivery.clone()));
        let shared = Shared::new(listener_settings, spool, direct, clock);
        let listeners = serve_all(bound, &endpoints, &shared)?;
        Ok(Self {
            sockets,
            shared,
            delivery,
            sources,
            checks,
            accounts,
            listeners,
            control,
            web,
            tending,
            grace: config.live.delivery.grace,
            fixed: config.fixed,
        })
    }

    /// Where it listens, in the order of the configuration.
    pub fn addresses(&self) -> Vec<std::net::SocketAddr> {
        self.listeners.iter().map(Listener::address).collect()
    }

    /// Whether nothing is being sent at this moment.
    pub fn is_quiet(&self) -> bool {
        self.delivery.is_quiet()
    }

    /// Goes by another configuration; sessions and deliveries under way are not disturbed. On an
    /// error everything stays as it was. What needs a restart is said in the log.
    pub async fn reload(&mut self, mut config: Config) -> Result<(), DaemonError> {
        let changes = self.fixed.changes(&config.fixed);
        config.fixed = self.fixed.clone();
        let endpoints = ready(&config)?;
        let asked: HashSet<Socket> = self.listeners.iter().map(Listener::asked).collect();
        let new = endpoints.iter();
        let new = new.filter(|endpoint| !asked.contains(&endpoint.socket));
        if let Some((new, own)) = beside(new.clone(), &asked) {
            return Err(DaemonError::Beside {
                socket: new.to_string(),
                own: own.to_string(),
            });
        }
        let bound = self.sockets.bind_all(new)?;
        let delivery_settings = delivery_settings(&config, &self.sources)?;
        let listener_settings = listener_settings(&config, &self.checks);
        self.accounts
            .reconfigure(by_server(&config, &self.sources)?);
        let accounts = config
            .live
            .servers
            .iter()
            .filter_map(|server| server.token.as_ref());
        let accounts = accounts.map(|settings| settings.account.clone()).collect();
        self.sources.retain(&accounts);
        self.delivery.reconfigure(delivery_settings).await;
        self.shared.settings.store(Arc::new(listener_settings));
        self.listeners.retain(|listener| {
            let kept = endpoints
                .iter()
                .find(|endpoint| endpoint.socket == listener.asked());
            match kept {
                Some(endpoint) => listener.reconfigure(endpoint.clone()),
                None => {
                    listener.close();
                    maillog::not_listening(&listener.name());
                }
            }
            kept.is_some()
        });
        let new = serve_all(bound, &endpoints, &self.shared)?;
        self.listeners.extend(new);
        self.sockets
            .unused(&endpoints)
            .for_each(maillog::socket_unused);
        self.grace = config.live.delivery.grace;
        tell_of_accounts(&self.accounts).await;
        if !changes.is_empty() {
            maillog::needs_restart(&changes.join(", "));
        }
        Ok(())
    }

    /// Accepts no more, lets sessions and deliveries under way end, and ends.
    pub async fn stop(self) {
        maillog::stopping(self.grace);
        self.listeners.iter().for_each(Listener::close);
        tokio::join!(self.shared.stop(self.grace), self.delivery.stop(self.grace));
        self.tending.abort();
        self.control.close();
        if let Some(web) = &self.web {
            web.close();
        }
        maillog::stopped();
    }
}

/// Warns of servers that nobody has signed in for, and of tokens that no server has.
async fn tell_of_accounts(accounts: &Accounts) {
    let now = Timestamp::now();
    for row in accounts.tokens().await {
        if row.needs_sign_in(now) {
            maillog::needs_sign_in(&row.server);
        }
    }
    // What the vault cannot list was told when it was opened.
    for account in accounts.unused().unwrap_or_default() {
        maillog::tokens_unused(&account);
    }
}

/// Uses servers again once somebody has signed in for them.
async fn follow_sign_ins(mut connected: broadcast::Receiver<String>, delivery: Arc<Delivery>) {
    loop {
        match connected.recv().await {
            Ok(server) => delivery.signed_in(&server),
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// A new endpoint whose socket cannot be had while we have another.
fn beside<'s>(
    mut new: impl Iterator<Item = &'s Endpoint>,
    own: &'s HashSet<Socket>,
) -> Option<(&'s Socket, &'s Socket)> {
    new.find_map(|endpoint| {
        let mut own = own.iter();
        let own = own.find(|own| own.overlaps(&endpoint.socket))?;
        Some((&endpoint.socket, own))
    })
}

/// The servers and their accounts, where the program does not run: only one process can have the
/// vault.
pub fn accounts(config: &Config) -> Result<(Accounts, delivery::Settings), DaemonError> {
    let vault = Vault::visit(tokens(config), config.fixed.vault_key.as_ref())?;
    let sources = Arc::new(Sources::new(vault, Clock::default()));
    let delivery = delivery_settings(config, &sources)?;
    let by_server = by_server(config, &sources)?;
    Ok((Accounts::new(sources, by_server, None), delivery))
}

fn sources(config: &Config, clock: Clock) -> Result<Arc<Sources>, DaemonError> {
    let vault = Vault::open(tokens(config), config.fixed.vault_key.as_ref())?;
    vault
        .unreadable()
        .iter()
        .for_each(maillog::vault_unreadable);
    Ok(Arc::new(Sources::new(vault, clock)))
}

/// The vault's folder.
fn tokens(config: &Config) -> PathBuf {
    config.fixed.data_dir.join("tokens")
}

/// Each server's account, where it has one.
fn by_server(config: &Config, sources: &Sources) -> Result<Vec<Named>, DaemonError> {
    let account = |server: &Server| {
        let settings = server.token.clone();
        let source = settings
            .map(|settings| sources.source(settings))
            .transpose()?;
        Ok((server.name.clone(), source))
    };
    config.live.servers.iter().map(account).collect()
}

async fn serve_web(settings: &web::Settings, operator: Local) -> Result<Web, DaemonError> {
    let socket = settings.address.to_string();
    let served = Web::serve(settings, operator).await;
    served.map_err(|source| DaemonError::Bind { socket, source })
}

/// The endpoints, each with a certificate that can be shown.
fn ready(config: &Config) -> Result<Vec<Endpoint>, DaemonError> {
    let mut own = None;
    let ready = |endpoint: &Endpoint| {
        let mut endpoint = endpoint.clone();
        if let Some(tls) = &mut endpoint.tls
            && matches!(tls.certificate, Certificate::SelfSigned)
        {
            let shown = match own.take() {
                Some(made) => made,
                None => own_certificate(config)?,
            };
            own = Some(shown.clone());
            tls.certificate = Certificate::Ready(shown);
        }
        Ok(endpoint)
    };
    config.live.endpoints.iter().map(ready).collect()
}

fn own_certificate(config: &Config) -> Result<Arc<rustls::ServerConfig>, DaemonError> {
    let folder = config.fixed.data_dir.join("tls");
    let made = certificate::self_signed(&folder, &config.live.host);
    let files = made.map_err(|source| DaemonError::Certificate {
        folder: folder.display().to_string(),
        source,
    })?;
    files
        .iter()
        .for_each(|files| maillog::own_certificate(&files.chain));
    let config = certificate::server_config(files, maillog::certificate_taken)?;
    Ok(Arc::new(config))
}

fn serve_all(
    bound: Vec<(Socket, Bound)>,
    endpoints: &[Endpoint],
    shared: &Arc<Shared>,
) -> Result<Vec<Listener>, DaemonError> {
    let mut listeners = Vec::new();
    for (socket, bound) in bound {
        let Some(endpoint) = endpoints.iter().find(|it| it.socket == socket) else {
            continue;
        };
        let served = bound.serve(endpoint.clone(), shared.clone());
        listeners.push(served.map_err(|source| DaemonError::Bind {
            socket: socket.to_string(),
            source,
        })?);
    }
    Ok(listeners)
}

/// As configured, as far as the process may have files.
fn listener_limits(config: &Config) -> listener::Limits {
    let mut limits = config.live.limits.clone();
    let room = privilege::room_by_files();
    if room.sessions < limits.sessions {
        maillog::few_files(room.sessions, limits.sessions);
        limits.sessions = room.sessions;
    }
    limits.leaving = limits.leaving.min(room.leaving);
    limits
}

/// Delivery's settings.
fn delivery_settings(
    config: &Config,
    sources: &Sources,
) -> Result<delivery::Settings, DaemonError> {
    let accounts = by_server(config, sources)?.into_iter();
    let server = |(server, (name, token)): (&Server, _)| delivery::Server {
        upstream: Arc::new(Upstream {
            name,
            smtp: server.smtp.clone(),
            token,
        }),
        limits: server.limits,
        tenant: server.tenant.clone(),
    };
    let live = &config.live;
    Ok(delivery::Settings {
        policy: live.policy.clone(),
        servers: live.servers.iter().zip(accounts).map(server).collect(),
        options: live.delivery.clone(),
        host: live.host.clone(),
        received: live.received,
    })
}

/// The listeners' settings. Passwords of unknown users are compared too, with a hash that takes as long to
/// make as one of theirs.
fn listener_settings(config: &Config, checks: &Arc<Checks>) -> listener::Settings {
    let live = &config.live;
    listener::Settings {
        policy: live.policy.clone(),
        users: Users::new(live.users.clone(), checks.clone()),
        direct: live.direct.clone(),
        limits: listener_limits(config),
    }
}
