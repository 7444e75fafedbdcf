//! What sessions go by and share.

use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::direct::Direct;
use crate::base::Clock;
use crate::message::{Address, Priority};
use crate::routing::Policy;
use crate::smtp;
use crate::spool::Intake;

/// What sessions go by; those under way see a change at their next command.
pub struct SubmissionSettings {
    /// Routing.
    pub policy: Policy,
    /// The servers in direct mode.
    pub direct: HashSet<String>,
}

/// What holds for mail at one listener.
#[derive(Clone)]
pub struct SubmissionOptions {
    /// The conversation's own limits.
    pub session: Arc<smtp::SessionSettings>,
    /// How urgent what comes in here is, if its user does not say.
    pub priority: Option<Priority>,
    /// The sender of messages of those who have no address; see [`crate::door::User::assume_from`].
    pub assume_from: Option<Address>,
}

/// What all sessions share.
pub struct Shared {
    /// What they go by.
    pub settings: ArcSwap<SubmissionSettings>,
    /// Where messages go.
    pub spool: Arc<dyn Intake>,
    /// Where messages for direct servers go.
    pub direct: Arc<dyn Direct>,
    /// Tells when a message came.
    pub clock: Clock,
}

impl SubmissionOptions {
    /// A conversation with these limits, and nothing else.
    pub fn new(session: smtp::SessionSettings) -> Self {
        Self {
            session: Arc::new(session),
            priority: None,
            assume_from: None,
        }
    }
}

impl Shared {
    /// No session yet.
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
