//! The commands, a file each. What they print is for people unless `--json` is said; how they ended
//! is for scripts.

mod check;
mod common;
mod connect;
mod demo;
mod disconnect;
mod hash_password;
mod operator;
mod queue;
mod route;
mod sandbox;
mod serve;
mod servers;
mod test;
mod tokens;
mod trace;
mod vault;
mod web;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::observe::logging;
use common::UNAVAILABLE;

/// A local SMTP server for software that cannot speak OAuth: it takes mail by plain user and
/// password and sends it on through Microsoft 365 with XOAUTH2.
#[derive(Parser)]
#[command(name = "mailferry", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: CliCommand,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 the answer is no (refused, not found); 2 wrong \
    usage; 69 something is not available (port, disk, running program); 78 the configuration is wrong.\n\n\
    New here? Run `mailferry demo`: it shows the whole of it in a minute, and touches nothing.";

#[derive(Subcommand)]
enum CliCommand {
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
    Servers(servers::ListArguments),
    /// Hold a server: its mail stays queued until it is released
    Hold(servers::HoldArguments),
    /// Use a held server again at once
    Release(servers::ReleaseArguments),
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

/// Runs the program.
pub fn run() -> ExitCode {
    end_with_the_reader();
    crate::base::tls::install_provider();
    let ended = run_command(Cli::parse().command);
    logging::flush();
    ended
}

fn run_command(command: CliCommand) -> ExitCode {
    match command {
        CliCommand::Serve(arguments) => serve::run(&arguments),
        CliCommand::Check(arguments) => check::run(&arguments),
        CliCommand::Route(arguments) => route::run(&arguments),
        CliCommand::Demo(arguments) => demo::run(&arguments),
        CliCommand::HashPassword(arguments) => hash_password::run(&arguments),
        CliCommand::Connect(arguments) => connect::run(&arguments),
        CliCommand::Test(arguments) => test::run(&arguments),
        CliCommand::Disconnect(arguments) => disconnect::run(&arguments),
        CliCommand::Tokens(arguments) => tokens::run(&arguments),
        CliCommand::Servers(arguments) => servers::list(&arguments),
        CliCommand::Hold(arguments) => servers::hold(&arguments),
        CliCommand::Release(arguments) => servers::release(&arguments),
        CliCommand::Web(arguments) => web::run(&arguments),
        CliCommand::Vault(arguments) => vault::run(&arguments),
        CliCommand::Queue(arguments) => queue::run(&arguments),
        CliCommand::Trace(arguments) => trace::run(&arguments),
        CliCommand::Sandbox(arguments) => sandbox::run(&arguments),
    }
}
