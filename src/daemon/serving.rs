//! The listeners, each with the service behind its door.

use std::collections::HashSet;
use std::sync::Arc;

use super::error::DaemonError;
use crate::base::{BoxFuture, certificate};
use crate::config::{self, Config, ServiceConfig};
use crate::delivery::{self, Delivery};
use crate::door::accept::Bound;
use crate::door::{Door, Listener, ListenerCertificate, Protocol, Socket};
use crate::incoming::{self, Incoming, ReadingProtocol};
use crate::observe::maillog;
use crate::spool::{Content, Record};
use crate::submission::{self, Answered, Direct, Submission};

/// A running listener, with the service behind its door.
pub(super) struct Serving {
    pub(super) listener: Listener,
    pub(super) service: Service,
}

/// The service behind the door of a listener.
pub(super) enum Service {
    Submission(Submission),
    Incoming(ReadingProtocol),
}

/// The state that all sessions of a protocol share.
pub(super) struct Services {
    pub(super) submission: Arc<submission::Shared>,
    pub(super) incoming: Arc<incoming::Shared>,
}

/// Passes messages for servers in direct mode from submission to delivery, because submission does not know
/// delivery.
pub(super) struct Through(pub(super) Arc<Delivery>);

/// Sends nothing at once, because delivery is not running.
pub(super) struct Nothing;

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

/// Finds a new listener whose socket overlaps a socket that this program already uses. Returns both sockets.
pub(super) fn beside<'s>(
    mut new: impl Iterator<Item = &'s config::ListenerConfig>,
    own: &'s HashSet<Socket>,
) -> Option<(&'s Socket, &'s Socket)> {
    new.find_map(|listener| {
        let (mut own, socket) = (own.iter(), &listener.endpoint.socket);
        let own = own.find(|own| own.overlaps(socket))?;
        Some((socket, own))
    })
}

/// Returns the listeners. Each listener with TLS has a certificate that is ready for use.
pub(super) fn ready(config: &Config) -> Result<Vec<config::ListenerConfig>, DaemonError> {
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

pub(super) fn own_certificate(config: &Config) -> Result<Arc<rustls::ServerConfig>, DaemonError> {
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

pub(super) fn serve_all(
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
    pub(super) fn goes_on(
        &mut self,
        configured: &[config::ListenerConfig],
        services: &Services,
    ) -> bool {
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
