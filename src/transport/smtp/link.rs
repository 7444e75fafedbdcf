//! SMTP as a [`Transport`].

use std::sync::Arc;

use super::judge::{interruption, outcome};
use super::probe;
use super::session::Session;
use super::sign_in::{self, Names};
use crate::base::BoxFuture;
use crate::transport::link::{Link, Transport};
use crate::transport::outcome::{Interruption, Outcome};
use crate::transport::outgoing::Outgoing;
use crate::transport::step::Steps;
use crate::transport::upstream::Upstream;

/// The transport to the real servers, over the network.
#[derive(Default)]
pub struct Smtp {
    names: Names,
}

/// A session, with its server.
struct SmtpLink {
    session: Session,
    upstream: Arc<Upstream>,
    /// True if the server was too busy for a message; the session is then ended, to reduce its load.
    is_busy: bool,
}

impl SmtpLink {
    fn boxed(session: Session, upstream: &Arc<Upstream>) -> Box<dyn Link> {
        Box::new(Self {
            session,
            upstream: upstream.clone(),
            is_busy: false,
        })
    }
}

impl Transport for Smtp {
    fn open<'a>(
        &'a self,
        upstream: &'a Arc<Upstream>,
        fresh_token: bool,
    ) -> BoxFuture<'a, Result<Box<dyn Link>, Interruption>> {
        Box::pin(async move {
            let session = sign_in::open(&self.names, upstream, fresh_token).await?;
            Ok(SmtpLink::boxed(session, upstream))
        })
    }

    fn test<'a>(
        &'a self,
        upstream: &'a Arc<Upstream>,
        steps: &'a Steps,
    ) -> BoxFuture<'a, Option<Box<dyn Link>>> {
        Box::pin(async move {
            let session = probe::go(upstream, steps).await?;
            Some(SmtpLink::boxed(session, upstream))
        })
    }
}

impl Link for SmtpLink {
    fn send<'a>(
        &'a mut self,
        mut message: Outgoing<'a>,
    ) -> BoxFuture<'a, Result<Outcome, Interruption>> {
        Box::pin(async move {
            let sent = self.session.send(&mut message).await;
            let replies = sent.map_err(|failure| interruption(&self.upstream, &failure))?;
            self.is_busy = matches!(&replies.message, Some((_, answer)) if answer.is_transient());
            Ok(outcome(&self.upstream, &message, &replies))
        })
    }

    fn is_spent(&self) -> bool {
        self.is_busy || self.session.is_spent()
    }

    fn is_alive(&mut self) -> BoxFuture<'_, bool> {
        Box::pin(self.session.is_alive())
    }

    fn quit(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(self.session.quit())
    }
}
