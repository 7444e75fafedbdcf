//! `mailferry hash-password`.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::common::failed;
use crate::base::Secret;
use crate::base::secret::ExposeSecret;
use crate::door::password::hash_password;
use crate::platform::files::{Readers, create_new};

/// The arguments of `mailferry hash-password`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Write the hash to this new file, which only you can read, instead of printing it
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let password = match password() {
        Ok(password) => password,
        Err(error) => return failed(&error),
    };
    let hash = match hash_password(&password) {
        Ok(hash) => hash,
        Err(error) => return failed(&error),
    };
    match &arguments.output {
        None => println!("{hash}"),
        Some(path) => {
            if let Err(error) = write(path, &hash) {
                return failed(&format!("{}: {error}", path.display()));
            }
        }
    }
    ExitCode::SUCCESS
}

fn password() -> Result<Secret, String> {
    let text = if std::io::stdin().is_terminal() {
        let first = rpassword::prompt_password("Password: ").map_err(|error| error.to_string())?;
        let again = rpassword::prompt_password("Again: ").map_err(|error| error.to_string())?;
        if first != again {
            return Err("the two passwords differ; try again".into());
        }
        first
    } else {
        let mut line = String::new();
        std::io::stdin()
            .read_line(&mut line)
            .map_err(|error| error.to_string())?;
        line.trim_end_matches(['\r', '\n']).to_owned()
    };
    let secret = Secret::from(text);
    if secret.expose_secret().is_empty() {
        Err("the password is empty; type one, or pipe one in".into())
    } else {
        Ok(secret)
    }
}

fn write(path: &Path, hash: &str) -> std::io::Result<()> {
    let mut file = create_new(Readers::Owner).open(path)?;
    writeln!(file, "{hash}")
}
