//! `mailferry report`: sums up the mail of a period, from the history.

use std::process::ExitCode;
use std::time::Duration;

use super::common::{ConfigFile, misused, plain};
use super::operator;
use super::progress::Progress;
use super::trace::time;
use crate::base::Timestamp;
use crate::operator::day;
use crate::operator::report::{Delay, Outcomes, Reason, Report};
use crate::operator::{Need, Request};

/// The length of a day, and of the period without options.
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// The arguments of `mailferry report`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// The mail of one day, in local time: 2026-11-26, today or yesterday
    #[arg(long, value_name = "DAY", value_parser = day::bounds, conflicts_with_all = ["since", "before"])]
    day: Option<(Timestamp, Timestamp)>,
    /// The mail since this time (default: 24 hours ago): an age such as 2h or 7days, or 2026-11-26T14:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Only mail before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    before: Option<Timestamp>,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let now = Timestamp::now();
    let since = arguments.since.unwrap_or(now.before(DAY));
    let (since, until) = arguments
        .day
        .unwrap_or((since, arguments.before.unwrap_or(now)));
    if until <= since {
        return misused(&"the period ends before it begins: check --since and --before");
    }
    operator::run(&arguments.config, Need::Queue, async |reached| {
        let request = Request::Report { since, until };
        let asked = reached.operator().ask(request);
        let report: Report = Progress::new("reading the history").during(asked).await?;
        if arguments.config.json {
            println!("{}", serde_json::json!(report));
        } else {
            print!("{}", text(&report));
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn text(report: &Report) -> String {
    let Report {
        since,
        until,
        accepted,
        refused,
        octets,
        total,
        ..
    } = report;
    let mut text = format!("Mail that apps sent from {since} to {until}\n\n");
    let mut row = |name: &str, value: String| text.push_str(&format!("{name:<12}{value}\n"));
    row("accepted", format!("{accepted} messages, {octets} octets"));
    row("refused", format!("{refused} messages"));
    row("recipients", outcomes(total));
    row("deferred", format!("{} attempts", total.deferred));
    if let Some(delay) = &report.delay {
        row("delay", delays(delay));
    }
    text.push_str(&table("SERVER", &report.servers));
    text.push_str(&table("USER", &report.users));
    text.push_str(&table("RECIPIENTS AT", &report.domains));
    text.push_str(&reasons(&report.reasons));
    text
}

fn outcomes(it: &Outcomes) -> String {
    let Outcomes {
        delivered,
        failed,
        bounced,
        waiting,
        deleted,
        ..
    } = it;
    format!(
        "{delivered} delivered, {failed} failed, {bounced} bounced, {waiting} waiting, {deleted} deleted"
    )
}

fn delays(delay: &Delay) -> String {
    let Delay {
        half,
        most,
        p95,
        p99,
        longest,
    } = delay;
    format!(
        "50 % within {half:.1} s, 90 % {most:.1} s, 95 % {p95:.1} s, 99 % {p99:.1} s, longest {longest:.1} s"
    )
}

fn table(name: &str, rows: &[(String, Outcomes)]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let names = rows.iter().map(|(name, _)| name.chars().count());
    let width = names.max().unwrap_or_default().max(name.len());
    let mut text = format!(
        "\n{name:<width$}  {:>9}  {:>6}  {:>7}  {:>7}  {:>8}\n",
        "DELIVERED", "FAILED", "BOUNCED", "WAITING", "DEFERRED"
    );
    for (name, row) in rows {
        let name = if name.is_empty() { "-" } else { name };
        text.push_str(&format!(
            "{:<width$}  {:>9}  {:>6}  {:>7}  {:>7}  {:>8}\n",
            plain(name),
            row.delivered,
            row.failed,
            row.bounced,
            row.waiting,
            row.deferred
        ));
    }
    text
}

fn reasons(reasons: &[Reason]) -> String {
    if reasons.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{:>6}  {:<8}  REASON\n", "COUNT", "EVENT");
    for reason in reasons {
        let Reason {
            count,
            event,
            server,
            cause,
            id,
            ..
        } = reason;
        let server = if server.is_empty() {
            String::new()
        } else {
            format!("{server}: ")
        };
        let cause = plain(cause);
        text.push_str(&format!(
            "{count:>6}  {event:<8}  {server}{cause} (last: {id})\n"
        ));
    }
    text
}
