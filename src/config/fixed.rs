//! The settings that a running program cannot change.

use std::path::PathBuf;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::base::Secret;
use crate::base::secret::ExposeSecret;
use crate::observe::logging;
use crate::operator::ControlSettings;
use crate::spool::SpoolSettings;
use crate::token;
use crate::web;

/// The settings that only a restart changes. The fields are nested as in the file, so that changed settings
/// can be reported by their keys.
#[derive(Clone, Serialize)]
pub struct Fixed {
    /// The folder that holds messages and tokens.
    pub data_dir: PathBuf,
    /// The key that encrypts tokens. `None` means the key file beside the tokens.
    #[serde(serialize_with = "fingerprint")]
    pub vault_key: Option<Secret>,
    /// The user that the program switches to once its ports are bound, if root started it.
    pub run_as: Option<String>,
    /// The format and level of logs.
    pub log: logging::LogSettings,
    /// Data that logs hide.
    pub privacy: logging::LogPrivacy,
    /// The web page, if the configuration has one.
    pub web: Option<web::PageSettings>,
    /// The control socket.
    pub control: ControlSettings,
    /// The spool.
    pub spool: SpoolSettings,
}

/// Serializes a secret as a digest, which can be compared but reveals nothing.
fn fingerprint<S: Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    let digest = secret
        .as_ref()
        .map(|secret| token::settings::digest_of(secret.expose_secret()));
    serializer.collect_str(&digest.unwrap_or_default())
}

impl Fixed {
    /// Returns the keys that have different values in `other`, such as `data_dir` or `[log] level`.
    pub fn changes(&self, other: &Self) -> Vec<String> {
        let [ours, theirs] = [self, other].map(|fixed| serde_json::json!(fixed));
        let (Value::Object(ours), Value::Object(theirs)) = (ours, theirs) else {
            return Vec::new();
        };
        let mut changes = Vec::new();
        for (name, our) in &ours {
            match (our, &theirs[name]) {
                (our, their) if our == their => {}
                (Value::Object(our), Value::Object(their)) => {
                    let keys = our.iter().filter(|(key, value)| their[*key] != **value);
                    changes.extend(keys.map(|(key, _)| format!("[{name}] {key}")));
                }
                (Value::Object(_), _) | (_, Value::Object(_)) => changes.push(format!("[{name}]")),
                _ => changes.push(name.clone()),
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_key_that_differs_is_named_as_in_the_file() {
        let one = Fixed {
            data_dir: "a".into(),
            vault_key: None,
            run_as: None,
            log: logging::LogSettings::default(),
            privacy: logging::LogPrivacy::default(),
            web: None,
            control: ControlSettings::beside(Path::new("a")),
            spool: SpoolSettings::default(),
        };
        assert!(one.changes(&one.clone()).is_empty());
        let other = Fixed {
            data_dir: "b".into(),
            vault_key: Some(Secret::from("key")),
            run_as: Some("mail".into()),
            log: logging::LogSettings {
                level: "debug".into(),
                ..one.log.clone()
            },
            privacy: logging::LogPrivacy {
                mask_addresses: true,
            },
            web: Some(web::PageSettings {
                address: "127.0.0.1:2580".parse().unwrap(),
                external_url: None,
                certificate: None,
            }),
            control: one.control.clone(),
            spool: SpoolSettings {
                reserve: 1,
                history: std::time::Duration::ZERO,
                ..one.spool.clone()
            },
        };
        let mut changes = one.changes(&other);
        changes.sort();
        assert_eq!(
            changes,
            [
                "[log] level",
                "[privacy] mask_addresses",
                "[spool] history",
                "[spool] reserve",
                "[web]",
                "data_dir",
                "run_as",
                "vault_key"
            ]
        );
    }
}
