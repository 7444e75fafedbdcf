//! `mailferry clients`.

use std::process::ExitCode;

use super::common::{ConfigFile, plain};
use super::operator;
use crate::base::Timestamp;
use crate::operator::clients::ClientRow;
use crate::operator::reason::from_now;
use crate::operator::{Need, Request};

/// The arguments of `mailferry clients`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    operator::run(&arguments.config, Need::Running, async |reached| {
        let rows: Vec<ClientRow> = reached.operator().ask(Request::Clients).await?;
        let now = Timestamp::now();
        for row in &rows {
            if arguments.config.json {
                println!("{}", serde_json::json!(row));
            } else {
                show(row, now);
            }
        }
        if rows.is_empty() && !arguments.config.json {
            println!("No client was refused since mailferry started.");
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn show(ClientRow { knock, remedy }: &ClientRow, now: Timestamp) {
    let times = match knock.count {
        1 => from_now(knock.last, now),
        count => format!("{count} times, last {}", from_now(knock.last, now)),
    };
    let user = match knock.user.as_str() {
        "" => String::new(),
        user => format!(" as {}", plain(user)),
    };
    println!("{}{user} at {}: {times}", knock.peer, knock.listener);
    println!("    {}", plain(&knock.said));
    if let Some(remedy) = remedy {
        println!("    -> {}", plain(remedy));
    }
}
