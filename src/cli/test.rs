//! `mailferry test`, the "Test connection".

use std::io::IsTerminal;
use std::process::ExitCode;

use super::common::{ConfigFile, NO};
use super::reach::{self, Reach};
use crate::message::Address;
use crate::transport::Step;

/// Ends with 1 where a step fails. Works while `mailferry serve` runs and while it does not.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// The server, as its `name` in the configuration says
    server: String,
    /// Send a real message to this address in the end
    #[arg(long, value_name = "ADDR")]
    to: Option<String>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    reach::run(&arguments.config, async |reach, _| {
        test(&reach, arguments).await
    })
}

async fn test(reach: &Reach, arguments: &Arguments) -> Result<ExitCode, String> {
    let to = arguments.to.as_deref().map(Address::parse).transpose();
    let to = to.map_err(|error| format!("--to: {error}"))?;
    let shown = |step: &Step| {
        if arguments.json {
            println!("{}", serde_json::to_string(step).unwrap_or_default());
        } else {
            show(step);
        }
    };
    let is_well = reach.test(&arguments.server, to.as_ref(), shown).await?;
    Ok(if is_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NO)
    })
}

fn show(step: &Step) {
    let (mark, colour) = if step.well {
        ("ok", "32")
    } else {
        ("FAILED", "31")
    };
    let mark = if std::io::stdout().is_terminal() {
        format!("\x1b[{colour}m{mark:<7}\x1b[0m")
    } else {
        format!("{mark:<7}")
    };
    println!("{mark} {:<8} {}", step.name, step.text);
    if let Some(remedy) = &step.remedy {
        for line in remedy.lines() {
            println!("{:17}{line}", "");
        }
    }
}
