//! `mailferry completions` and `mailferry manual`: what packages install beside the program.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;

use super::common::failed;

/// The arguments of `mailferry completions`.
#[derive(clap::Args)]
pub(super) struct CompletionsArguments {
    /// The shell
    shell: Shell,
}

/// The arguments of `mailferry manual`.
#[derive(clap::Args)]
pub(super) struct ManualArguments {
    /// The folder for the man pages
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,
}

pub(super) fn completions(arguments: &CompletionsArguments, mut program: Command) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut program, "mailferry", &mut text);
    print!("{}", String::from_utf8_lossy(&text));
    ExitCode::SUCCESS
}

pub(super) fn manual(arguments: &ManualArguments, program: Command) -> ExitCode {
    match write(program, &arguments.output) {
        Ok(()) => {
            println!("The man pages are in {}.", arguments.output.display());
            ExitCode::SUCCESS
        }
        Err(error) => failed(&format!("{}: {error}", arguments.output.display())),
    }
}

/// Writes a page for the program and for each command, such as `mailferry-queue-list.1`.
fn write(program: Command, folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(program.disable_help_subcommand(true), folder)
}
