//! Carries out commands: through the program that runs with this configuration, or directly on the program's
//! files if it is not running.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::common::{ConfigFile, NO, UNAVAILABLE, become_owner, block_on};
use crate::base::Clock;
use crate::config::{Config, Secrets};
use crate::daemon;
use crate::operator::control::{ControlSettings, OF_SERVICE};
use crate::operator::{ErrorKind, Local, Need, Operator, OperatorError, Remote};
use crate::spool::{self, Owner, ShownSpool};

/// The longest wait for a program that has its files open but is not listening for commands: it is either
/// starting or stopping.
const STARTING: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(20);

/// The operator and the configuration that a command works with.
pub(super) struct Reached {
    operator: Box<dyn Operator>,
    /// The configuration; `None` if the file is wrong, and the program runs with an earlier one.
    pub(super) config: Option<Config>,
    /// True if the program is running.
    pub(super) is_running: bool,
}

impl Reached {
    /// Returns the running program, for a command that has no right configuration.
    fn without_config(remote: Remote) -> Self {
        Self {
            operator: Box::new(remote),
            config: None,
            is_running: true,
        }
    }

    pub(super) fn operator(&self) -> &dyn Operator {
        self.operator.as_ref()
    }
}

/// The error text of a command that needs the running program, if the program is not running.
const NOT_RUNNING: &str = "mailferry is not running with this configuration: start `mailferry serve` (if systemd runs it, set \
                           `data_dir` to its folder, such as /var/lib/mailferry)";

/// The error text of a command of a user who can neither read the configuration nor reach a running program.
const OF_ROOT: &str = "you may not read /etc/mailferry, and mailferry does not listen at /run/mailferry/control.sock: run the command with \
                       sudo, or see `[control]` in the reference of the configuration";

/// Runs a command that sends requests to an operator. An error goes to standard error, and its kind decides
/// the exit code.
pub(super) fn run<W>(config: &ConfigFile, need: Need, work: impl FnOnce(Reached) -> W) -> ExitCode
where
    W: Future<Output = Result<ExitCode, OperatorError>>,
{
    if config.is_of_others() {
        return without_config(work);
    }
    // The running program has the secrets; this command needs them only if no program runs.
    let found = match config.load(Secrets::Left) {
        Ok(config) => config,
        Err(code) => return with_wrong_config(config, code, work),
    };
    block_on(async {
        let reached = match running(&found).await {
            Ok(Some(remote)) => Ok(Reached {
                operator: Box::new(remote),
                config: Some(found),
                is_running: true,
            }),
            Ok(None) if need == Need::Accounts => match config.load(Secrets::Read) {
                Ok(config) => of_accounts(config).await,
                Err(code) => return code,
            },
            Ok(None) if need == Need::Queue => of_queue(found).await,
            Ok(None) => Err(OperatorError::unavailable(NOT_RUNNING)),
            Err(error) => Err(error),
        };
        match reached {
            Ok(reached) => ended(work(reached).await),
            Err(error) => ended(Err(error)),
        }
    })
}

/// Runs a command although the configuration file is wrong, if the program still runs with an earlier one. The file's
/// errors are printed already; `code` is their exit code.
fn with_wrong_config<W>(
    config: &ConfigFile,
    code: ExitCode,
    work: impl FnOnce(Reached) -> W,
) -> ExitCode
where
    W: Future<Output = Result<ExitCode, OperatorError>>,
{
    let Some(socket) = config.control_of_wrong() else {
        return code;
    };
    block_on(async {
        let Ok(Some(remote)) = Remote::connect(&socket).await else {
            return code;
        };
        eprintln!(
            "mailferry: the configuration file is wrong; mailferry is running with an earlier configuration"
        );
        let reached = Reached::without_config(remote);
        ended(work(reached).await)
    })
}

/// Runs a command of a user who may not read the service's configuration, but perhaps may reach its control socket.
fn without_config<W>(work: impl FnOnce(Reached) -> W) -> ExitCode
where
    W: Future<Output = Result<ExitCode, OperatorError>>,
{
    block_on(async {
        match Remote::connect(Path::new(OF_SERVICE)).await {
            Ok(Some(remote)) => {
                let reached = Reached::without_config(remote);
                ended(work(reached).await)
            }
            Ok(None) => ended(Err(OperatorError::unavailable(OF_ROOT))),
            Err(error) => ended(Err(error)),
        }
    })
}

/// Returns the exit code of a command, and prints its error, if any.
fn ended(done: Result<ExitCode, OperatorError>) -> ExitCode {
    done.unwrap_or_else(|error| {
        eprintln!("mailferry: {error}");
        ExitCode::from(match error.kind {
            ErrorKind::No => NO,
            ErrorKind::Unavailable => UNAVAILABLE,
        })
    })
}

/// Connects to the program that is running with this configuration, if any. Waits up to [`STARTING`] for a
/// program that is starting or stopping.
pub(super) async fn running(config: &Config) -> Result<Option<Remote>, OperatorError> {
    let folder = &config.fixed.spool.folder;
    let named = &config.fixed.control.socket;
    // A program that started before the configuration named another socket.
    let usual = ControlSettings::beside(folder).socket;
    let until = Instant::now() + STARTING;
    loop {
        for socket in [named, &usual] {
            if let Some(remote) = Remote::connect(socket).await? {
                return Ok(Some(remote));
            }
        }
        if !spool::is_in_use(&config.fixed.spool) {
            return Ok(None);
        }
        if Instant::now() > until {
            return Err(OperatorError::unavailable(format!(
                "the spool is in use by another mailferry process, which does not listen at {}; if `[control] socket` has changed, restart \
                 mailferry",
                named.display()
            )));
        }
        sleep(LOOK).await;
    }
}

/// Opens the queue of a program that is not running.
async fn of_queue(config: Config) -> Result<Reached, OperatorError> {
    let folder = &config.fixed.spool.folder;
    become_owner(&config.fixed.data_dir).map_err(OperatorError::unavailable)?;
    if !spool::exists(&config.fixed.spool) {
        return Err(OperatorError::unavailable(format!(
            "there is no spool in {}: `serve` has not run with this configuration. If systemd runs mailferry, \
             set `data_dir` to its folder, such as /var/lib/mailferry",
            folder.display()
        )));
    }
    let (owner, clock) = (Owner::this_process(&config.live.host), Clock::default());
    let spool = spool::visit(&config.fixed.spool, owner, &clock).await?;
    let shown = Arc::new(ShownSpool::new(spool, clock));
    Ok(Reached {
        operator: Box::new(Local::of_queue(shown)),
        config: Some(config),
        is_running: false,
    })
}

/// Opens the accounts of a program that is not running. Prints a warning if the folder for the tokens is new:
/// a running service may use a different folder.
async fn of_accounts(config: Config) -> Result<Reached, OperatorError> {
    if !config.fixed.data_dir.exists() {
        let folder = config.fixed.data_dir.display();
        eprintln!(
            "mailferry: mailferry is not running with this configuration, so tokens are stored in {folder}, a new folder. If systemd runs \
             mailferry, set `data_dir` to its folder, such as /var/lib/mailferry"
        );
    }
    become_owner(&config.fixed.data_dir).map_err(OperatorError::unavailable)?;
    let parts = daemon::accounts(&config).await;
    let (accounts, servers, incoming) = parts.map_err(OperatorError::unavailable)?;
    Ok(Reached {
        operator: Box::new(Local::of_accounts(accounts, servers, incoming)),
        config: Some(config),
        is_running: false,
    })
}
