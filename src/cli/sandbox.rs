//! `mailferry sandbox`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::common::{block_on, failed};
use crate::message::Address;
use crate::sandbox::{
    Addresses, App, Sandbox, SandboxLimits, SandboxMailbox, SandboxSettings, SharedSignIn,
};

const HELP: &str = r#"Prints the addresses that it listens on as one line of JSON, then serves until Ctrl-C. Mail sent to it
goes nowhere else: mail to one of its mailboxes can be read there by IMAP and POP3, and mail to an address such as
bounce-5.1.10@example.net comes back to the sender's mailbox as a report. The app's id is "sandbox-app", its secret "sandbox-secret", the tenant "contoso"; a
mailbox's first refresh token, which is for sending only, is "refresh-" followed by its address.

On its HTTP address:
  GET    /sandbox/messages, /sandbox/stats    the delivered messages; the counters
  POST   /sandbox/faults                      add faults, as JSON: [{"stage":"rcpt",
                                              "action":{"reply":"550 5.1.10 no"},"matches":"bad@","times":9}]
  DELETE /sandbox/faults                      remove all faults
  POST   /sandbox/revoke?user=ADDRESS         revoke the tokens of ADDRESS"#;

/// The arguments of `mailferry sandbox`; see [`HELP`].
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Arguments {
    /// The file to write the TLS certificate to; clients must trust it
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// SMTP address
    #[arg(long, default_value = "127.0.0.1:0")]
    smtp: SocketAddr,
    /// IMAP address, with implicit TLS
    #[arg(long, default_value = "127.0.0.1:0")]
    imap: SocketAddr,
    /// POP3 address, with implicit TLS
    #[arg(long, default_value = "127.0.0.1:0")]
    pop3: SocketAddr,
    /// HTTPS address of the token endpoint
    #[arg(long, default_value = "127.0.0.1:0")]
    https: SocketAddr,
    /// HTTP address for token introspection (RFC 7662) and for the requests listed below
    #[arg(long, default_value = "127.0.0.1:0")]
    http: SocketAddr,
    /// A mailbox; may be given several times
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "notifications@example.com"
    )]
    mailbox: Vec<Address>,
    /// A shared mailbox and a user who may send as it, as MAILBOX=USER; may be given several times
    #[arg(long, value_name = "MAILBOX=USER", value_parser = pair)]
    shared: Vec<(Address, Address)>,
    /// No limits on sessions and on messages per minute, for measurements
    #[arg(long)]
    unlimited: bool,
    /// The number of messages to keep for inspection
    #[arg(long, default_value_t = 10_000)]
    keep: usize,
    /// The lifetime of an access token, in seconds
    #[arg(long, default_value_t = 3_600)]
    token_life: u64,
    /// How far Entra's clock is ahead of this machine's, in seconds; negative if it is behind
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    clock_skew: i64,
    /// Let each refresh token be used only once
    #[arg(long)]
    rotate: bool,
    /// For a shared mailbox, accept only the mailbox's address as the XOAUTH2 user, as Microsoft documents.
    /// Without this, only the person's address is accepted, as Exchange Online was observed to do
    #[arg(long)]
    sign_in_by_mailbox: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    block_on(serve(arguments))
}

async fn serve(arguments: &Arguments) -> ExitCode {
    let at = Addresses {
        smtp: arguments.smtp,
        imap: arguments.imap,
        pop3: arguments.pop3,
        https: arguments.https,
        http: arguments.http,
    };
    let sandbox = match Sandbox::start(settings(arguments), at).await {
        Ok(sandbox) => sandbox,
        Err(error) => return failed(&error),
    };
    if let Err(error) = write(&arguments.ca, &sandbox.ca) {
        return failed(&format!("{}: {error}", arguments.ca.display()));
    }
    let Addresses {
        smtp,
        imap,
        pop3,
        https,
        http,
    } = sandbox.addresses;
    let token_url = sandbox.token_url();
    println!(
        "{}",
        json!({ "smtp": smtp, "imap": imap, "pop3": pop3, "https": https, "http": http, "token_url": token_url })
    );
    match tokio::signal::ctrl_c().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn settings(arguments: &Arguments) -> SandboxSettings {
    let mailbox = |address: &Address| SandboxMailbox {
        address: address.clone(),
        shared_with: shared_with(arguments, address),
        send_as: Vec::new(),
        refresh_token: Some(format!("refresh-{address}")),
    };
    let mut mailboxes: Vec<&Address> = arguments.mailbox.iter().collect();
    for (shared, _) in &arguments.shared {
        if !mailboxes.contains(&shared) {
            mailboxes.push(shared);
        }
    }
    SandboxSettings {
        tenant: "contoso".into(),
        apps: vec![App::with_secret("sandbox-app", "sandbox-secret")],
        mailboxes: mailboxes.into_iter().map(mailbox).collect(),
        clock_skew: arguments.clock_skew.saturating_mul(1_000),
        token_life: Duration::from_secs(arguments.token_life),
        rotates: arguments.rotate,
        shared_sign_in: if arguments.sign_in_by_mailbox {
            SharedSignIn::Mailbox
        } else {
            SharedSignIn::Person
        },
        limits: if arguments.unlimited {
            SandboxLimits::none()
        } else {
            SandboxLimits::default()
        },
        keep: arguments.keep,
    }
}

fn pair(text: &str) -> Result<(Address, Address), String> {
    let (mailbox, user) = text.split_once('=').ok_or("write MAILBOX=USER")?;
    let address = |text: &str| text.parse::<Address>().map_err(|error| error.to_string());
    Ok((address(mailbox)?, address(user)?))
}

fn shared_with(arguments: &Arguments, mailbox: &Address) -> Vec<Address> {
    let ours = arguments
        .shared
        .iter()
        .filter(|(shared, _)| shared == mailbox);
    ours.map(|(_, user)| user.clone()).collect()
}

fn write(path: &Path, pem: &str) -> std::io::Result<()> {
    std::fs::write(path, pem)
}
