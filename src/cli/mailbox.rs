//! `mailferry mailbox`.

use std::process::ExitCode;

use serde_json::json;

use super::common::{ConfigFile, NO};
use crate::config::{Config, Secrets, ServiceConfig};
use crate::daemon;
use crate::incoming::{Mailbox, ReadingProtocol};
use crate::transport::RemoteHost;

/// The arguments of `mailferry mailbox`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// The name that the app signs in with: USER, or USER/MAILBOX, where MAILBOX is a server's name or the mailbox's address
    name: String,
    /// The protocol that the app uses
    #[arg(long, value_enum, default_value_t)]
    protocol: CliProtocol,
}

/// A protocol, as an argument.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum CliProtocol {
    #[default]
    Imap,
    Pop3,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let config = match arguments.config.load(Secrets::Left) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let protocol = match arguments.protocol {
        CliProtocol::Imap => ReadingProtocol::Imap,
        CliProtocol::Pop3 => ReadingProtocol::Pop3,
    };
    let settings = daemon::readers(&config);
    let name = settings.split(&arguments.name);
    let found = match nowhere(&config, name.user, protocol) {
        Some(why) => Err(why),
        None => settings
            .mailbox(name, protocol)
            .map_err(|why| why.to_string()),
    };
    let shown = match (&found, arguments.config.json) {
        (Ok(mailbox), false) => explained(name.user, mailbox, protocol),
        (Err(why), false) => format!("refused:   {why}\n"),
        (Ok(mailbox), true) => {
            let host = mailbox.host(protocol).map(address);
            let (server, address) = (&mailbox.server, &mailbox.address);
            format!(
                "{}\n",
                json!({ "user": name.user, "server": server, "mailbox": address, "host": host })
            )
        }
        (Err(why), true) => format!("{}\n", json!({ "refused": why })),
    };
    print!("{shown}");
    match found {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(NO),
    }
}

/// Returns the reason why a user cannot sign in at any listener for this protocol, if there is one.
fn nowhere(config: &Config, user: &str, protocol: ReadingProtocol) -> Option<String> {
    if !config.live.users.iter().any(|known| known.name == user) {
        return Some(format!("there is no [[user]] with the name {user}"));
    }
    let listeners = config.live.listeners.iter();
    let mut reading = listeners
        .filter(|it| matches!(it.service, ServiceConfig::Incoming(its) if its == protocol))
        .peekable();
    if reading.peek().is_none() {
        let key = protocol.name();
        return Some(format!(
            "there is no listener for {protocol}; add a [[listener]] with protocol = \"{key}\""
        ));
    }
    let is_admitted = reading.any(|it| {
        it.endpoint
            .users
            .as_ref()
            .is_none_or(|users| users.contains(user))
    });
    (!is_admitted).then(|| {
        format!(
            "no listener for {protocol} admits the user {user}; see the `users` of the listeners"
        )
    })
}

fn explained(user: &str, mailbox: &Mailbox, protocol: ReadingProtocol) -> String {
    let host = mailbox.host(protocol).map(address).unwrap_or_default();
    format!(
        "user:      {user}\nserver:    {}\nmailbox:   {}\nprotocol:  {protocol}\nhost:      {host}\n",
        mailbox.server, mailbox.address
    )
}

fn address(host: &RemoteHost) -> String {
    format!("{}:{}", host.host, host.port)
}
