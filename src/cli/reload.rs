//! `mailferry reload`.

use std::process::ExitCode;

use super::common::ConfigFile;
use super::operator;
use crate::operator::{Need, Reloaded, Request};

/// The arguments of `mailferry reload`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    operator::run(&arguments.config, Need::Running, async |reached| {
        let reloaded: Reloaded = reached.operator().ask(Request::Reload).await?;
        if arguments.config.json {
            println!("{}", serde_json::json!(reloaded));
            return Ok(ExitCode::SUCCESS);
        }
        println!("{} is in use.", reloaded.file);
        if !reloaded.needs_restart.is_empty() {
            println!(
                "These settings have changed, but need a restart of mailferry: {}",
                reloaded.needs_restart.join(", ")
            );
        }
        Ok(ExitCode::SUCCESS)
    })
}
