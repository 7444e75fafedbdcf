//! `mailferry web`.

use std::process::ExitCode;

use super::common::ConfigFile;
use super::operator;
use crate::operator::{Need, OperatorError, Request, Role};

/// The arguments of `mailferry web`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Make a link for reading only: it shows everything except the content of messages, and changes nothing
    #[arg(long)]
    read_only: bool,
    /// Print the link and do not open a browser
    #[arg(long)]
    no_browser: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    operator::run(&arguments.config, Need::Running, async |reached| {
        let role = if arguments.read_only {
            Role::ReadOnly
        } else {
            Role::Administrator
        };
        let link: Option<String> = reached.operator().ask(Request::PageLink(role)).await?;
        let missing = "the running configuration has no web page; add [web] with address = \"127.0.0.1:2580\", and restart";
        let link = link.ok_or_else(|| OperatorError::no(missing))?;
        if arguments.config.json {
            println!("{}", serde_json::json!({ "link": link, "role": role }));
        } else {
            println!("{link}");
        }
        if !arguments.no_browser && !arguments.config.json && open::that_detached(&link).is_err() {
            let port = url::Url::parse(&link).ok().and_then(|link| link.port());
            let forward = port.map_or(String::new(), |port| {
                format!(
                    "; to use another machine, forward the port first, such as: ssh -L {port}:127.0.0.1:{port} this-machine"
                )
            });
            eprintln!(
                "No browser could be opened. Open the link in a browser on this machine{forward}"
            );
        }
        Ok(ExitCode::SUCCESS)
    })
}
