//! The configuration file: its text, the keys and values that it may contain, and the checked settings of
//! each part.
//!
//! All problems are reported at once, each with file, line, key and remedy.

pub(crate) mod check;
pub(crate) mod effective;
mod fixed;
pub(crate) mod preset;
pub(crate) mod problem;
#[cfg(test)]
mod reference;
pub(crate) mod secret;
mod settings;
pub(crate) mod text;

use std::path::{Path, PathBuf};

use crate::operator::ControlSettings;
use crate::platform::identity;
pub use fixed::Fixed;
pub use problem::{ConfigError, Problem};
pub use settings::{Config, ListenerConfig, Live, Secrets, ServerConfig, ServiceConfig};

/// Reads a configuration file.
pub fn load(path: &Path, secrets: Secrets) -> Result<Config, ConfigError> {
    let unreadable = |reason| ConfigError::Unreadable {
        path: path.display().to_string(),
        reason,
    };
    let octets = std::fs::read(path).map_err(|error| unreadable(why_unreadable(&error)))?;
    let text = String::from_utf8(octets);
    let text = text.map_err(|_| unreadable("it is not UTF-8 text; save it as UTF-8".to_owned()))?;
    check::check(path, &text, secrets, &|name| std::env::var(name).ok())
}

/// Returns the control socket that a wrong configuration file names, so that commands reach the program that still runs
/// with an earlier one. `None` if the file cannot be read, or is not TOML.
pub(crate) fn control_of_wrong(path: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(path).ok()?;
    let table: toml::Table = text.parse().ok()?;
    let data_dir = table.get("data_dir").and_then(toml::Value::as_str);
    let data_dir = check::data_dir(path, data_dir, std::env::var("STATE_DIRECTORY").ok());
    let control = table.get("control").and_then(|it| it.get("socket"));
    Some(match control.and_then(toml::Value::as_str) {
        Some(socket) => path.parent().unwrap_or(Path::new("")).join(socket),
        None => ControlSettings::beside(&data_dir.join(check::SPOOL)).socket,
    })
}

fn why_unreadable(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => format!(
            "permission denied (you are {}): let this user read it, or run the command as the user that mailferry runs as",
            identity::user_name()
        ),
        _ => format!("{error}; name the configuration file with --config FILE"),
    }
}
