//! Collects the problems of a configuration.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use toml::Spanned;
use url::Url;

use crate::base::{Secret, tls};
use crate::config::Secrets;
use crate::config::problem::{self, Problem};
use crate::config::secret::{SecretError, SecretText};
use crate::token;

/// Collects problems while it builds the settings.
pub(super) struct Checker<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
    pub(super) secrets: Secrets,
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
    /// TLS configurations by their extra roots. Servers with the same extra roots share one configuration,
    /// because reading the system's roots takes milliseconds and there may be a thousand servers.
    pub(super) tls: HashMap<Vec<CertificateDer<'static>>, Arc<ClientConfig>>,
    /// Token settings by the account's name; see `shared`.
    pub(super) accounts: HashMap<String, token::AccountSettings>,
    /// The page's external URL.
    pub(super) page: Option<Url>,
    /// The problems with secrets that are already reported, so that each problem is reported only once.
    pub(super) missing: HashSet<String>,
}

impl Checker<'_> {
    pub(super) fn problem(&mut self, span: Range<usize>, key: &str, text: impl ToString) {
        let line = problem::line_of(self.text, &span);
        self.problems.push(Problem {
            line,
            key: key.to_owned(),
            text: text.to_string(),
        });
    }

    /// Returns the value, or records a problem and returns `None`.
    pub(super) fn ok<T, E: ToString>(
        &mut self,
        result: Result<T, E>,
        span: Range<usize>,
        key: &str,
    ) -> Option<T> {
        result.map_err(|error| self.problem(span, key, error)).ok()
    }

    pub(super) fn secret(
        &mut self,
        secret: &Option<Spanned<SecretText>>,
        key: &str,
    ) -> Option<Secret> {
        let secret = secret.as_ref()?;
        if self.secrets == Secrets::Left {
            return Some(String::new().into());
        }
        match secret.get_ref().resolve(self.path, self.env) {
            Ok(secret) => Some(secret),
            Err(SecretError::NoCredential(name)) if self.is_outside_the_service() => {
                self.warnings.push(format!(
                    "{key}: the credential {name} was not checked here: only the service receives it from systemd"
                ));
                Some(String::new().into())
            }
            Err(error) => {
                let said = error.to_string();
                // Several keys may use the same secret: report its problem only once.
                if self.missing.insert(said.clone()) {
                    self.problem(secret.span(), key, said);
                }
                None
            }
        }
    }

    /// True if a command checks the configuration outside the service, where systemd's credentials are not
    /// available.
    pub(super) fn is_outside_the_service(&self) -> bool {
        self.secrets == Secrets::Looked && (self.env)("CREDENTIALS_DIRECTORY").is_none()
    }

    /// Returns a TLS client configuration that trusts these roots in addition to the system's roots.
    pub(super) fn client_config(
        &mut self,
        roots: &Vec<CertificateDer<'static>>,
        span: Range<usize>,
        key: &str,
    ) -> Option<Arc<ClientConfig>> {
        if let Some(known) = self.tls.get(roots) {
            return Some(known.clone());
        }
        let made = Arc::new(self.ok(tls::client_config(roots), span, key)?);
        self.tls.insert(roots.clone(), made.clone());
        Some(made)
    }

    /// Returns the path of `file`. A relative path starts at the configuration file's folder.
    pub(super) fn beside(&self, file: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(file)
    }
}
