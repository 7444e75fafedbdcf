//! The options that select the messages that a command acts on.

use std::time::Duration;

use crate::base::{MessageId, Timestamp};
use crate::spool::{QueueFilter, Selection, StateFilter};

/// Messages selected by their properties.
#[derive(clap::Args)]
pub(super) struct Filters {
    /// Only messages of this server
    #[arg(long)]
    server: Option<String>,
    /// Only messages from this envelope sender, or from @DOMAIN; "" for the null sender
    #[arg(long, value_name = "ADDRESS")]
    sender: Option<String>,
    /// Only messages to this recipient, or to @DOMAIN
    #[arg(long, value_name = "ADDRESS")]
    recipient: Option<String>,
    /// Only messages in this state
    #[arg(long)]
    state: Option<StateArgument>,
    /// Only messages received longer ago than this: 90s, 2h, 3days
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    older: Option<Duration>,
    /// Only messages received more recently than this
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    newer: Option<Duration>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum StateArgument {
    /// Waits to be sent
    Queued,
    /// Waits until an operator releases it
    Held,
    /// Is being sent now
    Active,
    /// May already have been delivered
    Uncertain,
}

/// Messages selected by their ids, or by their properties.
#[derive(clap::Args)]
pub(super) struct WhichArguments {
    /// The messages' ids
    #[arg(conflicts_with_all = ["all", "server", "sender", "recipient", "state", "older", "newer"])]
    ids: Vec<MessageId>,
    /// All messages
    #[arg(long, conflicts_with_all = ["server", "sender", "recipient", "state", "older", "newer"])]
    all: bool,
    #[command(flatten)]
    filters: Filters,
}

impl Filters {
    pub(super) fn filter(&self) -> QueueFilter {
        let now = Timestamp::now();
        QueueFilter {
            server: self.server.clone(),
            sender: self.sender.clone(),
            recipient: self.recipient.clone(),
            state: self.state.map(|state| match state {
                StateArgument::Queued => StateFilter::Queued,
                StateArgument::Held => StateFilter::Held,
                StateArgument::Active => StateFilter::Active,
                StateArgument::Uncertain => StateFilter::Uncertain,
            }),
            before: self.older.map(|age| now.before(age)),
            since: self.newer.map(|age| now.before(age)),
        }
    }
}

impl WhichArguments {
    /// Returns the selection; `None` if the command line has neither ids nor an option that selects messages.
    pub(super) fn selection(&self) -> Option<Selection> {
        let filter = self.filters.filter();
        match (
            self.ids.is_empty(),
            self.all || filter != QueueFilter::default(),
        ) {
            (false, _) => Some(Selection::Ids(self.ids.clone())),
            (true, true) => Some(Selection::Matching(filter)),
            (true, false) => None,
        }
    }
}
