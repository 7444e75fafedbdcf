//! `mailferry reload`.

use std::process::ExitCode;

use super::common::{BAD_CONFIG, ConfigFile};
use super::operator;
use crate::operator::{ErrorKind, Need, Reloaded, Request};

/// The arguments of `mailferry reload`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    operator::run(&arguments.config, Need::Running, async |reached| {
        if reached.config.is_none() {
            eprintln!("mailferry: not reloaded: the earlier configuration stays in force");
            return Ok(ExitCode::from(BAD_CONFIG));
        }
        let reloaded: Reloaded = match reached.operator().ask(Request::Reload).await {
            Ok(reloaded) => reloaded,
            Err(error) if error.kind == ErrorKind::No => {
                eprintln!("{error}\nThe earlier configuration stays in force.");
                return Ok(ExitCode::from(BAD_CONFIG));
            }
            Err(error) => return Err(error),
        };
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
