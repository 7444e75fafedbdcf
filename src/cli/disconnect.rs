//! `mailferry disconnect`.

use std::process::ExitCode;

use super::common::ConfigFile;
use super::operator;
use crate::operator::accounts::Disconnected;
use crate::operator::{Need, Request};

/// The arguments of `mailferry disconnect`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// The server's `name` in the configuration
    #[arg(required_unless_present = "unused")]
    server: Option<String>,
    /// Delete the stored tokens of accounts that no server uses any more
    #[arg(long, conflicts_with = "server")]
    unused: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    operator::run(&arguments.config, Need::Accounts, async |reached| {
        let operator = reached.operator();
        let Some(server) = &arguments.server else {
            let unused: Vec<String> = operator.ask(Request::ForgetUnused).await?;
            if arguments.config.json {
                println!("{}", serde_json::json!({ "accounts": unused }));
                return Ok(ExitCode::SUCCESS);
            }
            println!(
                "Deleted the tokens of {} unused accounts: {}",
                unused.len(),
                unused.join(", ")
            );
            return Ok(ExitCode::SUCCESS);
        };
        let request = Request::Disconnect {
            server: server.clone(),
        };
        let done: Disconnected = operator.ask(request).await?;
        if arguments.config.json {
            println!("{}", serde_json::json!(done));
            return Ok(ExitCode::SUCCESS);
        }
        match (done.had_tokens, &done.servers[..]) {
            (false, _) => println!("Server {server} had no tokens."),
            (true, [_, _, ..]) => println!(
                "The tokens of {} are deleted: these servers share one account.",
                done.servers.join(", ")
            ),
            (true, _) => println!("The tokens of server {server} are deleted."),
        }
        Ok(ExitCode::SUCCESS)
    })
}
