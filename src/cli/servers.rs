//! `mailferry servers`, `hold` and `release`.

use std::process::ExitCode;

use super::common::{ConfigFile, plain};
use super::operator::{self, Reached};
use crate::base::Timestamp;
use crate::delivery::ServerState;
use crate::operator::guide;
use crate::operator::reason::from_now;
use crate::operator::{Need, OperatorError, Request};

/// The arguments of `mailferry servers`.
#[derive(clap::Args)]
pub(super) struct ListArguments {
    #[command(flatten)]
    config: ConfigFile,
}

/// The arguments of `mailferry hold`.
#[derive(clap::Args)]
pub(super) struct HoldArguments {
    #[command(flatten)]
    config: ConfigFile,
    /// The server; other servers with the same mailbox are held too
    server: String,
    /// The reason, shown to administrators
    #[arg(long)]
    reason: Option<String>,
}

/// The arguments of `mailferry release`.
#[derive(clap::Args)]
pub(super) struct ReleaseArguments {
    #[command(flatten)]
    config: ConfigFile,
    /// The server
    server: String,
}

pub(super) fn list(arguments: &ListArguments) -> ExitCode {
    ask(&arguments.config, async |reached| {
        let servers: Vec<ServerState> = reached.operator().ask(Request::Servers).await?;
        for server in servers {
            if arguments.config.json {
                println!("{}", serde_json::json!(server))
            } else {
                show(&server)
            }
        }
        Ok(())
    })
}

pub(super) fn hold(arguments: &HoldArguments) -> ExitCode {
    let HoldArguments { server, reason, .. } = arguments;
    let request = Request::Hold {
        server: server.clone(),
        reason: reason.clone(),
    };
    let json = arguments.config.json;
    ask(&arguments.config, async |reached| {
        reached.operator().ask::<()>(request).await?;
        if json {
            println!("{}", serde_json::json!({ "server": server, "held": true }));
            return Ok(());
        }
        println!("Server {server} is held; `mailferry release {server}` ends the hold.");
        Ok(())
    })
}

pub(super) fn release(arguments: &ReleaseArguments) -> ExitCode {
    let server = &arguments.server;
    let request = Request::Release {
        server: server.clone(),
    };
    let json = arguments.config.json;
    ask(&arguments.config, async |reached| {
        let was_held: bool = reached.operator().ask(request).await?;
        if json {
            let told = serde_json::json!({ "server": server, "held": false, "was_held": was_held });
            println!("{told}");
        } else if was_held {
            println!("Server {server} is released; its next message shows if the server works.")
        } else {
            println!("Server {server} was not held.")
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
        messages_of_minute,
        minute_until,
        hold,
        fallback,
        needs_sign_in,
    } = server;
    let now = Timestamp::now();
    let state = match hold {
        None if *needs_sign_in => format!("needs a sign-in: mailferry connect {name}"),
        None => "in use".to_owned(),
        Some(hold) => match hold.until {
            Some(until) => format!(
                "held since {}, next try {until} ({})",
                hold.since,
                from_now(until, now)
            ),
            None => format!("held since {}, until it is released", hold.since),
        },
    };
    println!("{name}  {state}");
    if let Some(hold) = hold {
        println!("    why           {}", plain(&hold.reason));
        if let Some(place) = guide::explained(&hold.reason) {
            println!("    more          {place}");
        }
    }
    let line = |name: &str, text: String| println!("    {name:<14}{text}");
    if let Some(fallback) = fallback {
        line(
            "fallback",
            format!("its mail goes through {fallback} for now"),
        );
    }
    line("mailbox", mailbox.clone());
    let pace = match limits.per_minute {
        Some(most) => format!("{messages_of_minute} of {most} messages in the last minute"),
        None => "no limit per minute".to_owned(),
    };
    line("limits", format!("{} sessions, {pace}", limits.sessions));
    if let Some(until) = minute_until {
        line(
            "pace",
            format!("sending limit reached; continues at {until}"),
        );
    }
    let of = limits
        .per_day
        .map_or("no limit".to_owned(), |most| format!("of {most}"));
    line(
        "recipients",
        format!("{recipients_of_day} in 24 hours, {of}"),
    );
}

/// Runs a command that needs the running program.
fn ask<W>(config: &ConfigFile, work: impl FnOnce(Reached) -> W) -> ExitCode
where
    W: Future<Output = Result<(), OperatorError>>,
{
    operator::run(config, Need::Running, async |reached| {
        work(reached).await.map(|()| ExitCode::SUCCESS)
    })
}
