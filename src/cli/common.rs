//! The parts that commands share: reading the configuration, running, and exit codes.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::base::Timestamp;
use crate::config::{self, Config, Secrets};
use crate::operator::reason::from_now;
use crate::platform::{files, identity};

/// The answer is no: for example, a sender is refused or a message does not exist.
pub(super) const NO: u8 = 1;
/// The command line is wrong: for example, it is incomplete, or its options exclude each other. clap uses the
/// same code.
pub(super) const USAGE: u8 = 2;
/// The configuration is wrong (EX_CONFIG of sysexits.h).
pub(super) const BAD_CONFIG: u8 = 78;
/// Something outside the program prevents the work: a port in use, a full disk (EX_UNAVAILABLE).
pub(super) const UNAVAILABLE: u8 = 69;

/// The environment variable that names the configuration file.
const CONFIG: &str = "MAILFERRY_CONFIG";

/// The configuration file of the Debian package.
const OF_PACKAGE: &str = "/etc/mailferry/mailferry.toml";

/// Returns the configuration file for a command that names none, so that the command finds the running program from any
/// folder and shell.
pub(super) fn config_file() -> PathBuf {
    if let Some(named) = std::env::var_os(CONFIG) {
        return named.into();
    }
    let here = PathBuf::from("mailferry.toml");
    let of_package = PathBuf::from(OF_PACKAGE);
    // A user who may not look into the folder gets an error, and the folder is there.
    let is_packaged = !here.exists() && of_package.try_exists().unwrap_or(true);
    if is_packaged { of_package } else { here }
}

/// Returns the configuration file for sendmail. It is not looked for in the current folder, because root may call sendmail
/// in a folder where others write.
pub(super) fn packaged_config_file() -> PathBuf {
    let named = std::env::var_os(CONFIG);
    named.map_or_else(|| PathBuf::from(OF_PACKAGE), PathBuf::from)
}

/// The options that every command takes, before or after its name: the configuration file, and `--json`.
pub(super) struct ConfigFile {
    config: PathBuf,
    /// True if the output is JSON, one object per line.
    pub(super) json: bool,
}

/// Adds the options that every command takes.
pub(super) fn with_globals(command: Command) -> Command {
    let config = Arg::new("config")
        .short('c')
        .long("config")
        .global(true)
        .value_name("FILE")
        .env(CONFIG)
        .value_parser(clap::value_parser!(PathBuf))
        .help("The configuration file [default: mailferry.toml, or else /etc/mailferry/mailferry.toml]");
    let json = Arg::new("json")
        .long("json")
        .global(true)
        .action(ArgAction::SetTrue)
        .help("Print JSON, one object per line, for scripts");
    command.arg(config).arg(json)
}

// clap gives the values of global options to every command.
impl Args for ConfigFile {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}

impl FromArgMatches for ConfigFile {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let config = matches.get_one::<PathBuf>("config").cloned();
        Ok(Self {
            config: config.unwrap_or_else(config_file),
            json: matches.get_flag("json"),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl ConfigFile {
    /// Returns the file's path.
    pub(super) fn path(&self) -> PathBuf {
        self.config.clone()
    }

    /// Returns the control socket, if the configuration is wrong otherwise.
    pub(super) fn control_of_wrong(&self) -> Option<PathBuf> {
        config::control_of_wrong(&self.config)
    }

    /// True if the configuration is the Debian package's, and this user may not read it.
    pub(super) fn is_of_others(&self) -> bool {
        let read = || std::fs::File::open(&self.config);
        let is_denied = |error: std::io::Error| error.kind() == ErrorKind::PermissionDenied;
        self.config == Path::new(OF_PACKAGE) && read().err().is_some_and(is_denied)
    }

    /// Returns the configuration, or prints its errors to standard error.
    pub(super) fn load(&self, secrets: Secrets) -> Result<Config, ExitCode> {
        config::load(&self.config, secrets).map_err(|error| {
            eprintln!("{error}");
            ExitCode::from(BAD_CONFIG)
        })
    }
}

/// If this process is root, it becomes the owner of the folder, so that the service can use what this process writes there.
pub(super) fn become_owner(folder: &Path) -> Result<(), String> {
    let owner = files::owner(folder).filter(|owner| identity::is_root() && *owner != 0);
    let Some(owner) = owner else {
        return Ok(());
    };
    let user = identity::name_of(owner);
    identity::become_user(&user).map_err(|error| {
        format!(
            "{} belongs to {user}, and this program cannot become that user: {error:?}",
            folder.display()
        )
    })
}

/// Formats a time for people: in UTC, in this machine's time zone if that differs, and relative to now.
pub(super) fn when(at: Timestamp, now: Timestamp) -> String {
    let time = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
    let local = time.to_zoned(jiff::tz::TimeZone::system());
    let there = if local.offset().is_zero() {
        String::new()
    } else {
        local.strftime("%H:%M:%S %Z, ").to_string()
    };
    format!("{at} ({there}{})", from_now(at, now))
}

/// Makes text from elsewhere safe for a terminal: replaces control characters, which could move the cursor or
/// change colours.
pub(super) fn plain(text: &str) -> String {
    let space = |letter: char| if letter.is_control() { ' ' } else { letter };
    text.chars().map(space).collect()
}

/// Runs an asynchronous command.
pub(super) fn block_on(work: impl Future<Output = ExitCode>) -> ExitCode {
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

/// Returns the number of worker threads for this many cores. On a machine with two to four cores, one core
/// has no worker: the system and the thread that writes the spool use it. A worker for that core would
/// compete with them, and tasks would move back and forth between the workers.
fn workers(cores: usize) -> usize {
    match cores {
        0..=4 => cores.saturating_sub(1).max(1),
        more => more,
    }
}

/// Prints the error of a command line with a name that is not in the configuration. Returns the exit code.
pub(super) fn misused(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("mailferry: {error}");
    ExitCode::from(USAGE)
}

pub(super) fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("mailferry: {error}");
    ExitCode::from(UNAVAILABLE)
}
