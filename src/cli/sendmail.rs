//! `mailferry sendmail`, also if the program is called as `sendmail`: takes a message on standard input, as cron, PHP,
//! mailx and git send it. The message goes to the running program over a local socket or the loopback interface. If
//! the program is not running, the message goes into its spool.

mod aliases;
mod arguments;
mod failure;
mod message;
mod session;

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::common::{ConfigFile, become_owner, block_on, packaged_config_file};
use crate::config::{self, Config, Secrets};
use crate::daemon;
use crate::door::{Endpoint, Socket};
use crate::message::{Address, Headers, ReversePath};
use crate::platform::connection::Connection;
use crate::platform::identity;
use crate::spool;
use crate::submission::SubmissionOptions;
use aliases::Machine;
use arguments::{Call, Sending};
use failure::Failure;
use session::Session;

/// The local socket of the Debian package, for users who may not read the configuration.
const SOCKET: &str = "/run/mailferry/sendmail.sock";

/// The largest message, in octets, that is read: no server takes more (`transport/smtp/exchange_online.md`).
const MESSAGE: u64 = 150 * 1024 * 1024;

/// The addresses of this machine's users.
const ALIASES: &str = "/etc/aliases";

/// Exit codes of sysexits.h: wrong usage; the message cannot be read; a file cannot be read; the configuration is wrong.
const USAGE: u8 = 64;
const BAD_DATA: u8 = 65;
const IO_ERROR: u8 = 74;
const BAD_CONFIG: u8 = 78;

/// The arguments of `mailferry sendmail`.
#[derive(clap::Args)]
#[command(
    after_help = "Options, as of other sendmails: -t (recipients from the header), -i or -oi (a line with a single dot does not end \
    the message), -f ADDRESS (envelope sender), -F NAME (author, if the message has no From), -C FILE (configuration), -oA FILE (aliases, in place of /etc/aliases), -bs (SMTP on standard \
    input and output). Exit codes are those of sysexits.h: 0 accepted, 64 usage, 67 recipient refused, 69 message refused, 75 try again \
    later, 77 sender refused, 78 configuration."
)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Options and recipients
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs `mailferry sendmail`.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    sendmail(&arguments.arguments, Some(arguments.config.path()))
}

/// True if the program is called as sendmail.
pub(super) fn is_called(program: &str) -> bool {
    Path::new(program)
        .file_name()
        .is_some_and(|name| name == "sendmail")
}

/// Runs the program as sendmail, with these arguments.
pub(super) fn called(arguments: &[String]) -> ExitCode {
    sendmail(arguments, None)
}

/// `config` is the configuration file that the command line names besides `-C`.
fn sendmail(arguments: &[String], config: Option<PathBuf>) -> ExitCode {
    let done = match arguments::parse(arguments) {
        Err(text) => Err(Failure { code: USAGE, text }),
        Ok(Call::Nothing) => Ok(()),
        Ok(Call::Elsewhere(command)) => Err(Failure {
            code: USAGE,
            text: format!("use `{command}` for that"),
        }),
        Ok(Call::Speak(own)) => {
            let speak = async |connection| Session::speak(connection).await;
            with_connection(own.or(config), speak)
        }
        Ok(Call::Send(mut sending)) => {
            sending.config = sending.config.or(config);
            send(sending)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, text }) => {
            eprintln!("sendmail: {text}");
            ExitCode::from(code)
        }
    }
}

fn send(sending: Sending) -> Result<(), Failure> {
    let bad_data = |text: String| Failure {
        code: BAD_DATA,
        text,
    };
    let message = message::lines(&input()?, sending.ignores_dots);
    let machine = Machine::new(host(), &aliases(sending.aliases.as_deref())?);
    let usage = |text: String| Failure { code: USAGE, text };
    let mut recipients = Vec::new();
    for to in &sending.to {
        // cron passes all of MAILTO as one argument.
        let found = message::addresses(to, &machine);
        if found.is_empty() {
            return Err(usage(format!("{to:?} is not an address")));
        }
        recipients.extend(found);
    }
    if sending.reads_header {
        let named = message::recipients(&Headers::parse(&message), &machine).map_err(bad_data)?;
        let new = named.into_iter().filter(|it| !recipients.contains(it));
        recipients.extend(new.collect::<Vec<_>>());
    }
    if recipients.is_empty() {
        return Err(bad_data("the header names no recipient".to_owned()));
    }
    let own = || machine.address(&plain(&identity::user_name()));
    let sender = match sending.from.as_deref() {
        Some("" | "<>") => ReversePath::Null,
        Some(from) => {
            let address = machine.address(from);
            let wrong = || usage(format!("-f: {from:?} is not an address"));
            ReversePath::Mailbox(address.ok_or_else(wrong)?)
        }
        None => own().map_or(ReversePath::Null, ReversePath::Mailbox),
    };
    let author = sender.address().cloned().or_else(own);
    let message = match &author {
        Some(author) => message::with_author(message, sending.name.as_deref(), author),
        None => message,
    };
    let sender = sender.address().map_or("", Address::as_str);
    with_connection(sending.config, async |connection| {
        let mut session = Session::begin(connection).await?;
        session.send(sender, &recipients, &message).await?;
        session.quit().await;
        Ok(())
    })
}

/// Returns the text of the file with aliases. The usual file need not exist.
fn aliases(named: Option<&Path>) -> Result<String, Failure> {
    let path = named.unwrap_or(Path::new(ALIASES));
    match std::fs::read(path) {
        // A comment may be in any character set.
        Ok(octets) => Ok(String::from_utf8_lossy(&octets).into_owned()),
        Err(error) if named.is_none() && error.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(error) if named.is_none() => {
            eprintln!("sendmail: {}: {error}; no aliases are used", path.display());
            Ok(String::new())
        }
        Err(error) => Err(Failure {
            code: IO_ERROR,
            text: format!("{}: {error}", path.display()),
        }),
    }
}

fn input() -> Result<Vec<u8>, Failure> {
    let mut input = Vec::new();
    let read = std::io::stdin()
        .lock()
        .take(MESSAGE + 1)
        .read_to_end(&mut input);
    read.map_err(|error| Failure {
        code: IO_ERROR,
        text: format!("standard input cannot be read: {error}"),
    })?;
    match input.len() as u64 > MESSAGE {
        true => Err(Failure {
            code: BAD_DATA,
            text: format!("the message is larger than {MESSAGE} octets"),
        }),
        false => Ok(input),
    }
}

/// Replaces what no address may contain, as in the names of users of a Windows domain.
fn plain(user: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    user.chars()
        .map(|c| if is_plain(c) { c } else { '-' })
        .collect()
}

fn host() -> String {
    let host = identity::host_name();
    if host.is_empty() {
        "localhost".to_owned()
    } else {
        host
    }
}

/// Connects to the running program, or serves the connection in this process if the program is not running.
fn with_connection(
    config: Option<PathBuf>,
    work: impl AsyncFnOnce(Connection) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut done = Ok(());
    let path = config.unwrap_or_else(packaged_config_file);
    let _ = block_on(async {
        done = reached(&path, work).await;
        ExitCode::SUCCESS
    });
    done
}

async fn reached(
    path: &Path,
    work: impl AsyncFnOnce(Connection) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let config = match config::load(path, Secrets::Left) {
        Ok(config) => config,
        // This user may not read the configuration.
        Err(config::ConfigError::Unreadable { .. }) => {
            let connection = Connection::to_path(SOCKET.as_ref()).await;
            let connection = connection.map_err(|error| {
                Failure::again(format!(
                    "mailferry cannot be reached at {SOCKET} ({error}), and {} cannot be read: is it running, and has it a [[listener]] with \
                     socket = \"{SOCKET}\"?",
                    path.display()
                ))
            })?;
            return work(connection).await;
        }
        Err(error) => {
            return Err(Failure {
                code: BAD_CONFIG,
                text: error.to_string(),
            });
        }
    };
    let listener = local_listener(&config).ok_or_else(|| Failure {
        code: BAD_CONFIG,
        text: format!(
            "{}: no listener is for programs on this machine; add a [[listener]] with socket = \"{SOCKET}\", and a [[user]] with networks = \
             [\"127.0.0.1\"]",
            path.display()
        ),
    })?;
    if let Some(connection) = connected(&listener.0.socket).await {
        return work(connection).await;
    }
    let folder = &config.fixed.spool.folder;
    if !spool::exists(&config.fixed.spool) {
        return Err(Failure::again(format!(
            "mailferry is not running, and there is no spool in {} yet: start `mailferry serve`",
            folder.display()
        )));
    }
    become_owner(folder).map_err(Failure::again)?;
    let pair = Connection::pair().map_err(|error| Failure::again(error.to_string()))?;
    let serving = daemon::serve_alone(&config, listener, pair.1).await;
    let serving = serving.map_err(|error| Failure::again(error.to_string()))?;
    let done = work(pair.0).await;
    // The spool is closed once the session has ended.
    let _ = serving.await;
    done
}

/// Returns the first listener that is for programs on this machine, with its rules for mail: one with a local socket,
/// or else one on loopback that needs no password.
fn local_listener(config: &Config) -> Option<(&Endpoint, &SubmissionOptions)> {
    let listeners = config.live.listeners.iter();
    let mut listeners = listeners.filter_map(|it| Some((&it.endpoint, it.submission()?)));
    let first = listeners
        .clone()
        .find(|(endpoint, _)| matches!(endpoint.socket, Socket::Path { .. }));
    first.or_else(|| {
        listeners.find(|(endpoint, _)| {
            let is_near = loopback(&endpoint.socket).is_some();
            is_near && endpoint.by_network && endpoint.plaintext
        })
    })
}

/// Returns the address at which programs on this machine reach a socket.
fn loopback(socket: &Socket) -> Option<SocketAddr> {
    let Socket::Address { address, .. } = socket else {
        return None;
    };
    let ip = match address.ip() {
        ip if ip.is_loopback() => ip,
        ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        _ => return None,
    };
    Some(SocketAddr::new(ip, address.port()))
}

async fn connected(socket: &Socket) -> Option<Connection> {
    match socket {
        Socket::Path { path, .. } => Connection::to_path(path).await.ok(),
        socket => Connection::to_address(loopback(socket)?).await.ok(),
    }
}
