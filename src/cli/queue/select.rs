//! Which messages a command means.

use std::time::Duration;

use crate::base::{MessageId, Timestamp};
use crate::spool::{QueueFilter, Selection, Wanted};

/// Messages by what they are.
#[derive(clap::Args)]
pub(super) struct Filters {
    /// Only those of this server
    #[arg(long)]
    server: Option<String>,
    /// Only those of this envelope sender, or of @DOMAIN; "" for the null sender
    #[arg(long, value_name = "ADDRESS")]
    sender: Option<String>,
    /// Only those to this recipient, or to @DOMAIN
    #[arg(long, value_name = "ADDRESS")]
    recipient: Option<String>,
    /// Only those in this state
    #[arg(long)]
    state: Option<StateArgument>,
    /// Only those taken longer ago than this: 90s, 2h, 3days
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    older: Option<Duration>,
    /// Only those taken within this time
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    newer: Option<Duration>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum StateArgument {
    /// Waits for its time
    Queued,
    /// Waits for a person
    Held,
    /// Delivery has it just now
    Active,
    /// May have arrived already
    Uncertain,
}

/// Messages by their names, or by what they are.
#[derive(clap::Args)]
pub(super) struct WhichArguments {
    /// Their ids
    #[arg(conflicts_with_all = ["all", "server", "sender", "recipient", "state", "older", "newer"])]
    ids: Vec<MessageId>,
    /// All of them
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
                StateArgument::Queued => Wanted::Queued,
                StateArgument::Held => Wanted::Held,
                StateArgument::Active => Wanted::Active,
                StateArgument::Uncertain => Wanted::Uncertain,
            }),
            before: self.older.map(|age| now.before(age)),
            since: self.newer.map(|age| now.before(age)),
        }
    }
}

impl WhichArguments {
    /// None where nothing was said.
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
