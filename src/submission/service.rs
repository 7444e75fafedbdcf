//! Submission as a service behind the door.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::connection::Connection;
use super::shared::{Shared, SubmissionOptions};
use super::wording;
use crate::base::BoxFuture;
use crate::door::stream::ClientStream;
use crate::door::{Protocol, TurnedAway, Visitor};

/// Submission at one listener.
#[derive(Clone)]
pub struct Submission {
    options: Arc<ArcSwap<SubmissionOptions>>,
    shared: Arc<Shared>,
}

impl Submission {
    /// Creates the submission service for a listener with these options.
    pub fn new(options: SubmissionOptions, shared: &Arc<Shared>) -> Self {
        Self {
            options: Arc::new(ArcSwap::from_pointee(options)),
            shared: shared.clone(),
        }
    }

    /// Replaces the options. Running sessions see the new options with their next message.
    pub fn reconfigure(&self, options: SubmissionOptions) {
        self.options.store(Arc::new(options));
    }
}

impl Protocol for Submission {
    fn farewell(&self, why: &TurnedAway) -> Vec<u8> {
        let mut said = Vec::new();
        wording::turned_away(why).write(&mut said);
        said
    }

    fn serve(&self, visitor: Visitor) -> BoxFuture<'static, Option<ClientStream>> {
        let connection = Connection::new(visitor, self.options.clone(), self.shared.clone());
        Box::pin(connection.run())
    }
}
