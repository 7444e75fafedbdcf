//! `mailferry test`: tests the connection to a server.

use std::process::ExitCode;

use super::common::{ConfigFile, NO};
use super::operator::{self, Reached};
use super::paint::painted;
use crate::message::Address;
use crate::operator::row::Light;
use crate::operator::{Need, OperatorError, Request};
use crate::transport::Step;

/// The arguments of `mailferry test`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// The server's `name` in the configuration
    #[arg(required_unless_present = "alert")]
    server: Option<String>,
    /// Send a test by the alert channel of this name instead; mailferry must be running
    #[arg(long, value_name = "NAME", conflicts_with_all = ["server", "to"])]
    alert: Option<String>,
    /// Also send a real message to this address, as the last step
    #[arg(long, value_name = "ADDR")]
    to: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    if let Some(name) = &arguments.alert {
        return operator::run(&arguments.config, Need::Running, async |reached| {
            let request = Request::TestAlert(name.clone());
            reached.operator().ask::<()>(request).await?;
            if arguments.config.json {
                println!("{}", serde_json::json!({ "alert": name, "sent": true }));
            } else {
                println!("{name} took the test alert.");
            }
            Ok(ExitCode::SUCCESS)
        });
    }
    operator::run(&arguments.config, Need::Accounts, async |reached| {
        test(&reached, arguments).await
    })
}

async fn test(reached: &Reached, arguments: &Arguments) -> Result<ExitCode, OperatorError> {
    let to = arguments.to.as_deref().map(Address::parse).transpose();
    let to = to.map_err(|error| OperatorError::no(format!("--to: {error}")))?;
    let mut is_well = true;
    let shown = |step: Step| {
        is_well &= step.well;
        if arguments.config.json {
            println!("{}", serde_json::json!(step));
        } else {
            show(&step);
        }
    };
    let server = arguments.server.clone().unwrap_or_default();
    let request = Request::Test { server, to };
    reached.operator().each(request, shown).await?;
    Ok(if is_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NO)
    })
}

fn show(step: &Step) {
    let mark = if step.well {
        painted(Light::Green, "ok     ")
    } else {
        painted(Light::Red, "FAILED ")
    };
    println!("{mark} {:<8} {}", step.name, step.text);
    if let Some(remedy) = &step.remedy {
        for line in remedy.lines() {
            println!("{:17}{line}", "");
        }
    }
}
