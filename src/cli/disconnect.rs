//! `mailferry disconnect`.

use std::process::ExitCode;

use super::ConfigFile;
use super::reach;

/// The tokens leave this machine; the provider is not told, so remove the app's consent there too if
/// they may be in wrong hands.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// The server, as its `name` in the configuration says
    server: String,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    reach::run(&arguments.config, async |reach, _| {
        let done = reach.disconnect(&arguments.server).await?;
        match (done.there_was, &done.servers[..]) {
            (false, _) => println!("Server {} had no tokens.", arguments.server),
            (true, [_, _, ..]) => println!(
                "The tokens of {} are forgotten: these servers share the account.",
                done.servers.join(", ")
            ),
            (true, _) => println!("The tokens of server {} are forgotten.", arguments.server),
        }
        Ok(ExitCode::SUCCESS)
    })
}
