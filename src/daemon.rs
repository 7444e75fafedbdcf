//! The only place where all parts meet: build, run, reload, drain.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::admin::{self, Admin};
use crate::base::BoxFuture;
use crate::base::tls::TlsError;
use crate::config::Config;
use crate::delivery::{self, Delivery};
use crate::listener::accept::Bound;
use crate::listener::{self, Direct, Endpoint, Listener, Shared, Users};
use crate::observe::maillog;
use crate::session::Reply;
use crate::spool::{Content, Owner, Record, Spool, SpoolError, SqliteSpool};
use crate::token::{Sources, Vault, VaultError};

/// Why it does not start, or does not take a configuration.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A listener's address cannot be had.
    #[error(
        "cannot listen on {address}: {source}; stop what uses the port, or set another `address`"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The spool does not open.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The vault does not open.
    #[error("token vault: {0}")]
    Vault(#[from] VaultError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The control socket cannot be had.
    #[error(
        "cannot make the control socket {path}: {source}; a socket's path has 107 bytes at the most, so set a shorter `data_dir`"
    )]
    Control {
        /// Its path.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// The program at work.
pub struct Daemon {
    shared: Arc<Shared>,
    delivery: Arc<Delivery>,
    sources: Sources,
    listeners: Vec<Listener>,
    admin: Admin,
    grace: Duration,
}

/// Hands messages for direct servers from the listener to delivery, which do not know each other.
struct Through(Arc<Delivery>);

impl Direct for Through {
    fn submit<'a>(&'a self, record: &'a Record, content: &'a Content) -> BoxFuture<'a, Reply> {
        Box::pin(self.0.direct(record, content))
    }
}

impl Daemon {
    /// Starts: everything that can fail does so before the first client is accepted.
    pub async fn start(config: Config) -> Result<Self, DaemonError> {
        let bound = bind_all(config.endpoints.iter().cloned())?;
        let spool: Arc<dyn Spool> = Arc::new(SqliteSpool::open(
            config.spool.clone(),
            Owner::this_process(&config.host),
        )?);
        let sources = Sources::new(Vault::open(
            config.data_dir.join("tokens"),
            config.vault_key.as_ref(),
        )?);
        let (delivery_settings, listener_settings) = settings(&config, &sources)?;
        let names = config
            .servers
            .iter()
            .map(|server| server.name.clone())
            .collect();
        spool.reroute(names).await?;
        let delivery = Arc::new(Delivery::start(spool.clone(), delivery_settings));
        let socket = admin::socket(&config.spool.folder);
        let admin = Admin::serve(&socket, spool.clone(), delivery.clone()).map_err(|source| {
            DaemonError::Control {
                path: socket.display().to_string(),
                source,
            }
        })?;
        let direct = Arc::new(Through(delivery.clone()));
        let shared = Shared::new(listener_settings, spool, direct);
        let listeners = serve_all(bound, &shared)?;
        Ok(Self {
            shared,
            delivery,
            sources,
            listeners,
            admin,
            grace: config.grace,
        })
    }

    /// Where it listens, in the order of the configuration.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(Listener::address).collect()
    }

    /// Goes by another configuration; sessions and deliveries under way are not disturbed. On an
    /// error everything stays as it was. The data directory does not change.
    pub async fn reload(&mut self, config: Config) -> Result<(), DaemonError> {
        let asked: HashSet<SocketAddr> = self.listeners.iter().map(Listener::asked).collect();
        let new = config
            .endpoints
            .iter()
            .filter(|endpoint| !asked.contains(&endpoint.address));
        let bound = bind_all(new.cloned())?;
        let (delivery_settings, listener_settings) = settings(&config, &self.sources)?;
        self.delivery.reconfigure(delivery_settings).await;
        self.shared.settings.store(Arc::new(listener_settings));
        self.listeners.retain(|listener| {
            let kept = config
                .endpoints
                .iter()
                .find(|endpoint| endpoint.address == listener.asked());
            match kept {
                Some(endpoint) => listener.reconfigure(endpoint.clone()),
                None => listener.close(),
            }
            kept.is_some()
        });
        self.listeners.extend(serve_all(bound, &self.shared)?);
        self.grace = config.grace;
        Ok(())
    }

    /// Accepts no more, lets sessions and deliveries under way end, and ends.
    pub async fn stop(self) {
        maillog::stopping(self.grace);
        self.listeners.iter().for_each(Listener::close);
        self.shared.stop(self.grace).await;
        self.delivery.stop(self.grace).await;
        self.admin.close();
        maillog::stopped();
    }
}

fn bind_all(endpoints: impl Iterator<Item = Endpoint>) -> Result<Vec<Bound>, DaemonError> {
    let bind = |endpoint: Endpoint| {
        let address = endpoint.address;
        Listener::bind(endpoint).map_err(|source| DaemonError::Bind { address, source })
    };
    endpoints.map(bind).collect()
}

fn serve_all(bound: Vec<Bound>, shared: &Arc<Shared>) -> Result<Vec<Listener>, DaemonError> {
    let serve = |bound: Bound| {
        let address = bound.asked();
        bound
            .serve(shared.clone())
            .map_err(|source| DaemonError::Bind { address, source })
    };
    bound.into_iter().map(serve).collect()
}

/// Delivery's settings and the listener's.
fn settings(
    config: &Config,
    sources: &Sources,
) -> Result<(delivery::Settings, listener::Settings), DaemonError> {
    let mut servers = Vec::new();
    for server in &config.servers {
        let token = server
            .token
            .clone()
            .map(|settings| sources.source(settings))
            .transpose()?;
        servers.push(delivery::Server {
            name: server.name.clone(),
            upstream: server.upstream.clone(),
            token,
            sessions: server.sessions,
        });
    }
    let delivery = delivery::Settings {
        policy: config.policy.clone(),
        servers,
        schedule: config.schedule.clone(),
        host: config.host.clone(),
    };
    let listener = listener::Settings {
        session: config.session.clone(),
        policy: config.policy.clone(),
        users: Users::new(config.users.clone()),
        direct: config.direct.clone(),
        idle_time: config.idle_time,
        session_time: config.session_time,
        sessions: config.sessions,
    };
    Ok((delivery, listener))
}
