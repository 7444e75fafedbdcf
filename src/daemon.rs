//! The only module that uses all parts: it builds, runs, reloads and stops them.

mod drain;
mod error;
pub(crate) mod privilege;
mod serving;
mod settings;
mod sockets;
mod spool_copy;

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;

use crate::alerts::Alerts;
use crate::base::shared_secrets::SharedSecrets;
use crate::base::{Clock, Timestamp};
use crate::bounces::Bounces;
use crate::config::{Config, Fixed};
use crate::delivery::{self, Delivery};
use crate::door::stream::ClientStream;
use crate::door::{self, Checks, Door, Protocol, Socket};
use crate::incoming::{self};
use crate::observe::{maillog, metrics};
use crate::operator::figures::Recorder;
use crate::operator::{
    self, Accounts, Control, ListenerRow, Local, ProcessRequest, ProgramInfo, SharedDrain,
    SharedInfo,
};
use crate::platform::connection::Connection;
use crate::platform::identity;
use crate::platform::supervisor;
use crate::spool::{self, Manage, Owner, ShownSpool, WholeSpool};
use crate::submission::{self, Submission};
use crate::token::{Sources, Vault};
use crate::transport::smtp::Smtp;
use crate::web::{self, SharedLive, Web};
use drain::Drain;
pub use drain::DrainError;
pub use error::DaemonError;
pub use privilege::{PrivilegeError, Root};
use serving::{Nothing, Service, Services, Serving, Through, beside, ready, serve_all};
pub use settings::readers;
pub(crate) use settings::route_settings;
use settings::{
    by_server, delivery_settings, door_settings, incoming_settings, page_live, submission_settings,
    tokens, watched,
};
use sockets::Sockets;
pub(crate) use spool_copy::{CopiedSpool, SpoolCopyError, copy_spool, undo_spool_copy};

/// The interval at which the service manager is told how the program is.
const TELL: Duration = Duration::from_secs(30);

/// The running program.
pub struct Daemon {
    about: SharedInfo,
    page: SharedLive,
    requests: mpsc::Receiver<ProcessRequest>,
    /// Set while this node is out of service, or is being taken out.
    drain: Option<Drain>,
    drain_shown: SharedDrain,
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
        let spool = spool::open(&config.fixed.spool, owner(&config), &clock).await?;
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
        let (process, requests) = operator::process::channel();
        let drain_shown = SharedDrain::default();
        let door = Door::new(door_settings(&config, &checks), spool.user_sessions());
        let figures = Recorder::begin(spool.clone()).await;
        let operator = Local::running(operator::Parts {
            spool: shown,
            delivery: delivery.clone(),
            accounts: accounts.clone(),
            incoming: incoming.clone(),
            door: door.clone(),
            figures: figures.clone(),
            about: about.clone(),
            process,
            draining: drain_shown.clone(),
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
            requests,
            drain: None,
            drain_shown,
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

    /// Waits until somebody asks for a change of the whole process.
    pub(crate) async fn requested(&mut self) -> ProcessRequest {
        match self.requests.recv().await {
            Some(request) => request,
            // The operator's end lives as long as the control socket.
            None => std::future::pending().await,
        }
    }

    /// Applies a new configuration; sessions and deliveries under way are not disturbed. On an error
    /// everything stays as it was. Logs and returns the changed settings that need a restart.
    pub async fn reload(&mut self, mut config: Config) -> Result<Vec<String>, DaemonError> {
        if self.drain.is_some() {
            return Err(DaemonError::Drained);
        }
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

    /// Begins to take this node out of service, if another one can take over. Sessions may go on for the time `wait`.
    pub(crate) async fn drain(&mut self, wait: Duration) -> Result<(), DrainError> {
        if self.drain.is_some() {
            return Ok(());
        }
        let nodes = self.spool.nodes().await;
        let nodes = nodes.map_err(|error| DrainError::Spool(error.to_string()))?;
        drain::may_drain(&nodes)?;
        maillog::draining();
        self.spool.drain(true);
        let (stay, closing) = std::mem::take(&mut self.listeners)
            .into_iter()
            .partition(drain::is_of_this_machine);
        self.listeners = stay;
        let mut about = ProgramInfo::clone(&self.about.load());
        let stays = |row: &ListenerRow| {
            let mut listeners = self.listeners.iter();
            listeners.any(|it| it.listener.name() == row.name)
        };
        about.listeners.retain(stays);
        self.about.store(Arc::new(about));
        let parts = drain::Parts {
            door: self.door.clone(),
            delivery: self.delivery.clone(),
            shown: self.drain_shown.clone(),
            wait,
            grace: self.grace,
        };
        self.drain = Some(Drain::begin(parts, closing));
        Ok(())
    }

    /// Puts this node back into service, with a configuration that was just read.
    pub(crate) async fn undrain(&mut self, config: Config) -> Result<(), DaemonError> {
        if let Some(drain) = self.drain.take() {
            drain.undo().await;
            self.door.drain(false);
            self.spool.drain(false);
            self.drain_shown.store(None);
            maillog::undrained();
        }
        self.reload(config).await.map(drop)
    }

    /// Stops accepting clients, lets sessions and deliveries under way end, and then stops the program.
    pub async fn stop(self) {
        maillog::stopping(self.grace);
        supervisor::stopping();
        self.telling.abort();
        self.alerts.stop();
        self.bounces.stop();
        self.drain.iter().for_each(Drain::abort);
        let drained = self.drain.iter().flat_map(|drain| drain.closing.iter());
        let listeners = self.listeners.iter().chain(drained);
        listeners.for_each(|it| it.listener.close());
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

/// Returns the owner of this run's leases. Nodes may have the same configured `host`, so they go by the machine's name.
fn owner(config: &Config) -> Owner {
    match config.fixed.spool.postgresql {
        None => Owner::this_process(&config.live.host),
        Some(_) => Owner::this_process(&identity::host_name()),
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
    for account in accounts.unused().await.unwrap_or_default() {
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
        door: Door::new(door_settings(config, &Arc::default()), None),
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

async fn serve_web(
    settings: &web::PageSettings,
    operator: Local,
    live: SharedLive,
) -> Result<Web, DaemonError> {
    let socket = settings.address.to_string();
    let served = Web::serve(settings, operator, live).await;
    served.map_err(|source| DaemonError::Bind { socket, source })
}
