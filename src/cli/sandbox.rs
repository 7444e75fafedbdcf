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

const HELP: &str = r#"Prints one line of JSON with where everything listens, then serves until Ctrl-C. What is sent to it
goes nowhere. The app's id is "sandbox-app", its secret "sandbox-secret", the tenant "contoso"; a
mailbox's first refresh token is "refresh-" and its address.

On its HTTP address:
  GET    /sandbox/messages, /sandbox/stats    what arrived, and what was counted
  POST   /sandbox/faults                      what goes wrong, as JSON: [{"stage":"rcpt",
                                              "action":{"reply":"550 5.1.10 no"},"matches":"bad@","times":9}]
  DELETE /sandbox/faults                      nothing any more
  POST   /sandbox/revoke?user=ADDRESS         a sign-in is revoked"#;

/// See [`HELP`].
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Arguments {
    /// Where the certificate that its TLS is trusted by is written
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// SMTP address
    #[arg(long, default_value = "127.0.0.1:0")]
    smtp: SocketAddr,
    /// HTTPS address of the token endpoint
    #[arg(long, default_value = "127.0.0.1:0")]
    https: SocketAddr,
    /// HTTP address of introspection and control
    #[arg(long, default_value = "127.0.0.1:0")]
    http: SocketAddr,
    /// A mailbox; may be said several times
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "notifications@example.com"
    )]
    mailbox: Vec<Address>,
    /// A mailbox that another user may send as, as MAILBOX=USER; may be said several times
    #[arg(long, value_name = "MAILBOX=USER", value_parser = pair)]
    shared: Vec<(Address, Address)>,
    /// No limits of messages a minute and sessions, for measuring
    #[arg(long)]
    unlimited: bool,
    /// Messages that are kept to be looked at
    #[arg(long, default_value_t = 10_000)]
    keep: usize,
    /// How long an access token lives, in seconds
    #[arg(long, default_value_t = 3_600)]
    token_life: u64,
    /// How far Entra's clock is ahead of this machine's, in seconds; negative when it is behind
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    clock_skew: i64,
    /// A refresh token that was used is worthless afterwards
    #[arg(long)]
    rotate: bool,
    /// A person signs in for a shared mailbox by the mailbox's name, as Microsoft documents it, not by
    /// the person's, as Exchange Online was seen to want it
    #[arg(long)]
    sign_in_by_mailbox: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    block_on(serve(arguments))
}

async fn serve(arguments: &Arguments) -> ExitCode {
    let at = Addresses {
        smtp: arguments.smtp,
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
    let Addresses { smtp, https, http } = sandbox.addresses;
    println!(
        "{}",
        json!({ "smtp": smtp, "https": https, "http": http, "token_url": sandbox.token_url() })
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
    SandboxSettings {
        tenant: "contoso".into(),
        apps: vec![App::with_secret("sandbox-app", "sandbox-secret")],
        mailboxes: arguments.mailbox.iter().map(mailbox).collect(),
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
