//! Where the servers' accounts are reached: in the running program, else in the vault itself.

use std::process::ExitCode;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::common::{ConfigFile, block_on, ended};
use super::running::running;
use crate::admin::accounts::{Attempt, Disconnected, Progress, Wish};
use crate::admin::row::TokenRow;
use crate::admin::{Accounts, Client};
use crate::base::Secret;
use crate::config::{Config, Secrets};
use crate::daemon;
use crate::delivery;
use crate::message::Address;
use crate::transport::{Step, smtp::Smtp};

/// See the module.
pub(super) enum Reach {
    Running(Client),
    Stopped(Box<(Accounts, Arc<delivery::Settings>)>),
}

/// Runs a command on the accounts; what it says went wrong goes to standard error.
pub(super) fn run<W>(config: &ConfigFile, work: impl FnOnce(Reach, Config) -> W) -> ExitCode
where
    W: Future<Output = Result<ExitCode, String>>,
{
    // The running program has the secrets; only where none runs they are needed here.
    let found = match config.load(Secrets::Left) {
        Ok(config) => config,
        Err(code) => return code,
    };
    block_on(async {
        let client = match running(&found).await {
            Ok(client) => client,
            Err(error) => return ended(Err(error)),
        };
        let reached = match client {
            Some(client) => Ok((Reach::Running(client), found)),
            None => match config.load(Secrets::Read) {
                Ok(config) => match accounts_of(&config) {
                    Ok(parts) => Ok((Reach::Stopped(Box::new(parts)), config)),
                    Err(error) => Err(error.to_string()),
                },
                Err(code) => return code,
            },
        };
        let done = match reached {
            Ok((reach, config)) => work(reach, config).await,
            Err(error) => Err(error),
        };
        ended(done)
    })
}

/// The accounts if nothing runs. It says so if the folder for the tokens is new: a running service may
/// have another.
fn accounts_of(
    config: &Config,
) -> Result<(Accounts, Arc<delivery::Settings>), daemon::DaemonError> {
    if !config.data_dir.exists() {
        let folder = config.data_dir.display();
        eprintln!(
            "mailferry: nothing runs with this configuration, so tokens are kept in {folder}, which is new. If systemd runs \
             mailferry, set `data_dir` to its folder, such as /var/lib/mailferry"
        );
    }
    let (accounts, settings) = daemon::accounts(config)?;
    Ok((accounts, Arc::new(settings)))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Reach {
    pub(super) async fn tokens(&self) -> Result<Vec<TokenRow>, String> {
        match self {
            Self::Running(client) => client.tokens().await.map_err(text),
            Self::Stopped(parts) => Ok(parts.0.tokens().await),
        }
    }

    /// Accounts that tokens are kept of, and that no server has.
    pub(super) async fn unused(&self) -> Result<Vec<String>, String> {
        match self {
            Self::Running(client) => client.unused().await.map_err(text),
            Self::Stopped(parts) => parts.0.unused().map_err(text),
        }
    }

    /// Forgets their tokens; gives the accounts.
    pub(super) async fn forget_unused(&self) -> Result<Vec<String>, String> {
        match self {
            Self::Running(client) => client.forget_unused().await.map_err(text),
            Self::Stopped(parts) => parts.0.forget_unused().map_err(text),
        }
    }

    pub(super) async fn connect(&self, server: &str, wish: Wish) -> Result<Attempt, String> {
        match self {
            Self::Running(client) => client.connect_account(server, wish).await.map_err(text),
            Self::Stopped(parts) => parts.0.connect(server, wish).await.map_err(text),
        }
    }

    pub(super) async fn progress(&self, id: &str) -> Result<Progress, String> {
        match self {
            Self::Running(client) => client.progress(id).await.map_err(text),
            Self::Stopped(parts) => parts.0.progress(id).await.map_err(text),
        }
    }

    /// Whoever waits has gone; there is nobody left to tell how it went.
    pub(super) async fn cancel(&self, id: &str) {
        match self {
            Self::Running(client) => drop(client.cancel(id).await),
            Self::Stopped(parts) => parts.0.cancel(id),
        }
    }

    /// Shows each step when it is done; whether all went well.
    pub(super) async fn test(
        &self,
        server: &str,
        to: Option<&Address>,
        mut show: impl FnMut(&Step),
    ) -> Result<bool, String> {
        let parts = match self {
            Self::Running(client) => return client.test(server, to, show).await.map_err(text),
            Self::Stopped(parts) => parts,
        };
        let (sender, mut receiver) = mpsc::channel(1);
        let probing = async {
            let (settings, way) = (parts.1.clone(), Arc::new(Smtp::default()));
            let found = delivery::test_stopped(settings, way, server, to.cloned(), &sender).await;
            drop(sender);
            found
        };
        let showing = async {
            let mut is_well = true;
            while let Some(step) = receiver.recv().await {
                is_well &= step.well;
                show(&step);
            }
            is_well
        };
        match tokio::join!(probing, showing) {
            (true, is_well) => Ok(is_well),
            (false, _) => Err(format!("there is no server named {server}")),
        }
    }

    pub(super) async fn disconnect(&self, server: &str) -> Result<Disconnected, String> {
        match self {
            Self::Running(client) => client.disconnect(server).await.map_err(text),
            Self::Stopped(parts) => parts.0.disconnect(server).await.map_err(text),
        }
    }

    pub(super) async fn rotate_vault(&self, key: Option<&Secret>) -> Result<usize, String> {
        match self {
            Self::Running(client) => client.rotate_vault(key).await.map_err(text),
            Self::Stopped(parts) => parts.0.rotate_vault(key).map_err(text),
        }
    }
}
