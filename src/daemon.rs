//! The only module that uses all parts: it builds, runs, reloads and stops them.

mod error;
pub(crate) mod privilege;
mod sockets;

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;

use crate::alerts::Alerts;
use crate::base::shared_secrets::SharedSecrets;
use crate::base::{BoxFuture, Clock, Timestamp, certificate};
use crate::bounces::{Bounces, WatchedMailbox};
use crate::config::{self, Config, Fixed, ServerConfig, ServiceConfig};
use crate::delivery::{self, Delivery};
use crate::door::accept::Bound;
use crate::door::stream::ClientStream;
use crate::door::{self, Checks, Door, Listener, ListenerCertificate, Protocol, Socket, Users};
use crate::incoming::{self, Incoming, Mailbox, ReadingProtocol};
use crate::observe::{maillog, metrics};
use crate::operator::accounts::Named;
use crate::operator::figures::Recorder;
use crate::operator::route::{RouteListener, RouteSettings};
use crate::operator::{
    self, Accounts, Control, ListenerRow, Local, ProgramInfo, ReloadRequest, SharedInfo,
};
use crate::platform::connection::Connection;
use crate::platform::supervisor;
use crate::spool::{self, Content, Manage, Owner, Record, ShownSpool, WholeSpool};
use crate::submission::{self, Answered, Direct, Submission};
use crate::token::{Sources, Vault};
use crate::transport::{Upstream, smtp::Smtp};
use crate::web::{self, PageLive, SharedLive, Web};
pub use error::DaemonError;
pub use privilege::{PrivilegeError, Root};
use sockets::Sockets;

/// The interval at which the service manager is told how the program is.
const TELL: Duration = Duration::from_secs(30);

/// The running program.
pub struct Daemon {
    about: SharedInfo,
    page: SharedLive,
    reloads: mpsc::Receiver<ReloadRequest>,
    sockets: Sockets,
    door: Arc<Door>,
    services: Services,
    spool: Arc<dyn WholeSpool>,
    delivery: Arc<Delivery>,
    bounces: Arc<Bounces>,
    sources: Arc<Sources>,
    checks: Arc<Checks>,
    accounts: Arc<Accounts>,
    listeners: Vec<Serving>,
    control: Control,
    web: Option<Web>,
    tending: JoinHandle<()>,
    /// Tells the service manager that the program is alive.
    telling: JoinHandle<()>,
    /// Stores the figures regularly.
    recording: JoinHandle<()>,
    figures: Arc<Recorder>,
    alerts: Alerts,
    grace: Duration,
    fixed: Fixed,
}

/// A running listener, with the service behind its door.
struct Serving {
    listener: Listener,
    service: Service,
}

/// The service behind the door of a listener.
enum Service {
    Submission(Submission),
    Incoming(ReadingProtocol),
}

/// What all sessions of a protocol share.
struct Services {
    submission: Arc<submission::Shared>,
    incoming: Arc<incoming::Shared>,
}

/// Passes messages for servers in direct mode from submission to delivery, because submission does not know
/// delivery.
struct Through(Arc<Delivery>);

/// Sends nothing at once, because delivery is not running.
struct Nothing;

impl Direct for Nothing {
    fn submit<'a>(&'a self, _: &'a Record, _: &'a Content) -> BoxFuture<'a, Answered> {
        Box::pin(async { Answered::Unavailable })
    }
}

impl Direct for Through {
    fn submit<'a>(&'a self, record: &'a Record, content: &'a Content) -> BoxFuture<'a, Answered> {
        Box::pin(async move {
            match self.0.direct(record, content).await {
                delivery::DirectOutcome::Upstream(answer) => Answered::Upstream {
                    code: answer.code,
                    enhanced: answer.enhanced.into_owned(),
                    text: answer.text.into_owned(),
                },
                delivery::DirectOutcome::Refused(refusal) => Answered::Refused(refusal),
                delivery::DirectOutcome::Trouble(reason) => Answered::Trouble(reason),
                delivery::DirectOutcome::Unavailable => Answered::Unavailable,
            }
        })
    }
}

impl Daemon {
    /// Starts the program. Everything that can fail does so before the first client is accepted.
    pub async fn start(config: Config, clock: Clock, root: Root) -> Result<Self, DaemonError> {
        let sockets = Sockets::passed();
        let bound = sockets.bind_all(config.live.listeners.iter()).await?;
        sockets
            .unused(&config.live.listeners)
            .for_each(maillog::socket_unused);
        privilege::drop_rights(config.fixed.run_as.as_deref(), root)?;
        let configured = ready(&config)?;
        let owner = Owner::this_process(&config.live.host);
        let spool = spool::open(&config.fixed.spool, owner, &clock).await?;
        let sources = sources(&config, spool.secrets(), clock.another())?;
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
        let shown: Arc<dyn Manage> = Arc::new(ShownSpool::new(spool.clone(), clock.clone()));
        let incoming = incoming::Shared::new(incoming_settings(&config, &sources)?);
        let about = SharedInfo::default();
        let started = Timestamp::now();
        about.store(Arc::new(described(&config, &[], started)));
        let (ask_reload, reloads) = operator::reload::channel();
        let door = Door::new(door_settings(&config, &checks));
        let figures = Recorder::begin(spool.clone()).await;
        let operator = Local::running(operator::Parts {
            spool: shown,
            delivery: delivery.clone(),
            accounts: accounts.clone(),
            incoming: incoming.clone(),
            door: door.clone(),
            figures: figures.clone(),
            about: about.clone(),
            reloads: ask_reload,
        });
        let page = Arc::new(ArcSwap::from_pointee(page_live(&config)));
        let web = match &config.fixed.web {
            Some(settings) => Some(serve_web(settings, operator.clone(), page.clone()).await?),
            None => None,
        };
        let telling = tokio::spawn(tell_supervisor(operator.clone()));
        let alerts = Alerts::start(
            operator.clone(),
            delivery.clone(),
            spool.clone(),
            config.live.alerts.clone(),
        );
        let control = Control::serve(&config.fixed.control, operator).await;
        let control = control.map_err(|source| DaemonError::Control {
            path: config.fixed.control.socket.display().to_string(),
            source,
        })?;
        if let Some(error) = &control.not_admitted {
            let group = config.fixed.control.group.as_deref().unwrap_or_default();
            maillog::group_not_admitted(group, error);
        }
        tell_of_accounts(&accounts).await;
        let tended = sources.clone();
        let tending = tokio::spawn(async move { tended.tend().await });
        let direct = Arc::new(Through(delivery.clone()));
        let recording = tokio::spawn(figures.clone().run());
        let bounces = Bounces::start(
            delivery.clone(),
            spool.clone(),
            incoming.clone(),
            clock.clone(),
            watched(&config, &incoming.settings()),
        );
        let bounces = Arc::new(bounces);
        let connected = accounts.connected();
        tokio::spawn(follow_sign_ins(
            connected,
            delivery.clone(),
            bounces.clone(),
        ));
        let submission = submission_settings(&config);
        let services = Services {
            submission: submission::Shared::new(submission, spool.clone(), direct, clock),
            incoming,
        };
        let listeners = serve_all(bound, &configured, &door, &services)?;
        show_servers(&config);
        about.store(Arc::new(described(&config, &listeners, started)));
        Ok(Self {
            about,
            page,
            reloads,
            sockets,
            door,
            services,
            spool,
            delivery,
            bounces,
            sources,
            checks,
            accounts,
            listeners,
            control,
            web,
            tending,
            telling,
            recording,
            figures,
            alerts,
            grace: config.live.delivery.grace,
            fixed: config.fixed,
        })
    }

    /// Returns the addresses that the program listens on (not local sockets), in the order of the configuration.
    pub fn addresses(&self) -> Vec<std::net::SocketAddr> {
        self.listeners
            .iter()
            .filter_map(|it| it.listener.address())
            .collect()
    }

    /// True if nothing is being sent at this moment.
    pub fn is_quiet(&self) -> bool {
        self.delivery.is_quiet()
    }

    /// Waits until somebody asks to reload the configuration.
    pub(crate) async fn asked_to_reload(&mut self) -> ReloadRequest {
        match self.reloads.recv().await {
            Some(request) => request,
            // The operator's end lives as long as the control socket.
            None => std::future::pending().await,
        }
    }

    /// Applies a new configuration; sessions and deliveries under way are not disturbed. On an error
    /// everything stays as it was. Logs and returns the changed settings that need a restart.
    pub async fn reload(&mut self, mut config: Config) -> Result<Vec<String>, DaemonError> {
        let changes = self.fixed.changes(&config.fixed);
        config.fixed = self.fixed.clone();
        let configured = ready(&config)?;
        let asked: HashSet<Socket> = self
            .listeners
            .iter()
            .map(|it| it.listener.asked())
            .collect();
        let new = configured.iter();
        let new = new.filter(|listener| !asked.contains(&listener.endpoint.socket));
        if let Some((new, own)) = beside(new.clone(), &asked) {
            return Err(DaemonError::Beside {
                socket: new.to_string(),
                own: own.to_string(),
            });
        }
        let bound = self.sockets.bind_all(new).await?;
        let delivery_settings = delivery_settings(&config, &self.sources)?;
        let incoming_settings = incoming_settings(&config, &self.sources)?;
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
        let door_settings = door_settings(&config, &self.checks);
        self.door.settings.store(Arc::new(door_settings));
        show_servers(&config);
        let services = &self.services;
        let submission_settings = submission_settings(&config);
        services
            .submission
            .settings
            .store(Arc::new(submission_settings));
        self.bounces
            .reconfigure(watched(&config, &incoming_settings));
        services.incoming.reconfigure(incoming_settings);
        self.listeners
            .retain_mut(|it| it.goes_on(&configured, &self.services));
        let new = serve_all(bound, &configured, &self.door, &self.services)?;
        self.listeners.extend(new);
        self.page.store(Arc::new(page_live(&config)));
        self.alerts.reconfigure(config.live.alerts.clone());
        let since = self.about.load().since;
        let about = described(&config, &self.listeners, since);
        self.about.store(Arc::new(about));
        self.sockets
            .unused(&configured)
            .for_each(maillog::socket_unused);
        self.grace = config.live.delivery.grace;
        tell_of_accounts(&self.accounts).await;
        if !changes.is_empty() {
            maillog::needs_restart(&changes.join(", "));
        }
        Ok(changes)
    }

    /// Stops accepting clients, lets sessions and deliveries under way end, and then stops the program.
    pub async fn stop(self) {
        maillog::stopping(self.grace);
        supervisor::stopping();
        self.telling.abort();
        self.alerts.stop();
        self.bounces.stop();
        self.listeners.iter().for_each(|it| it.listener.close());
        tokio::join!(self.door.stop(self.grace), self.delivery.stop(self.grace));
        self.tending.abort();
        self.recording.abort();
        self.figures.stop().await;
        if let Err(error) = self.spool.leave().await {
            maillog::not_left(&error);
        }
        self.control.close();
        if let Some(web) = &self.web {
            web.close();
        }
        maillog::stopped();
    }
}

/// Tells the service manager now and then that the program is alive, and how it is.
async fn tell_supervisor(operator: Local) {
    // At least twice in the time that the service manager waits (sd_watchdog_enabled(3)).
    let interval = supervisor::watchdog().map_or(TELL, |time| time / 4);
    loop {
        let status = tokio::time::timeout(interval, operator.status()).await;
        let line = status.ok().and_then(Result::ok).map(|status| status.line());
        supervisor::alive(line.as_deref().unwrap_or("the spool does not answer"));
        tokio::time::sleep(interval).await;
    }
}

/// Shows the counters of all servers in the metrics.
fn show_servers(config: &Config) {
    for server in &config.live.servers {
        metrics::show_server(&server.name);
    }
}

/// Describes the running program for `mailferry status`.
fn described(config: &Config, listeners: &[Serving], since: Timestamp) -> ProgramInfo {
    let listeners = listeners.iter().map(|it| ListenerRow {
        name: it.listener.name(),
        address: it.listener.shown(),
        protocol: match it.service {
            Service::Submission(_) => "smtp".to_owned(),
            Service::Incoming(protocol) => protocol.name().to_owned(),
        },
    });
    let path = std::path::absolute(&config.path);
    ProgramInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: config.live.host.clone(),
        since,
        configuration: path
            .unwrap_or_else(|_| config.path.clone())
            .display()
            .to_string(),
        configured: Timestamp::now(),
        listeners: listeners.collect(),
        queue_age: config.live.alerts.thresholds.queue_age.as_secs(),
    }
}

/// Warns of servers that need a sign-in, and of tokens that no server uses.
async fn tell_of_accounts(accounts: &Accounts) {
    let now = Timestamp::now();
    for row in accounts.tokens().await {
        if row.needs_sign_in(now) {
            maillog::needs_sign_in(&row.server);
        }
    }
    // Entries that the vault cannot list were logged when the vault was opened.
    for account in accounts.unused().unwrap_or_default() {
        maillog::tokens_unused(&account);
    }
}

/// Uses servers again after somebody has signed in for them.
async fn follow_sign_ins(
    mut connected: broadcast::Receiver<String>,
    delivery: Arc<Delivery>,
    bounces: Arc<Bounces>,
) {
    loop {
        match connected.recv().await {
            Ok(server) => {
                delivery.signed_in(&server);
                bounces.try_again();
            }
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// Finds a new listener whose socket overlaps a socket that this program already uses. Returns both sockets.
fn beside<'s>(
    mut new: impl Iterator<Item = &'s config::ListenerConfig>,
    own: &'s HashSet<Socket>,
) -> Option<(&'s Socket, &'s Socket)> {
    new.find_map(|listener| {
        let (mut own, socket) = (own.iter(), &listener.endpoint.socket);
        let own = own.find(|own| own.overlaps(socket))?;
        Some((socket, own))
    })
}

/// The parts that a command uses while the program is not running.
pub type StoppedParts = (Accounts, delivery::DeliverySettings, Arc<incoming::Shared>);

/// Serves one client of a listener in this process while the program is not running. The spool is closed when the
/// returned task ends.
pub(crate) async fn serve_alone(
    config: &Config,
    (endpoint, options): (&door::Endpoint, &submission::SubmissionOptions),
    client: Connection,
) -> Result<JoinHandle<()>, DaemonError> {
    let owner = Owner::this_process(&config.live.host);
    let clock = Clock::default();
    let spool = spool::open(&config.fixed.spool, owner, &clock).await?;
    let settings = submission_settings(config);
    let shared = submission::Shared::new(settings, spool.clone(), Arc::new(Nothing), clock);
    let submission = Submission::new(options.clone(), &shared);
    let visitor = door::Visitor {
        stream: ClientStream::Plain(client),
        peer: Ipv4Addr::LOCALHOST.into(),
        endpoint: Arc::new(ArcSwap::from_pointee(endpoint.clone())),
        door: Door::new(door_settings(config, &Arc::default())),
    };
    Ok(tokio::spawn(async move {
        submission.serve(visitor).await;
        if let Err(error) = spool.leave().await {
            maillog::not_left(&error);
        }
    }))
}

/// Returns the accounts and the servers, for a command to use while the program is not running. (A running
/// program keeps the vault locked.)
pub async fn accounts(config: &Config) -> Result<StoppedParts, DaemonError> {
    let shared = match config.fixed.spool.postgresql {
        None => None,
        Some(_) => {
            let (owner, clock) = (Owner::this_process(&config.live.host), Clock::default());
            let spool = spool::visit(&config.fixed.spool, owner, &clock).await?;
            spool.secrets()
        }
    };
    let vault = Vault::visit(tokens(config), config.fixed.vault_key.as_ref())?;
    let sources = Arc::new(Sources::new(vault, shared, Clock::default()));
    let delivery = delivery_settings(config, &sources)?;
    let incoming = incoming::Shared::new(incoming_settings(config, &sources)?);
    let by_server = by_server(config, &sources)?;
    Ok((Accounts::new(sources, by_server, None), delivery, incoming))
}

fn sources(
    config: &Config,
    shared: Option<Arc<dyn SharedSecrets>>,
    clock: Clock,
) -> Result<Arc<Sources>, DaemonError> {
    let vault = Vault::open(tokens(config), config.fixed.vault_key.as_ref())?;
    vault
        .unreadable()
        .iter()
        .for_each(maillog::vault_unreadable);
    Ok(Arc::new(Sources::new(vault, shared, clock)))
}

/// Returns the vault's folder.
fn tokens(config: &Config) -> PathBuf {
    config.fixed.data_dir.join("tokens")
}

/// Returns each server, with its account if it has one.
fn by_server(config: &Config, sources: &Sources) -> Result<Vec<Named>, DaemonError> {
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
fn page_live(config: &Config) -> PageLive {
    PageLive {
        people: config.live.people.clone(),
        oidc: config.live.oidc.clone(),
        route: route_settings(config),
        sections: config::effective::sections(config),
    }
}

async fn serve_web(
    settings: &web::PageSettings,
    operator: Local,
    live: SharedLive,
) -> Result<Web, DaemonError> {
    let socket = settings.address.to_string();
    let served = Web::serve(settings, operator, live).await;
    served.map_err(|source| DaemonError::Bind { socket, source })
}

/// Returns the listeners. Each listener with TLS has a certificate that is ready for use.
fn ready(config: &Config) -> Result<Vec<config::ListenerConfig>, DaemonError> {
    let mut own = None;
    let ready = |listener: &config::ListenerConfig| {
        let mut listener = listener.clone();
        if let Some(tls) = &mut listener.endpoint.tls
            && matches!(tls.certificate, ListenerCertificate::SelfSigned)
        {
            let shown = match own.take() {
                Some(made) => made,
                None => own_certificate(config)?,
            };
            own = Some(shown.clone());
            tls.certificate = ListenerCertificate::Ready(shown);
        }
        Ok(listener)
    };
    config.live.listeners.iter().map(ready).collect()
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
    configured: &[config::ListenerConfig],
    door: &Arc<Door>,
    services: &Services,
) -> Result<Vec<Serving>, DaemonError> {
    let mut listeners = Vec::new();
    for (socket, bound) in bound {
        let here = configured.iter().find(|it| it.endpoint.socket == socket);
        let Some(config::ListenerConfig { endpoint, service }) = here else {
            continue;
        };
        let service = services.service(service);
        let behind = services.behind(&service);
        let served = bound.serve(endpoint.clone(), door.clone(), behind);
        let listener = served.map_err(|source| DaemonError::Bind {
            socket: socket.to_string(),
            source,
        })?;
        listeners.push(Serving { listener, service });
    }
    Ok(listeners)
}

impl Services {
    fn service(&self, config: &ServiceConfig) -> Service {
        match config {
            ServiceConfig::Submission(options) => {
                Service::Submission(Submission::new(options.clone(), &self.submission))
            }
            ServiceConfig::Incoming(protocol) => Service::Incoming(*protocol),
        }
    }

    /// Returns the protocol to put behind a door.
    fn behind(&self, service: &Service) -> Arc<dyn Protocol> {
        match service {
            Service::Submission(submission) => Arc::new(submission.clone()),
            Service::Incoming(protocol) => Arc::new(Incoming::new(*protocol, &self.incoming)),
        }
    }
}

impl Serving {
    /// Applies the listener's new configuration and returns true. If the listener is no longer configured,
    /// closes it and returns false.
    fn goes_on(&mut self, configured: &[config::ListenerConfig], services: &Services) -> bool {
        let asked = self.listener.asked();
        let kept = configured.iter().find(|it| it.endpoint.socket == asked);
        let Some(kept) = kept else {
            self.listener.close();
            maillog::not_listening(&self.listener.name());
            return false;
        };
        self.listener.reconfigure(kept.endpoint.clone());
        match (&self.service, &kept.service) {
            (Service::Submission(submission), ServiceConfig::Submission(options)) => {
                submission.reconfigure(options.clone());
            }
            (Service::Incoming(old), ServiceConfig::Incoming(new)) if old == new => {}
            (_, other) => {
                self.service = services.service(other);
                self.listener.replace(services.behind(&self.service));
            }
        }
        true
    }
}

/// Returns the configured limits, lowered if the process may not open enough files for them.
fn door_limits(config: &Config) -> door::DoorLimits {
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
fn delivery_settings(
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
fn door_settings(config: &Config, checks: &Arc<Checks>) -> door::DoorSettings {
    door::DoorSettings {
        users: Users::new(config.live.users.clone(), checks.clone()),
        limits: door_limits(config),
        dialogues: config.live.dialogues.clone(),
    }
}

/// Returns the mailboxes, and the users who may read them.
fn incoming_settings(
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

fn mailboxes(config: &Config, accounts: Vec<Named>) -> incoming::IncomingSettings {
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
fn watched(config: &Config, incoming: &incoming::IncomingSettings) -> Vec<WatchedMailbox> {
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

fn submission_settings(config: &Config) -> submission::SubmissionSettings {
    submission::SubmissionSettings {
        policy: config.live.policy.clone(),
        direct: config.live.direct.clone(),
    }
}
