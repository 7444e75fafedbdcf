//! `mailferry web`.

use std::process::ExitCode;

use super::common::{ConfigFile, NO, NOT_RUNNING, block_on};
use super::running::running;
use crate::config::Secrets;

/// Needs the running program, and `[web]` in its configuration. The link is good once, for five
/// minutes; the page then stays open to that browser for twelve hours.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Print the link, and open no browser
    #[arg(long)]
    no_browser: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let config = match arguments.config.load(Secrets::Left) {
        Ok(config) => config,
        Err(code) => return code,
    };
    block_on(async {
        let link = match running(&config).await {
            Ok(Some(client)) => client.web_link().await.map_err(|error| error.to_string()),
            Ok(None) => Err(format!("{NOT_RUNNING}; start `mailferry serve`")),
            Err(error) => Err(error),
        };
        let missing = "the running configuration has no page; add [web] with address = \"127.0.0.1:2580\", and restart";
        match link.and_then(|link| link.ok_or_else(|| missing.to_owned())) {
            Ok(link) => {
                println!("{link}");
                if !arguments.no_browser && open::that_detached(&link).is_err() {
                    eprintln!(
                        "No browser could be opened. Open the link with one on this machine; from another, forward the port first, such as: \
                         ssh -L 2580:127.0.0.1:2580 this-machine"
                    );
                }
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("mailferry: {error}");
                ExitCode::from(NO)
            }
        }
    })
}
