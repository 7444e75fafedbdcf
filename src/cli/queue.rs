//! `mailferry queue`, by the running program where one runs, else on the spool itself.

mod print;
pub(super) mod reach;
pub(super) mod reason;
mod select;

use std::path::PathBuf;
use std::process::ExitCode;

use super::common::{ConfigFile, NO, USAGE, plain};
use crate::admin::queue::PAGE;
use crate::base::{MessageId, Timestamp};
use crate::spool::{Deed, Entry, Filter, Page, Selection};
pub(super) use print::{story, summary};
use reach::Queue;
use select::{Filters, Which};

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
        #[command(flatten)]
        filters: Filters,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show all that is known of a message, with every attempt
    Show {
        /// Its id, as the 250 reply had it
        id: MessageId,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Retry messages now, including held ones. Messages that may already have been delivered are skipped
    /// unless you name their id or release them
    Retry(Which),
    /// Hold messages: they wait until they are released
    Hold {
        #[command(flatten)]
        which: Which,
        /// Why, for whoever looks
        #[arg(long, default_value = "by hand")]
        reason: String,
    },
    /// Let held messages go on
    Release(Which),
    /// Remove messages; nobody is told
    Delete(Which),
    /// Write a message as the app sent it, an .eml
    Export {
        /// Its id
        id: MessageId,
        /// The file, which must not be there; standard output where none is named
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    reach::run(&arguments.config, async |queue| {
        act(&queue, &arguments.action).await
    })
}

async fn act(queue: &Queue, action: &Action) -> Result<ExitCode, String> {
    match action {
        Action::List { filters, json } => list(queue, filters.filter(), *json).await?,
        Action::Show { id, json } => show(queue, *id, *json).await?,
        Action::Retry(which) => {
            return each(queue, which, Deed::Retry, "to be tried again").await;
        }
        Action::Hold { which, reason } => {
            return each(queue, which, Deed::Hold(reason.clone()), "held").await;
        }
        Action::Release(which) => return each(queue, which, Deed::Release, "released").await,
        Action::Delete(which) => return each(queue, which, Deed::Delete, "deleted").await,
        Action::Export { id, output } => export(queue, *id, output.as_ref()).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn each(queue: &Queue, which: &Which, deed: Deed, done: &str) -> Result<ExitCode, String> {
    let Some(which) = which.selection() else {
        eprintln!(
            "mailferry: name messages by their ids, or by a filter such as --sender, or say --all"
        );
        return Ok(ExitCode::from(USAGE));
    };
    let named = match &which {
        Selection::Ids(ids) => ids.len(),
        Selection::Matching(_) => 0,
    };
    let count = queue.act(which, deed).await?;
    println!("{count} {done}");
    if count < named {
        eprintln!(
            "mailferry: {} left unchanged: they are being sent now, or are already in that state",
            named - count
        );
        return Ok(ExitCode::from(NO));
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(queue: &Queue, filter: Filter, json: bool) -> Result<(), String> {
    let mut page = Page {
        after: None,
        limit: PAGE,
        filter,
    };
    let mut count = 0;
    let (servers, now) = (queue.servers().await?, Timestamp::now());
    loop {
        let entries = queue.list(page.clone()).await?;
        let Some(last) = entries.last() else {
            break;
        };
        page.after = Some(last.record.id);
        count += entries.len();
        for entry in &entries {
            let reason = reason::reason(entry, &servers, now);
            if json {
                println!("{}", with_reasons(entry, reason.as_slice())?);
            } else {
                println!("{}", print::line(entry, reason.as_deref()));
            }
        }
    }
    if json {
        return Ok(());
    }
    if page.filter == Filter::default() {
        println!("{count} in the queue");
    } else {
        println!("{count} found");
    }
    for server in servers.into_iter().flatten() {
        let Some(hold) = server.hold else {
            continue;
        };
        let until = hold.until.map_or("until it is released".into(), |until| {
            format!("next try {until} ({})", reason::from_now(until, now))
        });
        println!(
            "\nserver {} is held since {}, {until}:\n  {}",
            server.name,
            hold.since,
            plain(&hold.reason)
        );
    }
    Ok(())
}

/// An entry as JSON, with why it waits.
fn with_reasons(entry: &Entry, reasons: &[String]) -> Result<serde_json::Value, String> {
    let mut value = serde_json::to_value(entry).map_err(|error| error.to_string())?;
    if !reasons.is_empty() {
        value["waits"] = reasons.join("; ").into();
    }
    Ok(value)
}

async fn show(queue: &Queue, id: MessageId, json: bool) -> Result<(), String> {
    // A message that has left the queue has a story; one that never came has none.
    let story = queue.story(id).await?;
    let entry = queue.show(id).await?;
    let reasons = queue.reasons(&entry).await?;
    if !json {
        print::entry(&entry, &story, &reasons);
        return Ok(());
    }
    let mut value = with_reasons(&entry, &reasons)?;
    value["events"] = serde_json::to_value(&story.events).map_err(|error| error.to_string())?;
    println!("{value:#}");
    Ok(())
}

async fn export(queue: &Queue, id: MessageId, output: Option<&PathBuf>) -> Result<(), String> {
    let Some(path) = output else {
        return queue.export(id, &mut tokio::io::stdout()).await;
    };
    let failed = |error| format!("{}: {error}", path.display());
    let mut options = tokio::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.await.map_err(failed)?;
    queue.export(id, &mut file).await?;
    println!("{} written", path.display());
    Ok(())
}
