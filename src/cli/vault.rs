//! `mailferry vault`.

use std::path::PathBuf;
use std::process::ExitCode;

use super::common::{ConfigFile, NO};
use super::operator::{self, Reached};
use crate::operator::{Need, OperatorError, Request};
use crate::token::vault;

/// The arguments of `mailferry vault`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    #[command(subcommand)]
    action: VaultAction,
}

#[derive(clap::Subcommand)]
enum VaultAction {
    /// Encrypt all tokens with a new key
    Rotate {
        /// The file with the new key; required if the configuration has `vault_key`
        #[arg(long, value_name = "FILE")]
        new_key: Option<PathBuf>,
    },
    /// Print a new key, for `vault_key` and `rotate --new-key`
    NewKey,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    match &arguments.action {
        VaultAction::NewKey => {
            let key = vault::new_key();
            if arguments.config.json {
                println!("{}", serde_json::json!({ "key": key.as_str() }));
            } else {
                println!("{}", key.as_str());
            }
            ExitCode::SUCCESS
        }
        VaultAction::Rotate { new_key } => {
            operator::run(&arguments.config, Need::Accounts, async |reached| {
                rotate(&reached, new_key.as_ref(), arguments.config.json).await
            })
        }
    }
}

async fn rotate(
    reached: &Reached,
    new_key: Option<&PathBuf>,
    json: bool,
) -> Result<ExitCode, OperatorError> {
    let Some(config) = &reached.config else {
        return Err(OperatorError::no("correct the configuration first"));
    };
    let key = match (new_key, &config.fixed.vault_key) {
        (Some(path), _) => {
            let text = std::fs::read_to_string(path);
            let failed = |error| OperatorError::no(format!("{}: {error}", path.display()));
            Some(text.map_err(failed)?)
        }
        (None, Some(_)) => {
            eprintln!(
                "mailferry: the configuration has `vault_key`: make a new key with `mailferry vault new-key`, \
                 and name its file with --new-key"
            );
            return Ok(ExitCode::from(NO));
        }
        (None, None) => None,
    };
    let request = Request::RotateVault { key };
    let count: usize = reached.operator().ask(request).await?;
    if json {
        println!("{}", serde_json::json!({ "accounts": count }));
        return Ok(ExitCode::SUCCESS);
    }
    let accounts = if count == 1 {
        "account is"
    } else {
        "accounts are"
    };
    println!("{count} {accounts} encrypted with the new key.");
    if let Some(path) = new_key {
        println!(
            "Now set `vault_key` to the key in {}: the old key no longer decrypts anything.",
            path.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}
