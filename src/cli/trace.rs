//! `mailferry trace`: what became of a message, also when it is long gone.

use std::process::ExitCode;

use super::queue::{self, reach};
use super::{ConfigFile, NO};
use crate::base::MessageId;
use crate::spool::Story;

/// Works while `mailferry serve` runs and while it does not; knows messages for as long as
/// `[spool] history` says.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// A message's id, as the 250 reply and the Received field have it; or an address, or @DOMAIN, of
    /// senders and recipients
    #[arg(value_name = "ID|ADDRESS")]
    what: String,
    /// At most so many of an address, the newest
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    reach::run(&arguments.config, async |queue| {
        let what = &arguments.what;
        if !what.contains('@') {
            let id: MessageId = what.parse().map_err(|error| format!("{error}"))?;
            let story = queue.story(id).await?;
            match arguments.json {
                true => println!("{}", json(&story)),
                false => queue::story(&story),
            }
            return Ok(ExitCode::SUCCESS);
        }
        let stories = queue.stories(what, arguments.limit).await?;
        for story in &stories {
            match arguments.json {
                true => println!("{}", json(story)),
                false => println!("{}", queue::summary(story, what)),
            }
        }
        if !arguments.json {
            println!(
                "{} found; `mailferry trace ID` has all of one",
                stories.len()
            );
        }
        Ok(match stories.is_empty() {
            true => ExitCode::from(NO),
            false => ExitCode::SUCCESS,
        })
    })
}

fn json(story: &Story) -> String {
    serde_json::to_string(story).unwrap_or_default()
}
