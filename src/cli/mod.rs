//! The commands, one file each. Their output is for people unless `--json` is given; their exit codes are
//! for scripts.

mod check;
mod clients;
mod common;
mod connect;
mod demo;
mod disconnect;
mod drain;
mod hash_password;
mod mailbox;
mod manual;
mod operator;
mod paint;
mod progress;
mod queue;
mod reload;
mod report;
mod route;
mod sandbox;
mod sendmail;
mod serve;
mod servers;
mod setup;
mod spool;
mod status;
mod test;
mod tokens;
mod trace;
mod vault;
mod web;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::observe::logging;
use common::UNAVAILABLE;

/// A local SMTP server for software that cannot use OAuth: it accepts mail with a plain user name and
/// password and sends it on through Microsoft 365 with XOAUTH2.
#[derive(Parser)]
#[command(name = "mailferry", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: CliCommand,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 the answer is no (refused, not found); 2 wrong \
    usage; 69 something is not available (port, disk, running program); 78 the configuration is wrong.\n\n\
    New here? Run `mailferry demo`: it shows everything in a minute, and changes nothing.";

#[derive(Subcommand)]
enum CliCommand {
    /// Run the relay
    ///
    /// Accepts mail until SIGTERM or Ctrl-C, then finishes the work in progress and ends. SIGHUP rereads the
    /// configuration; if the new one is wrong, the old one stays in force.
    Serve(serve::Arguments),
    /// Set mailferry up: asks what you need, and writes the configuration, keys, and a script for Microsoft 365
    ///
    /// At a terminal it asks; otherwise it takes options. The private key never leaves this machine. The script runs in
    /// Azure Cloud Shell, can be run again, says what it would do with -WhatIf, and takes all back with -Undo.
    Setup(Box<setup::Arguments>),
    /// Check a configuration and show its effect: users, servers, and who sends as whom
    ///
    /// Starts nothing and changes nothing. If the configuration is wrong, exits with 78 and shows the file,
    /// line, key and remedy of every error.
    Check(check::Arguments),
    /// Explain which server a sender's message would use and what would be rewritten, without sending it
    ///
    /// Uses only the configuration; nothing is sent. Exits with 1 if the sender is refused.
    ///
    /// With --json: `server`, `envelope_from`, `header_from`, `reply_to` (each null if it is unchanged or
    /// absent) and `reason`. If the message is refused, `server` is null and `reply` is the reply that the app
    /// receives.
    Route(route::Arguments),
    /// Watch mailferry work: a relay, a stand-in for Microsoft 365, and five messages, all on this machine
    ///
    /// Runs the relay and a stand-in for Microsoft 365 on this machine, in a temporary folder. Sends five
    /// messages as an ERP would send them, and shows each with the app's dialogue, the decision and the
    /// upstream's reply. Then accepts your own mail until Ctrl-C.
    Demo(demo::Arguments),
    /// Hash a password, for a user's `password` in the configuration
    ///
    /// Prompts for the password, or reads one line from standard input if that is not a terminal, and prints
    /// its argon2id hash.
    HashPassword(hash_password::Arguments),
    /// Sign in once for a server: in the browser, or with --device on another device
    ///
    /// Opens the provider's page or prints its address, waits until you have signed in there, and stores the
    /// tokens. Works whether or not `mailferry serve` runs.
    Connect(connect::Arguments),
    /// Test the connection to a server step by step, and show what is wrong and how to fix it
    ///
    /// Exits with 1 if a step fails. Works whether or not `mailferry serve` runs.
    Test(test::Arguments),
    /// Delete the stored tokens of a server's account
    ///
    /// Deletes the tokens from this machine. The provider is not informed: remove the app's consent there too
    /// if somebody else may have the tokens.
    Disconnect(disconnect::Arguments),
    /// Show each server's tokens: when they expire, how they were obtained, and what is wrong
    ///
    /// Exits with 1 if a server has no valid token and cannot get one.
    Tokens(tokens::Arguments),
    /// Explain which mailbox an app reads that signs in with a name, or why it may not
    Mailbox(mailbox::Arguments),
    /// Reread the configuration of the running program, and say whether it is in use
    ///
    /// If the configuration is wrong, says what is wrong, and the old one stays in force: exits with 78, or with 1 if
    /// only the running program finds it wrong.
    Reload(reload::Arguments),
    /// Take this node out of service, so that it can be stopped without a client noticing
    ///
    /// For several nodes that share a queue in PostgreSQL. Other nodes get the messages of this one at once, proxies are told
    /// to send clients elsewhere, the listeners that other machines reach close, and sessions end by themselves. Waits
    /// until nothing is left; then stop the program. Listeners that only this machine reaches stay open until then.
    Drain(drain::Arguments),
    /// Sum up the mail of a period: accepted, delivered and failed by server, user and recipients' domain
    ///
    /// The numbers come from the history, so they include mail from before a restart.
    Report(report::Arguments),
    /// Show on one screen whether mail flows, and if not, why
    ///
    /// Exits with 0 if all is well, 1 if something needs attention, 2 if a server cannot be used or no mail can be
    /// accepted, and 69 if mailferry is not running. Monitoring can run it.
    Status(status::Arguments),
    /// Show the clients that were refused, why, and which setting would admit them
    ///
    /// Shows scanners without a password, apps with a wrong one, clients that use TLS in another way than the listener,
    /// and senders that no server admits, since mailferry started.
    Clients(clients::Arguments),
    /// Show each server: its mailbox, its limits, and the reason if it is not in use
    ///
    /// Shows each server of the running program: its mailbox, how much of the mailbox's limits is used, and the
    /// reason if the server is not in use.
    Servers(servers::ListArguments),
    /// Hold a server: its mail stays queued until the server is released
    ///
    /// The server's mail stays queued until `release`, even after a restart.
    Hold(servers::HoldArguments),
    /// Release a held server: it is used again at once
    ///
    /// The server is used again at once, whatever the reason for the hold.
    Release(servers::ReleaseArguments),
    /// Open the web page: how mail flows, servers, messages, errors and settings
    ///
    /// Needs the running program, and `[web]` in its configuration. The link works once, within five minutes;
    /// the browser that opens it can then use the page for twelve hours.
    Web(web::Arguments),
    /// Change the key that tokens are encrypted with
    ///
    /// Works whether or not `mailferry serve` runs.
    Vault(vault::Arguments),
    /// Copy everything that is stored to another engine, such as from this machine's disk to PostgreSQL
    Spool(spool::Arguments),
    /// List the messages in the queue; retry, hold, release, export or delete them
    ///
    /// Works whether or not `mailferry serve` runs.
    Queue(queue::Arguments),
    /// Show what happened to a message, or to the messages from or to an address
    ///
    /// Works whether or not `mailferry serve` runs. Messages are found for as long as `[spool] history` keeps
    /// them.
    Trace(trace::Arguments),
    /// Take a message on standard input, as cron, PHP, mailx and git send it
    ///
    /// Also if the program is called as `sendmail`. The message goes to the running program; if it is not running, into
    /// its spool.
    Sendmail(sendmail::Arguments),
    /// Print completions for a shell: bash, zsh, fish, elvish or powershell
    Completions(manual::CompletionsArguments),
    /// Write man pages for the program and each command
    Manual(manual::ManualArguments),
    /// Run only the stand-ins for Entra ID and Exchange Online, for tests and staging
    Sandbox(sandbox::Arguments),
}

/// Installs a panic hook that ends the program quietly when the reader of its output stops reading, as `head`
/// does.
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

/// Runs the program.
pub fn run() -> ExitCode {
    end_with_the_reader();
    crate::base::tls::install_provider();
    let mut arguments = std::env::args_os().map(|it| it.to_string_lossy().into_owned());
    if sendmail::is_called(&arguments.next().unwrap_or_default()) {
        return sendmail::called(&arguments.collect::<Vec<_>>());
    }
    let matches = common::with_globals(Cli::command()).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let ended = run_command(cli.command);
    logging::flush();
    ended
}

fn run_command(command: CliCommand) -> ExitCode {
    match command {
        CliCommand::Serve(arguments) => serve::run(&arguments),
        CliCommand::Setup(arguments) => setup::run(&arguments),
        CliCommand::Check(arguments) => check::run(&arguments),
        CliCommand::Route(arguments) => route::run(&arguments),
        CliCommand::Demo(arguments) => demo::run(&arguments),
        CliCommand::HashPassword(arguments) => hash_password::run(&arguments),
        CliCommand::Connect(arguments) => connect::run(&arguments),
        CliCommand::Test(arguments) => test::run(&arguments),
        CliCommand::Disconnect(arguments) => disconnect::run(&arguments),
        CliCommand::Tokens(arguments) => tokens::run(&arguments),
        CliCommand::Mailbox(arguments) => mailbox::run(&arguments),
        CliCommand::Drain(arguments) => drain::run(&arguments),
        CliCommand::Reload(arguments) => reload::run(&arguments),
        CliCommand::Report(arguments) => report::run(&arguments),
        CliCommand::Status(arguments) => status::run(&arguments),
        CliCommand::Clients(arguments) => clients::run(&arguments),
        CliCommand::Servers(arguments) => servers::list(&arguments),
        CliCommand::Hold(arguments) => servers::hold(&arguments),
        CliCommand::Release(arguments) => servers::release(&arguments),
        CliCommand::Web(arguments) => web::run(&arguments),
        CliCommand::Vault(arguments) => vault::run(&arguments),
        CliCommand::Spool(arguments) => spool::run(&arguments),
        CliCommand::Queue(arguments) => queue::run(&arguments),
        CliCommand::Trace(arguments) => trace::run(&arguments),
        CliCommand::Sendmail(arguments) => sendmail::run(&arguments),
        CliCommand::Completions(arguments) => {
            manual::completions(&arguments, common::with_globals(Cli::command()))
        }
        CliCommand::Manual(arguments) => {
            manual::manual(&arguments, common::with_globals(Cli::command()))
        }
        CliCommand::Sandbox(arguments) => sandbox::run(&arguments),
    }
}
