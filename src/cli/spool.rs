//! `mailferry spool`.

use std::path::PathBuf;
use std::process::ExitCode;

use super::common::{BAD_CONFIG, ConfigFile, NO, UNAVAILABLE, become_owner, block_on, failed};
use super::progress::Progress;
use crate::config::{self, Config, Secrets};
use crate::daemon::{self, CopiedSpool, SpoolCopyError};
use crate::spool::copy::{Copied, CopyError};

/// The arguments of `mailferry spool`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    #[command(subcommand)]
    action: SpoolAction,
}

#[derive(clap::Subcommand)]
enum SpoolAction {
    /// Copy the queue, history, usage and tokens from another spool, such as from this machine's disk to PostgreSQL
    ///
    /// Copies from the spool of the configuration --from to that of --config, while no mailferry uses either. From the first
    /// step on, neither can be used until the copy is complete; then the new one can. A copy that was interrupted goes on
    /// if the command is run again.
    Copy {
        /// The configuration with the spool to copy from
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// Give up a copy that is not complete: the old spool can be used as before
        #[arg(long)]
        undo: bool,
    },
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let SpoolAction::Copy { from, undo } = &arguments.action;
    let source = match config::load(from, Secrets::Read) {
        Ok(source) => source,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let target = match arguments.config.load(Secrets::Read) {
        Ok(target) => target,
        Err(code) => return code,
    };
    if let Err(error) = become_owner(&source.fixed.data_dir) {
        return failed(&error);
    }
    block_on(copy(arguments, (&source, &target), *undo))
}

async fn copy(arguments: &Arguments, (source, target): (&Config, &Config), undo: bool) -> ExitCode {
    let progress = std::cell::RefCell::new(Progress::new("copying"));
    let so_far = |done: Copied| {
        let text = format!("{} messages, {} stories", done.messages, done.stories);
        progress.borrow_mut().show(&text);
    };
    let done = match undo {
        true => daemon::undo_spool_copy(source, target)
            .await
            .map(|()| Done::GivenUp),
        false => daemon::copy_spool(source, target, &so_far)
            .await
            .map(|copied| copied.map_or(Done::Before, Done::Copied)),
    };
    drop(progress);
    match done {
        Ok(done) => {
            show(arguments, &done);
            ExitCode::SUCCESS
        }
        Err(SpoolCopyError::Copy(CopyError::Refused(error))) => {
            eprintln!("mailferry: {error}");
            ExitCode::from(NO)
        }
        Err(error) => {
            eprintln!("mailferry: {error}");
            ExitCode::from(UNAVAILABLE)
        }
    }
}

/// The result of the command.
#[derive(serde::Serialize)]
#[serde(rename_all = "snake_case")]
enum Done {
    Copied(CopiedSpool),
    /// The copy was complete already.
    Before,
    GivenUp,
}

fn show(arguments: &Arguments, done: &Done) {
    match done {
        done if arguments.config.json => println!("{}", serde_json::json!(done)),
        Done::GivenUp => println!("The copy is given up. The old spool can be used as before."),
        Done::Before => {
            println!("Everything was copied before. Start mailferry with the new configuration.")
        }
        Done::Copied(copied) => println!(
            "Copied: messages of the queue {}, stories of the history {}, accounts with tokens {}.\nStart mailferry with the new \
             configuration. With the old one it does not start any more.",
            copied.messages, copied.stories, copied.accounts
        ),
    }
}
