//! `mailferry trace`: shows what happened to a message, even if it left the queue long ago.

use std::process::ExitCode;

use super::common::{ConfigFile, NO};
use super::operator;
use super::queue;
use crate::base::MessageId;
use crate::operator::{Need, OperatorError, Request};
use crate::spool::{Entry, Story};

/// The arguments of `mailferry trace`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// A message's id, as shown in the 250 reply and the Received field; its Message-ID in angle brackets;
    /// or the address, or @DOMAIN, of a sender or recipient
    #[arg(value_name = "ID|ADDRESS")]
    what: String,
    /// For an address: show at most this many messages, the newest ones
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    operator::run(&arguments.config, Need::Queue, async |reached| {
        let (operator, what) = (reached.operator(), &arguments.what);
        if !what.contains('@') {
            let id: MessageId = what
                .parse()
                .map_err(|error| OperatorError::no(format!("{error}")))?;
            let story: Story = operator.ask(Request::Story(id)).await?;
            let reasons = if story.ended.is_some() {
                Vec::new()
            } else {
                let entry: Entry = operator.ask(Request::Show(id)).await?;
                queue::reasons(&reached, &entry).await?
            };
            if arguments.json {
                let mut value = json(&story);
                if !reasons.is_empty() {
                    value["waits"] = reasons.join("; ").into();
                }
                println!("{value}");
            } else {
                queue::story(&story, &reasons);
            }
            return Ok(ExitCode::SUCCESS);
        }
        let request = Request::Stories {
            address: what.clone(),
            limit: arguments.limit,
        };
        let stories: Vec<Story> = operator.ask(request).await?;
        for story in &stories {
            if arguments.json {
                println!("{}", json(story));
            } else {
                println!("{}", queue::summary(story, what));
            }
        }
        if !arguments.json {
            println!("{}", found(stories.len(), arguments.limit, what));
        }
        Ok(if stories.is_empty() {
            ExitCode::from(NO)
        } else {
            ExitCode::SUCCESS
        })
    })
}

/// Returns a story as JSON. A message that has left the queue has no state there, and no next attempt.
fn json(story: &Story) -> serde_json::Value {
    let mut value = serde_json::to_value(story).unwrap_or_default();
    if story.ended.is_some()
        && let Some(record) = value["record"].as_object_mut()
    {
        record.remove("state");
        record.remove("due");
    }
    value
}

fn found(count: usize, limit: usize, what: &str) -> String {
    let details = "`mailferry trace ID` shows all details of one message";
    if count == 0 && what.starts_with('<') {
        "0 found; a Message-ID is known once a server has accepted the message: look for an address of the message instead"
            .to_owned()
    } else if count == 0 {
        "0 found; a message that was refused is only in the log".to_owned()
    } else if count == limit {
        format!("the newest {count}, `--limit` shows more; {details}")
    } else {
        format!("{count} found; {details}")
    }
}
