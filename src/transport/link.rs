//! How delivery uses an upstream: over the network, or by other means in simulations.

use std::sync::Arc;

use super::outcome::{Interruption, Outcome};
use super::outgoing::Outgoing;
use super::step::Steps;
use super::upstream::Upstream;
use crate::base::BoxFuture;

/// Opens sessions.
pub trait Transport: Send + Sync + 'static {
    /// Connects and signs in. If the server has refused the current token, set `fresh_token`: a new token is
    /// then requested first.
    fn open<'a>(
        &'a self,
        upstream: &'a Arc<Upstream>,
        fresh_token: bool,
    ) -> BoxFuture<'a, Result<Box<dyn Link>, Interruption>>;

    /// Tests the connection to the server step by step, with a fresh token, while a person watches. Returns
    /// the signed-in session, or `None` if a step failed; the failed step has been sent to `steps`.
    fn test<'a>(
        &'a self,
        upstream: &'a Arc<Upstream>,
        steps: &'a Steps,
    ) -> BoxFuture<'a, Option<Box<dyn Link>>>;
}

/// A signed-in session.
pub trait Link: Send {
    /// Sends one message. After an interruption the session can no longer be used.
    fn send<'a>(
        &'a mut self,
        message: Outgoing<'a>,
    ) -> BoxFuture<'a, Result<Outcome, Interruption>>;

    /// True if the server accepts no further message in this session.
    fn is_spent(&self) -> bool;

    /// True if the connection still seems open; nothing is sent to check it.
    fn is_alive(&mut self) -> BoxFuture<'_, bool>;

    /// Ends the session with QUIT.
    fn quit(self: Box<Self>) -> BoxFuture<'static, ()>;
}
