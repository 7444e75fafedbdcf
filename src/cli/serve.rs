//! `mailferry serve`.

use std::path::Path;
use std::process::ExitCode;

use clap::builder::BoolishValueParser;

use super::common::{ConfigFile, block_on, failed};
use crate::base::Clock;
use crate::config::{self, Config, Secrets};
use crate::daemon::{Daemon, Root};
use crate::observe::{logging, maillog};
use crate::operator::{ProcessRequest, Reloaded};
use crate::platform::signals::{ProcessSignal, Signals};
use crate::platform::supervisor;

/// The arguments of `mailferry serve`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Allow running as root (for containers). Without this, root is refused unless `run_as` is set
    #[arg(long, env = "MAILFERRY_ALLOW_ROOT", value_parser = BoolishValueParser::new())]
    allow_root: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let config = match arguments.config.load(Secrets::Read) {
        Ok(config) => config,
        Err(code) => return code,
    };
    logging::start(&config.fixed.log, &config.fixed.privacy);
    let root = if arguments.allow_root {
        Root::Allowed
    } else {
        Root::Refused
    };
    block_on(serve(config, root))
}

async fn serve(config: Config, root: Root) -> ExitCode {
    let (path, run_as) = (config.path.clone(), config.fixed.run_as.clone());
    warn_of(&config);
    let mut signals = match Signals::catch() {
        Ok(signals) => signals,
        Err(error) => return failed(&format!("signals cannot be caught: {error}")),
    };
    let mut daemon = match Daemon::start(config, Clock::default(), root).await {
        Ok(daemon) => daemon,
        Err(error) => return failed(&error),
    };
    if let Some(user) = run_as
        && let Err(error) = config::load(&path, Secrets::Read)
    {
        maillog::unreadable_as(&user, &error);
    }
    supervisor::ready();
    loop {
        let request = tokio::select! {
            signal = signals.next() => match signal {
                ProcessSignal::Reload => None,
                ProcessSignal::End => break,
            },
            request = daemon.requested() => Some(request),
        };
        // If nobody waits for an answer, the log has it.
        match request {
            None => drop(reload(&mut daemon, &path).await),
            Some(ProcessRequest::Reload(answer)) => {
                let _ = answer.send(reload(&mut daemon, &path).await);
            }
            Some(ProcessRequest::Drain(answer, wait)) => {
                let begun = daemon.drain(wait).await;
                let _ = answer.send(begun.map_err(|error| error.to_string()));
            }
            Some(ProcessRequest::Undrain(answer)) => {
                let _ = answer.send(undrain(&mut daemon, &path).await);
            }
        }
    }
    daemon.stop().await;
    ExitCode::SUCCESS
}

async fn reload(daemon: &mut Daemon, path: &Path) -> Result<Reloaded, String> {
    let reloaded = async {
        let changes = daemon.reload(read(path)?).await;
        changes.map_err(|error| error.to_string())
    };
    match reloaded.await {
        Ok(needs_restart) => {
            let file = path.display().to_string();
            maillog::reloaded(&file);
            Ok(Reloaded {
                file,
                needs_restart,
            })
        }
        Err(error) => {
            maillog::reload_failed(&error);
            Err(error)
        }
    }
}

async fn undrain(daemon: &mut Daemon, path: &Path) -> Result<(), String> {
    let undrained = daemon.undrain(read(path)?).await;
    undrained.map_err(|error| error.to_string())
}

fn read(path: &Path) -> Result<Config, String> {
    let config = config::load(path, Secrets::Read).map_err(|error| error.to_string())?;
    warn_of(&config);
    Ok(config)
}

fn warn_of(config: &Config) {
    for warning in &config.warnings {
        tracing::warn!(target: "config", "{}: {warning}", config.path.display());
    }
}
