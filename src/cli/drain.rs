//! `mailferry drain`.

use std::process::ExitCode;
use std::time::Duration;

use super::common::ConfigFile;
use super::operator;
use super::progress::Progress;
use crate::operator::{DrainRow, Need, OperatorError, Request, Status};

/// How often the running program is asked how far it is.
const LOOK: Duration = Duration::from_millis(250);

/// The arguments of `mailferry drain`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Seconds that sessions with apps have to end by themselves; then they end after the message at hand
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    wait: u64,
    /// Put the node back into service
    #[arg(long, conflicts_with = "wait")]
    undo: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    operator::run(&arguments.config, Need::Running, async |reached| {
        let operator = reached.operator();
        if arguments.undo {
            let () = operator.ask(Request::Undrain).await?;
            println!("This node is in service again.");
            return Ok(ExitCode::SUCCESS);
        }
        let wait = arguments.wait;
        let () = operator.ask(Request::Drain { wait }).await?;
        let mut progress = Progress::new("draining");
        loop {
            let status: Status = operator.ask(Request::Status).await?;
            match status.drain {
                None => {
                    return Err(OperatorError::no(
                        "somebody has put this node back into service",
                    ));
                }
                Some(drain) if drain.is_done => return Ok(done(arguments, &drain)),
                Some(drain) => progress.show(&drain.left()),
            }
            tokio::time::sleep(LOOK).await;
        }
    })
}

fn done(arguments: &Arguments, drain: &DrainRow) -> ExitCode {
    if arguments.config.json {
        println!("{}", serde_json::json!(drain));
    } else {
        println!(
            "This node is drained: it sends nothing, and other nodes do its work.\nStop it now, or put it back with `mailferry \
             drain --undo`. After a restart it is in service."
        );
    }
    ExitCode::SUCCESS
}
