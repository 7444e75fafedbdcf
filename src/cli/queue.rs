//! `mailferry queue`, by the running program where one runs, else on the spool itself.

use std::process::ExitCode;

use super::{ConfigFile, NO, block_on};
use crate::admin::api::{PAGE, Status};
use crate::admin::{self, Client};
use crate::base::{MessageId, Timestamp};
use crate::config::{Config, Secrets};
use crate::spool::{Entry, Origin, Owner, Page, Selection, Spool, SqliteSpool, State};

/// Works while `mailferry serve` runs and while it does not.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// List the messages, oldest first
    List {
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show all that is known of a message
    Show {
        /// Its id, as the 250 reply had it
        id: MessageId,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Try messages again at once, held ones too
    Retry(Which),
    /// Remove messages; nobody is told
    Delete(Which),
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Their ids
    ids: Vec<MessageId>,
    /// All of them
    #[arg(long)]
    all: bool,
}

impl Which {
    fn selection(&self) -> Selection {
        match self.all {
            true => Selection::All,
            false => Selection::Ids(self.ids.clone()),
        }
    }
}

/// Where the queue is reached.
enum Queue {
    Running(Client),
    Stopped(SqliteSpool),
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let config = match arguments.config.load(Secrets::Left) {
        Ok(config) => config,
        Err(code) => return code,
    };
    block_on(async {
        let done = async {
            let queue = Queue::open(&config).await?;
            act(&queue, &arguments.action).await
        };
        done.await.unwrap_or_else(|error| {
            eprintln!("mailferry: {error}");
            ExitCode::from(NO)
        })
    })
}

impl Queue {
    async fn open(config: &Config) -> Result<Self, String> {
        let folder = &config.spool.folder;
        if let Some(client) = Client::connect(&admin::socket(folder)).await {
            return Ok(Self::Running(client));
        }
        if !SqliteSpool::is_in(folder) {
            return Err(format!(
                "there is no spool in {}: `serve` has not run with this configuration. Where systemd \
                 gave it a StateDirectory, set `data_dir` to that folder",
                folder.display()
            ));
        }
        let spool = SqliteSpool::open(config.spool.clone(), Owner::this_process(&config.host));
        spool.map(Self::Stopped).map_err(|error| error.to_string())
    }

    async fn list(&self, page: Page) -> Result<Vec<Entry>, String> {
        match self {
            Self::Running(client) => client.list(&page).await.map_err(|error| error.to_string()),
            Self::Stopped(spool) => spool.list(page).await.map_err(|error| error.to_string()),
        }
    }

    async fn show(&self, id: MessageId) -> Result<Entry, String> {
        match self {
            Self::Running(client) => client.show(id).await.map_err(|error| error.to_string()),
            Self::Stopped(spool) => spool.get(id).await.map_err(|error| error.to_string()),
        }
    }

    async fn retry(&self, which: Selection) -> Result<usize, String> {
        match self {
            Self::Running(client) => client
                .retry(&which)
                .await
                .map_err(|error| error.to_string()),
            Self::Stopped(spool) => spool
                .retry(which, Timestamp::now())
                .await
                .map_err(|error| error.to_string()),
        }
    }

    async fn delete(&self, which: Selection) -> Result<usize, String> {
        match self {
            Self::Running(client) => client
                .delete(&which)
                .await
                .map_err(|error| error.to_string()),
            Self::Stopped(spool) => spool.delete(which).await.map_err(|error| error.to_string()),
        }
    }

    async fn status(&self) -> Result<Status, String> {
        match self {
            Self::Running(client) => client.status().await.map_err(|error| error.to_string()),
            Self::Stopped(_) => Ok(Status::default()),
        }
    }
}

async fn act(queue: &Queue, action: &Action) -> Result<ExitCode, String> {
    match action {
        Action::List { json } => list(queue, *json).await?,
        Action::Show { id, json } => show(&queue.show(*id).await?, *json),
        Action::Retry(which) => {
            let count = queue.retry(which.selection()).await?;
            println!("{count} to be tried again");
        }
        Action::Delete(which) => {
            let count = queue.delete(which.selection()).await?;
            println!("{count} deleted");
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(queue: &Queue, json: bool) -> Result<(), String> {
    let mut page = Page {
        after: None,
        limit: PAGE,
    };
    let mut count = 0;
    loop {
        let entries = queue.list(page.clone()).await?;
        let Some(last) = entries.last() else {
            break;
        };
        page.after = Some(last.record.id);
        count += entries.len();
        entries.iter().for_each(|entry| match json {
            true => println!("{}", serde_json::to_string(entry).unwrap_or_default()),
            false => println!("{}", line(entry)),
        });
    }
    if json {
        return Ok(());
    }
    println!("{count} in the queue");
    for held in queue.status().await?.held {
        let until = held.until.map_or("until it is released".into(), |until| {
            format!("to be tried at {until}")
        });
        println!(
            "\nserver {} is held since {}, {}:\n  {}",
            held.name, held.since, until, held.reason
        );
    }
    Ok(())
}

fn line(Entry { record, lease }: &Entry) -> String {
    let state = match record.state {
        _ if lease.is_some() => "active".to_owned(),
        State::Held => "held".to_owned(),
        State::Queued if record.attempts == 0 => "new".to_owned(),
        State::Queued => format!("next {}", record.due),
    };
    let to: Vec<&str> = record
        .envelope
        .recipients
        .iter()
        .map(|r| r.address.as_str())
        .collect();
    let server = if record.lane.is_empty() {
        "-"
    } else {
        &record.lane
    };
    format!(
        "{}  {}  {state}  {server}  <{}> -> {}  {} octets",
        record.id,
        record.received,
        record.envelope.sender,
        to.join(", "),
        record.size
    )
}

fn show(entry: &Entry, json: bool) {
    if json {
        println!(
            "{}",
            serde_json::to_string_pretty(entry).unwrap_or_default()
        );
        return;
    }
    let Entry { record, lease } = entry;
    let row = |name: &str, value: &dyn std::fmt::Display| println!("{name:<12}{value}");
    row("id", &record.id);
    row("received", &record.received);
    match &record.origin {
        Origin::Client {
            user,
            peer,
            helo,
            protocol,
        } => {
            row(
                "by",
                &format!("user {user} from {helo} [{peer}], {protocol}"),
            );
        }
        Origin::Report(about) => row("by", &format!("mailferry, a report about {about}")),
    }
    row("sender", &format!("<{}>", record.envelope.sender));
    for recipient in &record.envelope.recipients {
        row("recipient", &format!("<{}>", recipient.address));
    }
    row("size", &format!("{} octets", record.size));
    row(
        "server",
        &if record.lane.is_empty() {
            "to be routed"
        } else {
            &record.lane
        },
    );
    row(
        "state",
        &if record.state == State::Held {
            "held"
        } else {
            "queued"
        },
    );
    match lease {
        Some(lease) => row("active", &format!("{} until {}", lease.owner, lease.until)),
        None => row("next try", &record.due),
    }
    row("attempts", &record.attempts);
    row("last", &record.last.as_deref().unwrap_or("-"));
    if record.uncertain {
        row(
            "uncertain",
            &"the connection was lost when it may have arrived already",
        );
    }
}
