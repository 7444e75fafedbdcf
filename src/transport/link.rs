//! How delivery uses an upstream: the network, or in simulations something else.

use std::sync::Arc;

use super::outcome::{Interruption, Outcome};
use super::outgoing::Outgoing;
use super::step::Steps;
use super::upstream::Upstream;
use crate::base::BoxFuture;

/// Opens sessions.
pub trait Transport: Send + Sync + 'static {
    /// Connects and signs in. `fresh_token` asks for a new token first: the server has refused the one at
    /// hand.
    fn open<'a>(
        &'a self,
        upstream: &'a Arc<Upstream>,
        fresh_token: bool,
    ) -> BoxFuture<'a, Result<Box<dyn Link>, Interruption>>;

    /// Goes the way to the server step by step for a person who watches, with a fresh token. Gives the
    /// signed-in session, or none if a step failed, which was told then.
    fn test<'a>(
        &'a self,
        upstream: &'a Arc<Upstream>,
        steps: &'a Steps,
    ) -> BoxFuture<'a, Option<Box<dyn Link>>>;
}

/// A session, signed in.
pub trait Link: Send {
    /// Sends one message. After an interruption the session is of no more use.
    fn send<'a>(
        &'a mut self,
        message: Outgoing<'a>,
    ) -> BoxFuture<'a, Result<Outcome, Interruption>>;

    /// Whether the server wants no more of this session.
    fn is_spent(&self) -> bool;

    /// Whether the server is still there, as far as can be seen without asking it.
    fn is_alive(&mut self) -> BoxFuture<'_, bool>;

    /// Says goodbye.
    fn quit(self: Box<Self>) -> BoxFuture<'static, ()>;
}
