//! Sources of a secret: a file, the environment, a systemd credential. A secret in the configuration text
//! itself is allowed only if nobody else can read the file.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{self, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};

use crate::base::Secret;
use crate::base::secret::ExposeSecret;
use crate::platform::files;

/// A secret as written in the configuration: the secret itself, or its source.
#[derive(Clone)]
pub(crate) enum SecretText {
    /// A secret in the text itself.
    Inline(Secret),
    /// The content of a file, without surrounding white space.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// A systemd credential (`LoadCredential=`).
    Credential(String),
}

/// The reason why a secret is not available. Each error names the place and the remedy, never the secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    /// The file does not exist, or this user may not read it.
    #[error("{path}: {source}; make the file, or let this user read it")]
    Unreadable {
        /// The file.
        path: String,
        /// The reason.
        source: std::io::Error,
    },
    /// Users other than the file's owner and group can access the file.
    #[error("{path} can be read by others (mode {mode:o}); run: chmod o-rwx {path}")]
    Exposed {
        /// The file.
        path: String,
        /// The file's mode.
        mode: u32,
    },
    /// The environment variable is not set.
    #[error("the environment has no variable {0}; set it, or name a file instead")]
    NoVariable(String),
    /// systemd passed no such credential, or did not start the program.
    #[error(
        "there is no credential {0}; add LoadCredential={0}:/path to the systemd unit, or name a file instead"
    )]
    NoCredential(String),
    /// The secret is empty.
    #[error("{0} is empty; write the secret into it")]
    Empty(String),
}

impl SecretText {
    /// Gets the secret. Relative paths start at the folder of the configuration file `config`.
    pub(crate) fn resolve(
        &self,
        config: &Path,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Secret, SecretError> {
        let (text, place) = match self {
            Self::Inline(secret) => {
                // The configuration file itself contains the secret, so other users must not be able to read
                // it.
                check_mode(config)?;
                return match secret.expose_secret().trim() {
                    "" => Err(SecretError::Empty("the text in quotes".into())),
                    _ => Ok(secret.clone()),
                };
            }
            Self::File(file) => {
                let path = config.parent().unwrap_or(Path::new("")).join(file);
                (read(&path)?, path.display().to_string())
            }
            Self::Env(name) => {
                let text = env(name).ok_or_else(|| SecretError::NoVariable(name.clone()))?;
                (text, format!("variable {name}"))
            }
            Self::Credential(name) => {
                let missing = || SecretError::NoCredential(name.clone());
                let folder = env("CREDENTIALS_DIRECTORY").ok_or_else(missing)?;
                let path = Path::new(&folder).join(name);
                let text = std::fs::read_to_string(path).map_err(|_| missing())?;
                (text, format!("credential {name}"))
            }
        };
        // Windows tools write a byte order mark at the start.
        match text.trim_start_matches('\u{feff}').trim() {
            "" => Err(SecretError::Empty(place)),
            text => Ok(text.to_owned().into()),
        }
    }
}

fn read(path: &Path) -> Result<String, SecretError> {
    check_mode(path)?;
    std::fs::read_to_string(path).map_err(|source| SecretError::Unreadable {
        path: path.display().to_string(),
        source,
    })
}

/// Checks that a file exists and that other users cannot read it.
pub(super) fn check_mode(path: &Path) -> Result<(), SecretError> {
    let shown = path.display().to_string();
    let metadata = std::fs::metadata(path).map_err(|source| SecretError::Unreadable {
        path: shown.clone(),
        source,
    })?;
    match files::exposed_mode(&metadata) {
        None => Ok(()),
        Some(mode) => Err(SecretError::Exposed { path: shown, mode }),
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("Inline(..)"),
            Self::File(path) => write!(f, "File({path:?})"),
            Self::Env(name) => write!(f, "Env({name:?})"),
            Self::Credential(name) => write!(f, "Credential({name:?})"),
        }
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

struct SecretVisitor;

/// A secret written as a table, which has exactly one of these keys.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretSource {
    file: Option<PathBuf>,
    env: Option<String>,
    credential: Option<String>,
}

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = SecretText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{ file = \"...\" }, { env = \"...\" } or { credential = \"...\" }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<SecretText, E> {
        Ok(SecretText::Inline(text.to_owned().into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SecretText, A::Error> {
        match SecretSource::deserialize(MapAccessDeserializer::new(map))? {
            SecretSource {
                file: Some(file),
                env: None,
                credential: None,
            } => Ok(SecretText::File(file)),
            SecretSource {
                file: None,
                env: Some(name),
                credential: None,
            } => Ok(SecretText::Env(name)),
            SecretSource {
                file: None,
                env: None,
                credential: Some(name),
            } => Ok(SecretText::Credential(name)),
            _ => Err(de::Error::custom(
                "invalid value: a secret has exactly one of the keys file, env and credential",
            )),
        }
    }
}
