//! The way to servers as delivery uses it: the network, or in simulations something else.

use super::{Failure, Outgoing, Session, Settings, Transcript};
use crate::base::{BoxFuture, Secret};

/// Opens sessions.
pub trait Dial: Send + Sync + 'static {
    /// Connects and signs in; `token` is for XOAUTH2.
    fn open<'a>(
        &'a self,
        settings: &'a Settings,
        token: Option<&'a Secret>,
    ) -> BoxFuture<'a, Result<Box<dyn Link>, Failure>>;
}

/// A session, signed in; see [`Session`] for what each does.
pub trait Link: Send {
    /// Sends one message. An error means that the session is of no more use.
    fn send<'a>(&'a mut self, message: Outgoing<'a>) -> BoxFuture<'a, Result<Transcript, Failure>>;

    /// Whether the server wants no more of this session.
    fn is_spent(&self) -> bool;

    /// Whether the server is still there, as far as can be seen without asking it.
    fn is_alive(&mut self) -> BoxFuture<'_, bool>;

    /// Says goodbye.
    fn quit(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// The servers themselves.
pub struct Network;

impl Dial for Network {
    fn open<'a>(
        &'a self,
        settings: &'a Settings,
        token: Option<&'a Secret>,
    ) -> BoxFuture<'a, Result<Box<dyn Link>, Failure>> {
        Box::pin(async move {
            let session = Session::open(settings, token).await?;
            Ok(Box::new(session) as Box<dyn Link>)
        })
    }
}

impl Link for Session {
    fn send<'a>(&'a mut self, message: Outgoing<'a>) -> BoxFuture<'a, Result<Transcript, Failure>> {
        Box::pin(self.send(message))
    }

    fn is_spent(&self) -> bool {
        self.is_spent()
    }

    fn is_alive(&mut self) -> BoxFuture<'_, bool> {
        Box::pin(self.is_alive())
    }

    fn quit(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin((*self).quit())
    }
}
