//! The listeners' sockets: bound by this program, or passed by systemd, which can bind ports that this
//! program may not bind.

use std::io;

use super::error::DaemonError;
use crate::config;
use crate::door::accept::Bound;
use crate::door::{Listener, Socket};
use crate::platform::sockets::{self, Passed};

/// The passed sockets, each with its name; several may share a name, for example for IPv4 and IPv6. They
/// stay open, so that a listener that is removed from the configuration can come back.
pub(super) struct Sockets(Vec<Passed>);

impl Sockets {
    /// Takes the sockets that systemd has passed (sd_listen_fds_with_names(3)).
    pub(super) fn passed() -> Self {
        Self(sockets::passed())
    }

    /// Returns one or more bound sockets for each listener.
    pub(super) async fn bind_all<'e>(
        &self,
        listeners: impl Iterator<Item = &'e config::ListenerConfig>,
    ) -> Result<Vec<(Socket, Bound)>, DaemonError> {
        let mut all = Vec::new();
        for listener in listeners {
            let socket = &listener.endpoint.socket;
            let bound = self
                .bind(socket)
                .await
                .map_err(|source| DaemonError::Bind {
                    socket: socket.to_string(),
                    source,
                })?;
            all.extend(bound.into_iter().map(|bound| (socket.clone(), bound)));
        }
        Ok(all)
    }

    /// Returns the names of passed sockets that no listener uses.
    pub(super) fn unused<'s>(
        &'s self,
        listeners: &'s [config::ListenerConfig],
    ) -> impl Iterator<Item = &'s str> {
        let names = self.0.iter().map(|passed| passed.name.as_str());
        names.filter(|name| {
            let wanted = Socket::Systemd((*name).to_owned());
            !listeners.iter().any(|it| it.endpoint.socket == wanted)
        })
    }

    async fn bind(&self, socket: &Socket) -> io::Result<Vec<Bound>> {
        match socket {
            Socket::Address { address, only_v6 } => Ok(vec![Listener::bind(*address, *only_v6)?]),
            Socket::Path { path, mode } => Ok(vec![Listener::bind_path(path, *mode).await?]),
            Socket::Systemd(wanted) => self.named(wanted),
        }
    }

    fn named(&self, wanted: &str) -> io::Result<Vec<Bound>> {
        let named = self.0.iter().filter(|passed| passed.name == wanted);
        let bound = named.map(|passed| Bound::of(passed.socket()?));
        let bound: Vec<Bound> = bound.collect::<io::Result<_>>()?;
        if !bound.is_empty() {
            Ok(bound)
        } else {
            let names: Vec<&str> = self.0.iter().map(|passed| passed.name.as_str()).collect();
            let words = format!("systemd passed no socket with this name; it passed {names:?}");
            Err(io::Error::new(io::ErrorKind::NotFound, words))
        }
    }
}
