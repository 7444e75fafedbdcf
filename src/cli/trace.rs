//! `mailferry trace`: shows what happened to a message, even if it left the queue long ago.

use std::process::ExitCode;

use super::common::{ConfigFile, NO, misused, plain};
use super::operator::{self, Reached};
use super::queue;
use crate::base::{MessageId, Timestamp};
use crate::operator::{ErrorKind, Need, OperatorError, PAGE, Request};
use crate::operator::{day, story};
use crate::spool::{Entry, Story, StoryFilter, StoryResult};

/// The arguments of `mailferry trace`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// A message's id, as shown in the 250 reply and the Received field; its Message-ID in angle brackets;
    /// or the address, or @DOMAIN, of a sender or recipient
    #[arg(value_name = "ID|ADDRESS")]
    what: Option<String>,
    /// Only messages that this user (a name in the configuration) sent
    #[arg(long)]
    user: Option<String>,
    /// Only messages with this result for at least one recipient
    #[arg(long)]
    result: Option<ResultArgument>,
    /// Only messages received since this time: an age such as 90min, 2h or 3days, or 2026-11-26T14:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Only messages received before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    before: Option<Timestamp>,
    /// Show at most this many messages, the newest ones
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum ResultArgument {
    /// A server accepted the message
    Delivered,
    /// The message failed
    Failed,
    /// A server accepted the message, but a report says that it did not arrive
    Bounced,
    /// The message was refused when the app sent it
    Refused,
    /// The message is in the queue
    Waiting,
    /// The message is in the queue until an operator releases it
    Held,
    /// The message is in the queue, and may already have been delivered
    Uncertain,
}

/// Parses a time: an age, or a time of RFC 3339.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(age) = humantime::parse_duration(text) {
        return Ok(Timestamp::now().before(age));
    }
    if let Ok((start, _)) = day::bounds(text) {
        return Ok(start);
    }
    let time: Result<jiff::Timestamp, _> = text.parse();
    let time =
        time.map_err(|_| "expected an age such as 2h, a day such as 2026-11-26, or a time such as 2026-11-26T14:00:00Z");
    Ok(Timestamp(time?.as_millisecond()))
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let filter = filter(arguments);
    if filter == StoryFilter::default() {
        return misused(
            &"name an id, a Message-ID, an address, --user, --result, --since or --before",
        );
    }
    operator::run(
        &arguments.config,
        Need::Queue,
        async |reached| match arguments
            .what
            .as_deref()
            .filter(|what| !what.contains('@') && !what.starts_with('<'))
        {
            Some(id) => one(&reached, id, arguments.config.json).await,
            None => several(&reached, filter, arguments).await,
        },
    )
}

fn filter(arguments: &Arguments) -> StoryFilter {
    StoryFilter {
        about: arguments.what.clone(),
        user: arguments.user.clone(),
        result: arguments.result.map(|result| match result {
            ResultArgument::Delivered => StoryResult::Delivered,
            ResultArgument::Failed => StoryResult::Failed,
            ResultArgument::Bounced => StoryResult::Bounced,
            ResultArgument::Refused => StoryResult::Refused,
            ResultArgument::Waiting => StoryResult::Waiting,
            ResultArgument::Held => StoryResult::Held,
            ResultArgument::Uncertain => StoryResult::Uncertain,
        }),
        since: arguments.since,
        before: arguments.before,
        below: None,
    }
}

/// Prints one message's story.
async fn one(reached: &Reached, id: &str, is_json: bool) -> Result<ExitCode, OperatorError> {
    let operator = reached.operator();
    let id: MessageId = id.parse().map_err(OperatorError::no)?;
    let story: Story = operator.ask(Request::Story(id)).await?;
    let reasons = waits(reached, &story).await?;
    if is_json {
        println!("{}", with_reasons(&story, &reasons));
    } else {
        queue::story(&story, &reasons);
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the reasons why a message waits; none if it has left the queue.
async fn waits(reached: &Reached, story: &Story) -> Result<Vec<String>, OperatorError> {
    if story.ended.is_some() {
        return Ok(Vec::new());
    }
    let mut reasons = Vec::new();
    let parts = story::parts(story);
    for id in [story.record.id].into_iter().chain(parts.iter().copied()) {
        match reached.operator().ask::<Entry>(Request::Show(id)).await {
            Ok(entry) => {
                let own = queue::reasons(reached, &entry).await?.into_iter();
                let to = entry.record.envelope.recipients.iter();
                let to: Vec<&str> = to.map(|it| it.address.as_str()).collect();
                reasons.extend(own.map(|reason| match parts.is_empty() {
                    true => reason,
                    false => format!("to {}: {reason}", to.join(", ")),
                }));
            }
            // The message has left the queue.
            Err(error) if error.kind == ErrorKind::No => {}
            Err(error) => return Err(error),
        }
    }
    Ok(reasons)
}

/// Returns a story as JSON, with the reasons why the message waits.
fn with_reasons(story: &Story, reasons: &[String]) -> serde_json::Value {
    let mut value = json(story);
    if !reasons.is_empty() {
        value["waits"] = reasons.join("; ").into();
    }
    value
}

/// Prints a line for each story that a filter admits, oldest first.
async fn several(
    reached: &Reached,
    filter: StoryFilter,
    arguments: &Arguments,
) -> Result<ExitCode, OperatorError> {
    let mut stories = newest(reached, filter, arguments.limit).await?;
    stories.reverse();
    let what = arguments.what.as_deref().unwrap_or_default();
    for story in &stories {
        let reasons = waits(reached, story).await?;
        if arguments.config.json {
            println!("{}", with_reasons(story, &reasons));
        } else {
            println!("{}", queue::summary(story, what));
            for reason in &reasons {
                println!("    waits: {}", plain(reason));
            }
        }
    }
    if !arguments.config.json {
        println!("{}", found(stories.len(), arguments.limit));
    }
    Ok(if stories.is_empty() {
        ExitCode::from(NO)
    } else {
        ExitCode::SUCCESS
    })
}

/// Returns the newest `limit` stories that a filter admits, newest first.
async fn newest(
    reached: &Reached,
    mut filter: StoryFilter,
    limit: usize,
) -> Result<Vec<Story>, OperatorError> {
    let mut stories: Vec<Story> = Vec::new();
    while stories.len() < limit {
        let request = Request::Stories {
            filter: filter.clone(),
            limit: PAGE.min(limit - stories.len()),
        };
        let page: Vec<Story> = reached.operator().ask(request).await?;
        let Some(last) = page.last() else { break };
        filter.below = Some(last.record.id);
        stories.extend(page);
    }
    Ok(stories)
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

fn found(count: usize, limit: usize) -> String {
    let details = "`mailferry trace ID` shows all details of one message";
    if count == 0 {
        "0 found; mail that was refused before its content (at MAIL or RCPT) is only in the log: event=\"refused\"".to_owned()
    } else if count == limit {
        format!("the newest {count}, `--limit` shows more; {details}")
    } else {
        format!("{count} found; {details}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_time_is_an_age_or_a_date() {
        let at = time("2026-11-26T14:00:00Z").unwrap();
        assert_eq!(at, Timestamp(1_795_701_600_000));
        let age = Timestamp::now().since(time("2h").unwrap());
        assert!((Duration::from_secs(7_199)..=Duration::from_secs(7_201)).contains(&age));
        assert!(time("tea time").unwrap_err().contains("expected"));
    }
}
