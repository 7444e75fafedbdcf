//! `mailferry status`.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use super::common::{ConfigFile, plain, when};
use super::operator;
use super::paint::painted;
use crate::observe::metrics::Totals;
use crate::operator::guide;
use crate::operator::reason::from_now;
use crate::operator::row::Light;
use crate::operator::status::{ServerRow, Status};
use crate::operator::{Need, Request};
use crate::spool::NodeRow;

/// Exit codes as monitoring plugins use them: 0 OK, 1 warning, 2 critical.
const CRITICAL: u8 = 2;
const WARNING: u8 = 1;

/// The arguments of `mailferry status`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Print again every SECONDS seconds (default 2) until Ctrl-C
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = clap::value_parser!(u64).range(1..))]
    watch: Option<u64>,
    /// Only say if apps may send mail here now: exits with 0 or 1, for the health check of a container
    #[arg(long, conflicts_with = "watch")]
    ready: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    operator::run(&arguments.config, Need::Running, async |reached| {
        loop {
            let status: Status = reached.operator().ask(Request::Status).await?;
            if arguments.ready {
                return Ok(ready(&status));
            }
            let shown = if arguments.config.json {
                json(&status)
            } else {
                text(&status)
            };
            let Some(seconds) = arguments.watch else {
                print!("{shown}");
                return Ok(ExitCode::from(match status.light() {
                    Light::Green => 0,
                    Light::Amber => WARNING,
                    Light::Red => CRITICAL,
                }));
            };
            // Clears the screen.
            let clear = if std::io::stdout().is_terminal() {
                "\x1b[H\x1b[2J"
            } else {
                ""
            };
            print!("{clear}{shown}");
            std::io::Write::flush(&mut std::io::stdout()).ok();
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        }
    })
}

fn ready(status: &Status) -> ExitCode {
    let reasons = status.not_ready();
    match reasons.is_empty() {
        true => println!("ready"),
        false => println!("not ready: {}", reasons.join("; ")),
    }
    ExitCode::from(u8::from(!reasons.is_empty()))
}

fn json(status: &Status) -> String {
    let mut value = serde_json::json!(status);
    value["light"] = serde_json::json!(status.light());
    value["warnings"] = serde_json::json!(status.warnings());
    format!("{value}\n")
}

fn text(status: &Status) -> String {
    let (about, now) = (&status.about, status.now);
    let listeners = about.listeners.iter();
    let listeners: Vec<String> = listeners
        .map(|it| format!("{} {}", it.protocol, it.address))
        .collect();
    let mut text = String::new();
    let mut row = |name: &str, value: String| text.push_str(&format!("{name:<12}{value}\n"));
    row(
        "mailferry",
        format!(
            "{} on {}, started {}",
            about.version,
            about.host,
            from_now(about.since, now)
        ),
    );
    row(
        "settings",
        format!(
            "{}, read {}",
            about.configuration,
            from_now(about.configured, now)
        ),
    );
    let sessions = match status.sessions {
        1 => "1 session".to_owned(),
        count => format!("{count} sessions"),
    };
    let listeners = match listeners.is_empty() {
        true => "none".to_owned(),
        false => listeners.join(", "),
    };
    row("listeners", format!("{listeners}; {sessions}"));
    row("1 hour", totals(&status.hour));
    row("24 hours", totals(&status.day));
    row("30 days", totals(&status.month));
    let oldest = status
        .oldest
        .map(|at| format!(", oldest accepted {}", from_now(at, now)));
    row(
        "queue",
        format!(
            "{} waiting, {} held{}",
            status.queued,
            status.held,
            oldest.unwrap_or_default()
        ),
    );
    text.push_str(&nodes(status));
    text.push('\n');
    text.push_str(&servers(status));
    let warnings = status.warnings();
    for warning in &warnings {
        text.push_str(&format!("Warning: {}\n", plain(warning)));
    }
    let verdict = painted(status.light(), status.verdict());
    text.push_str(&format!("{verdict}\n"));
    text
}

/// Returns a line for each node that shares the spool.
fn nodes(status: &Status) -> String {
    let line = |node: &NodeRow| {
        let leads = if node.leads { ", leads" } else { "" };
        let this = if node.is_this { ", this node" } else { "" };
        let drained = if node.is_draining {
            ", out of service"
        } else {
            ""
        };
        let NodeRow {
            name,
            version,
            silent,
            claimed,
            ..
        } = node;
        format!(
            "node        {name} {version}, {claimed} messages, heard {silent} s ago{this}{leads}{drained}\n"
        )
    };
    status.nodes.iter().map(line).collect()
}

fn totals(totals: &Totals) -> String {
    format!(
        "{} accepted, {} delivered, {} deferred, {} failed, {} bounced",
        totals.accepted, totals.delivered, totals.deferred, totals.failed, totals.bounced
    )
}

/// Returns a table of the servers, with the reason below each that cannot be used.
fn servers(status: &Status) -> String {
    let names = status.servers.iter().map(|server| server.name.len());
    let width = names.max().unwrap_or_default().max("SERVER".len());
    let mut text = format!(
        "{:<width$}  {:<9}  {:>6}  {:>5}  {:<10}  TOKEN\n",
        "SERVER", "STATE", "QUEUE", "HELD", "OLDEST"
    );
    for server in &status.servers {
        let ServerRow {
            name,
            queued,
            held,
            token,
            oldest,
            ..
        } = server;
        let oldest = oldest.map_or("-".to_owned(), |at| from_now(at, status.now));
        let state = state(server);
        let state = painted(server.light, &format!("{state:<9}"));
        text.push_str(&format!(
            "{name:<width$}  {state}  {queued:>6}  {held:>5}  {oldest:<10}  {token}\n"
        ));
        if let Some(reason) = &server.reason {
            text.push_str(&format!("    {}\n", plain(reason)));
            if let Some(place) = guide::explained(reason) {
                text.push_str(&format!("    more: {place}\n"));
            }
        }
        let hold = server
            .delivery
            .as_ref()
            .and_then(|state| state.hold.as_ref());
        if let Some(until) = hold.and_then(|hold| hold.until) {
            text.push_str(&format!(
                "    next attempt at {}\n",
                when(until, status.now)
            ));
        }
    }
    text
}

fn state(server: &ServerRow) -> &'static str {
    match &server.delivery {
        Some(state) if state.hold.is_some() => "held",
        _ if server.light == Light::Red => "no token",
        Some(_) if server.light == Light::Amber => "attention",
        Some(_) => "in use",
        None => "reading",
    }
}
