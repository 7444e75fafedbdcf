//! `mailferry queue`: works through the running program, or directly on the spool if no program is running.

mod print;
mod select;
mod summary;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::common::{ConfigFile, NO, USAGE, plain};
use super::operator::{self, Reached};
use super::progress::Progress;
use crate::base::{MessageId, Timestamp};
use crate::delivery::ServerState;
use crate::operator::guide;
use crate::operator::reason::{self, Servers};
use crate::operator::{FromResponse, Need, OperatorError, PAGE, Request};
use crate::platform::files::{Readers, create_new};
use crate::spool::{Entry, OperatorAction, Page, QueueFilter, Selection, StateFilter, Story};
pub(super) use print::{story, summary};
use select::{Filters, WhichArguments};
use summary::Summary;

/// The arguments of `mailferry queue`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    #[command(subcommand)]
    action: QueueAction,
}

#[derive(clap::Subcommand)]
enum QueueAction {
    /// List the messages, oldest first
    List {
        #[command(flatten)]
        filters: Filters,
    },
    /// Show everything that is known about a message, with every attempt
    Show {
        /// The message's id, as shown in the 250 reply
        id: MessageId,
    },
    /// Retry messages now, including held ones. Held messages that may already have been delivered are
    /// skipped unless you name their ids; `release` includes them
    Retry(WhichArguments),
    /// Hold messages until they are released
    Hold {
        #[command(flatten)]
        which: WhichArguments,
        /// The reason, shown to administrators
        #[arg(long, default_value = "by hand")]
        reason: String,
    },
    /// Show how many messages wait, for which reason and since when
    Summary {
        #[command(flatten)]
        filters: Filters,
    },
    /// Release held messages for delivery
    Release(WhichArguments),
    /// Delete messages; nobody is notified
    Delete {
        #[command(flatten)]
        which: WhichArguments,
        /// Do not ask before several messages are deleted
        #[arg(long)]
        yes: bool,
    },
    /// Write a message as the app sent it, as an .eml file
    Export {
        /// The message's id
        id: MessageId,
        /// The file, which must not exist yet; without it, standard output
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    operator::run(&arguments.config, Need::Queue, async |reached| {
        act(&reached, &arguments.action, arguments.config.json).await
    })
}

async fn act(
    reached: &Reached,
    action: &QueueAction,
    json: bool,
) -> Result<ExitCode, OperatorError> {
    match action {
        QueueAction::List { filters } => list(reached, filters.filter(), json).await?,
        QueueAction::Show { id } => show(reached, *id, json).await?,
        QueueAction::Retry(which) => {
            return each(
                reached,
                which,
                OperatorAction::Retry,
                "to be tried again",
                json,
            )
            .await;
        }
        QueueAction::Hold { which, reason } => {
            return each(
                reached,
                which,
                OperatorAction::Hold(reason.clone()),
                "held",
                json,
            )
            .await;
        }
        QueueAction::Release(which) => {
            return each(reached, which, OperatorAction::Release, "released", json).await;
        }
        QueueAction::Summary { filters } => {
            summarize(reached, filters.filter(), json).await?;
        }
        QueueAction::Delete { which, yes } => {
            if !yes && !is_meant(reached, which).await? {
                println!("0 deleted");
                return Ok(ExitCode::from(NO));
            }
            return each(reached, which, OperatorAction::Delete, "deleted", json).await;
        }
        QueueAction::Export { id, output } => export(reached, *id, output.as_ref()).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn each(
    reached: &Reached,
    which: &WhichArguments,
    deed: OperatorAction,
    done: &str,
    json: bool,
) -> Result<ExitCode, OperatorError> {
    let Some(which) = which.selection() else {
        eprintln!(
            "mailferry: select messages by their ids, by a filter such as --sender, or with --all"
        );
        return Ok(ExitCode::from(USAGE));
    };
    let named = match &which {
        Selection::Ids(ids) => ids.len(),
        Selection::Matching(_) => 0,
    };
    let request = Request::Act { which, deed };
    let (mut count, mut progress) = (0, Progress::new("changing messages"));
    let show = |so_far: usize| {
        count = so_far;
        progress.show(&format!("{so_far} so far"));
    };
    reached.operator().each(request, show).await?;
    drop(progress);
    if json {
        println!(
            "{}",
            serde_json::json!({ "changed": count, "named": named })
        );
    } else {
        println!("{count} {done}");
    }
    if count < named {
        eprintln!(
            "mailferry: {} left unchanged: they are being sent now, or are already in the requested state",
            named - count
        );
        return Ok(ExitCode::from(NO));
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks before messages that a filter selects are deleted, if a person sits at the terminal.
async fn is_meant(reached: &Reached, which: &WhichArguments) -> Result<bool, OperatorError> {
    let Some(Selection::Matching(filter)) = which.selection() else {
        return Ok(true);
    };
    if !std::io::stdin().is_terminal() {
        return Ok(true);
    }
    let mut count = 0;
    pages(reached, filter, |_| count += 1).await?;
    print!("Delete {count} messages? Nobody is notified. [y/N] ");
    std::io::stdout()
        .flush()
        .map_err(OperatorError::unavailable)?;
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .map_err(OperatorError::unavailable)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

async fn summarize(
    reached: &Reached,
    filter: QueueFilter,
    json: bool,
) -> Result<(), OperatorError> {
    let (servers, now) = (servers(reached).await?, Timestamp::now());
    let mut summary = Summary::default();
    pages(reached, filter, |entry| {
        summary.add(entry, reason::reason(entry, &servers, now));
    })
    .await?;
    summary.print(json, now);
    Ok(())
}

/// Passes the messages that a filter admits to `each`, oldest first.
async fn pages(
    reached: &Reached,
    filter: QueueFilter,
    mut each: impl FnMut(&Entry),
) -> Result<(), OperatorError> {
    let mut page = Page {
        after: None,
        limit: PAGE,
        filter,
    };
    loop {
        let entries: Vec<Entry> = reached.operator().ask(Request::List(page.clone())).await?;
        let Some(last) = entries.last() else {
            return Ok(());
        };
        page.after = Some(last.record.id);
        entries.iter().for_each(&mut each);
    }
}

async fn list(reached: &Reached, filter: QueueFilter, json: bool) -> Result<(), OperatorError> {
    let (is_filtered, server) = (filter != QueueFilter::default(), filter.server.clone());
    let mut count = 0;
    let (servers, now) = (servers(reached).await?, Timestamp::now());
    let config = reached.config.as_ref();
    let names = config.into_iter().flat_map(|config| &config.live.servers);
    let width = names.map(|server| server.name.len()).max();
    let width = width.unwrap_or_default().max("SERVER".len());
    pages(reached, filter, |entry| {
        if count == 0 && !json {
            println!("{}", print::header(width));
        }
        count += 1;
        let reason = reason::reason(entry, &servers, now);
        if json {
            println!("{}", with_reasons(entry, reason.as_slice()));
        } else {
            println!("{}", print::line(entry, reason.as_deref(), width, now));
        }
    })
    .await?;
    if count == 0
        && let Some(name) = server.filter(|name| !is_server(reached, name))
    {
        return Err(OperatorError::no_server(&name));
    }
    if json {
        return Ok(());
    }
    if is_filtered {
        println!("{count} found");
    } else {
        println!("{count} in the queue");
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
        if let Some(place) = guide::explained(&hold.reason) {
            println!("  more: {place}");
        }
    }
    Ok(())
}

/// True if the configuration has a server of this name, or could not be read.
fn is_server(reached: &Reached, name: &str) -> bool {
    let config = reached.config.as_ref();
    config.is_none_or(|config| config.live.servers.iter().any(|server| server.name == name))
}

/// Returns an entry as JSON, with the reasons why the message waits.
fn with_reasons(entry: &Entry, reasons: &[String]) -> serde_json::Value {
    let mut value = serde_json::json!(entry);
    if !reasons.is_empty() {
        value["waits"] = reasons.join("; ").into();
    }
    value
}

async fn show(reached: &Reached, id: MessageId, json: bool) -> Result<(), OperatorError> {
    // A message that has left the queue still has a story; a message that never arrived has none.
    let story: Story = reached.operator().ask(Request::Story(id)).await?;
    let entry: Entry = reached.operator().ask(Request::Show(id)).await?;
    let reasons = reasons(reached, &entry).await?;
    if !json {
        print::entry(&entry, &story, &reasons);
        return Ok(());
    }
    let mut value = with_reasons(&entry, &reasons);
    value["events"] = serde_json::json!(story.events);
    println!("{value:#}");
    Ok(())
}

async fn export(
    reached: &Reached,
    id: MessageId,
    output: Option<&PathBuf>,
) -> Result<(), OperatorError> {
    let Some(path) = output else {
        return copy(reached, id, &mut tokio::io::stdout()).await;
    };
    let failed = |error| OperatorError::no(format!("{}: {error}", path.display()));
    let file = create_new(Readers::Owner).open(path).map_err(failed)?;
    let mut file = tokio::fs::File::from_std(file);
    copy(reached, id, &mut file).await?;
    println!("{} written", path.display());
    Ok(())
}

/// Writes a message as the app sent it.
async fn copy(
    reached: &Reached,
    id: MessageId,
    to: &mut (impl AsyncWrite + Unpin),
) -> Result<(), OperatorError> {
    let mut pieces = reached.operator().call(Request::Content(id)).await;
    let (mut progress, mut octets) = (Progress::new("exporting"), 0);
    while let Some(piece) = pieces.recv().await {
        let piece = Vec::<u8>::from_response(piece?)?;
        let written = to.write_all(&piece).await;
        written.map_err(OperatorError::unavailable)?;
        octets += piece.len();
        progress.show(&format!("{octets} octets"));
    }
    to.flush().await.map_err(OperatorError::unavailable)
}

/// Returns the servers of the running program; `None` if no program is running.
async fn servers(reached: &Reached) -> Result<Servers, OperatorError> {
    if !reached.is_running {
        return Ok(None);
    }
    let servers: Vec<ServerState> = reached.operator().ask(Request::Servers).await?;
    Ok(Some(servers))
}

/// Returns the reasons why a message waits. If the mailbox's sending rate is among the reasons, adds the
/// expected wait.
pub(super) async fn reasons(
    reached: &Reached,
    entry: &Entry,
) -> Result<Vec<String>, OperatorError> {
    let servers = servers(reached).await?;
    let first = reason::reason(entry, &servers, Timestamp::now());
    if first.is_none() || reason::pace(entry, &servers, 1).is_none() {
        return Ok(first.into_iter().collect());
    }
    let before = before(reached, entry).await?;
    let then = reason::pace(entry, &servers, before);
    Ok(first.into_iter().chain(then).collect())
}

/// Counts the queued messages of the same server that are older than this message.
async fn before(reached: &Reached, entry: &Entry) -> Result<usize, OperatorError> {
    let mut page = Page {
        after: None,
        limit: PAGE,
        filter: QueueFilter {
            server: Some(entry.record.lane.clone()),
            state: Some(StateFilter::Queued),
            ..QueueFilter::default()
        },
    };
    let mut count = 0;
    loop {
        let request = Request::List(page.clone());
        let entries: Vec<Entry> = reached.operator().ask(request).await?;
        let older = entries
            .iter()
            .take_while(|it| it.record.id < entry.record.id);
        let older = older.count();
        count += older;
        match entries.last() {
            Some(last) if older == entries.len() => page.after = Some(last.record.id),
            _ => return Ok(count),
        }
    }
}
