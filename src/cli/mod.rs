//! The commands, a file each. What they print is for people unless `--json` is said; how they ended
//! is for scripts.

mod check;
mod connect;
mod demo;
mod disconnect;
mod hash_password;
mod queue;
mod reach;
mod route;
mod running;
mod sandbox;
mod serve;
mod servers;
mod test;
mod tokens;
mod trace;
mod vault;
mod web;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Config, Secrets};
use crate::observe::logging;

/// The answer is no: a sender that is refused, a message that is not there.
const NO: u8 = 1;
/// The command says too little, or what does not go together; clap's own.
const USAGE: u8 = 2;
/// The configuration is wrong (EX_CONFIG of sysexits.h).
const BAD_CONFIG: u8 = 78;
/// Something outside is not as it should be: a port in use, a full disk (EX_UNAVAILABLE).
const UNAVAILABLE: u8 = 69;

/// A local SMTP server for software that cannot speak OAuth: it takes mail by plain user and
/// password and sends it on through Microsoft 365 with XOAUTH2.
#[derive(Parser)]
#[command(name = "mailferry", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 the answer is no (refused, not found); 2 wrong \
    usage; 69 something is not available (port, disk, running program); 78 the configuration is wrong.\n\n\
    New here? Run `mailferry demo`: it shows the whole of it in a minute, and touches nothing.";

#[derive(Subcommand)]
enum Command {
    /// Run the relay
    Serve(serve::Arguments),
    /// Check a configuration and show what it means: users, servers, who sends as whom
    Check(check::Arguments),
    /// Explain which server a sender would take and what would be rewritten, without sending
    Route(route::Arguments),
    /// See it work: a relay, a stand-in for Microsoft 365, and three messages, all on this machine
    Demo(demo::Arguments),
    /// Make the hash of a password, for a user's `password` in the configuration
    HashPassword(hash_password::Arguments),
    /// Sign in for a server, once: with the browser, or with --device on another device
    Connect(connect::Arguments),
    /// Test the way to a server step by step, and say what is wrong and how to mend it
    Test(test::Arguments),
    /// Forget the tokens of a server's account
    Disconnect(disconnect::Arguments),
    /// Show each server's tokens: valid until when, how they were got, what is wrong
    Tokens(tokens::Arguments),
    /// Show each server: its mailbox, its limits, and why it is not used, if it is not
    Servers(servers::List),
    /// Hold a server: its mail stays queued until it is released
    Hold(servers::Hold),
    /// Use a held server again at once
    Release(servers::Release),
    /// Open the page: each server's tokens, Connect, Test
    Web(web::Arguments),
    /// Change the key that tokens are encrypted with
    Vault(vault::Arguments),
    /// Look at the messages that wait, try them again, hold, release, export or delete them
    Queue(queue::Arguments),
    /// Tell what became of a message, or of those from and to an address
    Trace(trace::Arguments),
    /// Run the stand-ins for Entra ID and Exchange Online alone, for tests and staging
    Sandbox(sandbox::Arguments),
}

#[derive(Args)]
struct ConfigFile {
    /// The configuration file
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        env = "MAILFERRY_CONFIG",
        default_value = "mailferry.toml"
    )]
    config: PathBuf,
}

impl ConfigFile {
    /// The configuration, or what is wrong with it on standard error.
    fn load(&self, secrets: Secrets) -> Result<Config, ExitCode> {
        config::load(&self.config, secrets).map_err(|error| {
            eprintln!("{error}");
            ExitCode::from(BAD_CONFIG)
        })
    }
}

/// Why a command finds nobody to ask.
const NOT_RUNNING: &str = "mailferry does not run with this configuration (if systemd runs it, set `data_dir` to its folder, such as \
                           /var/lib/mailferry)";

/// Who reads what is printed may stop reading, as `head` does: then the rest is not wanted.
fn end_with_the_reader() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let said = panic.payload_as_str().unwrap_or_default();
        if !said.starts_with("failed printing to stdout") {
            return usual(panic);
        }
        if said.contains("Broken pipe") {
            std::process::exit(0);
        }
        eprintln!("mailferry: {said}");
        std::process::exit(i32::from(UNAVAILABLE));
    }));
}

/// Text from elsewhere, fit for a terminal: nothing in it moves or colours what stands around.
fn plain(text: &str) -> String {
    let space = |letter: char| if letter.is_control() { ' ' } else { letter };
    text.chars().map(space).collect()
}

/// Runs the program.
pub fn run() -> ExitCode {
    end_with_the_reader();
    crate::base::tls::install_provider();
    let ended = run_command(Cli::parse().command);
    logging::flush();
    ended
}

fn run_command(command: Command) -> ExitCode {
    match command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Route(arguments) => route::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::HashPassword(arguments) => hash_password::run(&arguments),
        Command::Connect(arguments) => connect::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Disconnect(arguments) => disconnect::run(&arguments),
        Command::Tokens(arguments) => tokens::run(&arguments),
        Command::Servers(arguments) => servers::list(&arguments),
        Command::Hold(arguments) => servers::hold(&arguments),
        Command::Release(arguments) => servers::release(&arguments),
        Command::Web(arguments) => web::run(&arguments),
        Command::Vault(arguments) => vault::run(&arguments),
        Command::Queue(arguments) => queue::run(&arguments),
        Command::Trace(arguments) => trace::run(&arguments),
        Command::Sandbox(arguments) => sandbox::run(&arguments),
    }
}

/// Runs a command that waits for things.
fn block_on(work: impl Future<Output = ExitCode>) -> ExitCode {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers(cores))
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => failed(&format!("cannot start: {error}")),
    }
}

/// Worker threads of so many cores. On a small machine one core is left to the thread that writes the spool and
/// to the system: workers on it take turns with them, and pass work to each other.
fn workers(cores: usize) -> usize {
    match cores {
        0..=4 => cores.saturating_sub(1).max(1),
        more => more,
    }
}

/// How a command ended; why it did not do what it should, on standard error.
fn ended(done: Result<ExitCode, String>) -> ExitCode {
    done.unwrap_or_else(|error| {
        eprintln!("mailferry: {error}");
        ExitCode::from(NO)
    })
}

/// What was asked for is not there to be asked about.
fn misused(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("mailferry: {error}");
    ExitCode::from(USAGE)
}

fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("mailferry: {error}");
    ExitCode::from(UNAVAILABLE)
}
