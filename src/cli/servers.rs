//! `mailferry servers`, `hold` and `release`.

use std::process::ExitCode;

use super::{ConfigFile, block_on, ended, plain};
use crate::admin::{self, Client};
use crate::config::Secrets;
use crate::delivery::ServerState;

/// Each server of the running program: its mailbox, what that has used of its limits, and why it is
/// not used, if it is not.
#[derive(clap::Args)]
pub(super) struct List {
    #[command(flatten)]
    config: ConfigFile,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Its mail stays queued until `release`, also over a restart.
#[derive(clap::Args)]
pub(super) struct Hold {
    #[command(flatten)]
    config: ConfigFile,
    /// The server; others with its mailbox are held with it
    server: String,
    /// Why, for whoever looks
    #[arg(long, default_value = "by hand")]
    reason: String,
}

/// It is used again at once, whatever it was held for.
#[derive(clap::Args)]
pub(super) struct Release {
    #[command(flatten)]
    config: ConfigFile,
    /// The server
    server: String,
}

pub(super) fn list(arguments: &List) -> ExitCode {
    ask(&arguments.config, async |client| {
        for server in client.servers().await.map_err(text)? {
            match arguments.json {
                true => println!("{}", serde_json::to_string(&server).map_err(text)?),
                false => show(&server),
            }
        }
        Ok(())
    })
}

pub(super) fn hold(arguments: &Hold) -> ExitCode {
    let Hold { server, reason, .. } = arguments;
    ask(&arguments.config, async |client| {
        client.hold(server, reason).await.map_err(text)?;
        println!("Server {server} is held; `mailferry release {server}` ends it.");
        Ok(())
    })
}

pub(super) fn release(arguments: &Release) -> ExitCode {
    let server = &arguments.server;
    ask(&arguments.config, async |client| {
        match client.release(server).await.map_err(text)? {
            true => println!("Server {server} is used again."),
            false => println!("Server {server} was not held."),
        }
        Ok(())
    })
}

fn show(server: &ServerState) {
    let ServerState {
        name,
        mailbox,
        limits,
        recipients_of_day,
        minute_until,
        hold,
    } = server;
    let state = match hold {
        None => "in use".to_owned(),
        Some(hold) => match hold.until {
            Some(until) => format!("held since {}, to be tried at {until}", hold.since),
            None => format!("held since {}, until it is released", hold.since),
        },
    };
    println!("{name}  {state}");
    if let Some(hold) = hold {
        println!("    why           {}", plain(&hold.reason));
    }
    let line = |name: &str, text: String| println!("    {name:<14}{text}");
    line("mailbox", mailbox.clone());
    let most = |most: Option<u64>| most.map_or("any number".into(), |most| most.to_string());
    let pace = most(limits.per_minute.map(|most| most as u64));
    line(
        "at most",
        format!("{} sessions, {pace} messages a minute", limits.sessions),
    );
    if let Some(until) = minute_until {
        line(
            "pace",
            format!("used up until {until}; what waits goes on then"),
        );
    }
    let day = most(limits.per_day);
    line(
        "recipients",
        format!("{recipients_of_day} in 24 hours, of {day}"),
    );
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Asks the running program.
fn ask<W>(config: &ConfigFile, work: impl FnOnce(Client) -> W) -> ExitCode
where
    W: Future<Output = Result<(), String>>,
{
    let config = match config.load(Secrets::Left) {
        Ok(config) => config,
        Err(code) => return code,
    };
    block_on(async {
        let done = match Client::connect(&admin::socket(&config.spool.folder)).await {
            Some(client) => work(client).await,
            None => {
                Err("mailferry does not run with this configuration, so no server is in use".into())
            }
        };
        ended(done.map(|()| ExitCode::SUCCESS))
    })
}
