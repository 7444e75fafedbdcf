//! `mailferry test`: tests the connection to a server.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::common::{ConfigFile, NO};
use super::operator::{self, Reached};
use super::paint::painted;
use crate::message::Address;
use crate::operator::guide;
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
    /// Wait until Microsoft has applied a new app or permission, which takes up to two hours: while the sign-in
    /// fails, try again after PAUSE (default: 1m)
    #[arg(long, value_name = "PAUSE", num_args = 0..=1, require_equals = true, default_missing_value = "1m", value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
}

/// The longest wait: Exchange may take two hours to apply a permission (`transport/smtp/exchange_online.md`).
const LONGEST: Duration = Duration::from_secs(2 * 3_600 + 600);

/// The errors of the token endpoint while a new app is not known everywhere yet: no such app, no enterprise
/// application, no such certificate.
const EARLY: [&str; 3] = ["AADSTS700016", "AADSTS7000229", "AADSTS700027"];

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
        let begun = Instant::now();
        loop {
            let steps = test(&reached, arguments).await?;
            let Some(failed) = steps.iter().find(|step| !step.well) else {
                return Ok(ExitCode::SUCCESS);
            };
            let pause = arguments.wait.filter(|_| may_be_early(failed));
            let Some(pause) = pause.filter(|_| begun.elapsed() < LONGEST) else {
                return Ok(ExitCode::from(NO));
            };
            eprintln!(
                "Not yet, after {} minutes: Microsoft may take two hours. Next try in {}.\n",
                begun.elapsed().as_secs() / 60,
                humantime::format_duration(pause)
            );
            tokio::time::sleep(pause).await;
        }
    })
}

/// Tests the server, and shows each step as it is done.
async fn test(reached: &Reached, arguments: &Arguments) -> Result<Vec<Step>, OperatorError> {
    let to = arguments.to.as_deref().map(Address::parse).transpose();
    let to = to.map_err(|error| OperatorError::no(format!("--to: {error}")))?;
    let mut steps = Vec::new();
    let shown = |step: Step| {
        if arguments.config.json {
            println!("{}", serde_json::json!(step));
        } else {
            show(&step, arguments.wait.is_some());
        }
        steps.push(step);
    };
    let server = arguments.server.clone().unwrap_or_default();
    let request = Request::Test { server, to };
    reached.operator().each(request, shown).await?;
    Ok(steps)
}

/// True if a step may have failed only because a new app or permission is not applied yet.
fn may_be_early(step: &Step) -> bool {
    // The id that setup writes until the real one is known, and SMTP AUTH that is switched off, do not mend themselves.
    let lasts = ["00000000-0000-0000-0000-000000000000", "5.7.139"];
    if lasts.iter().any(|sign| step.text.contains(sign)) {
        return false;
    }
    let is_early = EARLY.iter().any(|code| step.text.contains(code));
    step.name == "AUTH" || step.name == "token" && is_early
}

fn show(step: &Step, waits: bool) {
    let mark = match step.well {
        true => painted(Light::Green, "ok     "),
        false if waits && may_be_early(step) => painted(Light::Amber, "not yet"),
        false => painted(Light::Red, "FAILED "),
    };
    println!("{mark} {:<8} {}", step.name, step.text);
    let more = (!step.well).then(|| guide::explained(&step.text)).flatten();
    let more = more.map(|place| format!("more: {place}"));
    let remedy = step.remedy.iter().flat_map(|remedy| remedy.lines());
    for line in remedy.chain(more.as_deref()) {
        println!("{:17}{line}", "");
    }
}
