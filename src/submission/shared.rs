//! Settings and services that all sessions share.

use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::direct::Direct;
use crate::base::Clock;
use crate::message::{Address, Priority};
use crate::routing::Policy;
use crate::smtp;
use crate::spool::Intake;

/// Settings for all sessions. Running sessions see a change at their next command.
pub struct SubmissionSettings {
    /// The routing policy.
    pub policy: Policy,
    /// The servers in direct mode.
    pub direct: HashSet<String>,
}

/// Options for mail at one listener.
#[derive(Clone)]
pub struct SubmissionOptions {
    /// The limits of the SMTP session itself.
    pub session: Arc<smtp::SessionSettings>,
    /// The priority of mail received here. A priority of the user takes precedence.
    pub priority: Option<Priority>,
    /// The sender of messages that have no sender address; see [`crate::door::User::assume_from`].
    pub assume_from: Option<Address>,
}

/// Everything that all sessions share.
pub struct Shared {
    /// The current settings.
    pub settings: ArcSwap<SubmissionSettings>,
    /// The spool that takes the messages.
    pub spool: Arc<dyn Intake>,
    /// Sends the messages for servers in direct mode.
    pub direct: Arc<dyn Direct>,
    /// The clock that tells when a message arrived.
    pub clock: Clock,
}

impl SubmissionOptions {
    /// Creates options with these session settings and no others.
    pub fn new(session: smtp::SessionSettings) -> Self {
        Self {
            session: Arc::new(session),
            priority: None,
            assume_from: None,
        }
    }
}

impl Shared {
    /// Creates the shared state before the first session.
    pub fn new(
        settings: SubmissionSettings,
        spool: Arc<dyn Intake>,
        direct: Arc<dyn Direct>,
        clock: Clock,
    ) -> Arc<Self> {
        Arc::new(Self {
            settings: ArcSwap::from_pointee(settings),
            spool,
            direct,
            clock,
        })
    }
}
