//! All accounts: one [`Source`] for each, whoever asks.

use std::sync::Arc;

use dashmap::DashMap;

use super::settings::Settings;
use super::source::Source;
use super::vault::{Vault, VaultError};
use crate::base::Secret;
use crate::base::tls::TlsError;

/// The accounts by name. Holds one [`Source`] for each, and gives out clones.
pub struct Sources {
    vault: Arc<Vault>,
    by_account: DashMap<String, Arc<Source>>,
}

impl Sources {
    /// No account yet; they keep their tokens in `vault`.
    pub fn new(vault: Vault) -> Self {
        Self {
            vault: Arc::new(vault),
            by_account: DashMap::new(),
        }
    }

    /// The account of these settings; one that is known and unchanged stays with its tokens.
    pub fn source(&self, settings: Settings) -> Result<Arc<Source>, TlsError> {
        let name = settings.account.clone();
        let known = self.by_account.get(&name).map(|entry| entry.clone());
        let source = Arc::new(match known {
            Some(known) if known.settings().is_same(&settings) => return Ok(known),
            Some(known) => known.reconfigured(settings)?,
            None => Source::new(settings, self.vault.clone())?,
        });
        self.by_account.insert(name, source.clone());
        Ok(source)
    }

    /// Seals the vault with another key; see [`Vault::rotate`].
    pub fn rotate_vault(&self, key: Option<&Secret>) -> Result<usize, VaultError> {
        self.vault.rotate(key)
    }
}
