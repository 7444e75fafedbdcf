//! All accounts: one [`Source`] for each, shared by all callers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use tokio::task::JoinSet;

use super::error::TokenError;
use super::settings::AccountSettings;
use super::source::Source;
use super::state::Account;
use super::vault::{Vault, VaultError};
use crate::base::shared_secrets::SharedSecrets;
use crate::base::tls::TlsError;
use crate::base::{Clock, Secret, Timestamp};
use crate::observe::maillog;

/// The interval at which accounts are checked for due renewals and warnings.
const TICK: Duration = Duration::from_secs(20);

/// The maximum number of simultaneous background renewals. After a long downtime many are due at once, and
/// the provider throttles requests.
const RENEWALS: usize = 16;

/// A warning is logged this many days before a client secret or certificate expires.
const NOTICES: [u64; 4] = [30, 14, 7, 1];

/// How long before the expiry the first warning is logged. From then on, the credential needs attention.
pub(crate) const FIRST_NOTICE: Duration = Duration::from_secs(NOTICES[0] * 24 * 3_600);

/// The accounts by name: holds one [`Source`] for each, and hands out clones.
pub struct Sources {
    vault: Arc<Vault>,
    shared: Option<Arc<dyn SharedSecrets>>,
    clock: Clock,
    by_account: DashMap<String, Arc<Source>>,
}

impl Sources {
    /// Creates an empty set of accounts that will keep their tokens in `vault`, or with other nodes in `shared`, sealed
    /// with the vault's key.
    pub fn new(vault: Vault, shared: Option<Arc<dyn SharedSecrets>>, clock: Clock) -> Self {
        Self {
            vault: Arc::new(vault),
            shared,
            clock,
            by_account: DashMap::new(),
        }
    }

    /// Returns the account for these settings. An existing account keeps its tokens.
    pub fn source(&self, settings: AccountSettings) -> Result<Arc<Source>, TlsError> {
        let name = settings.account.clone();
        let known = self.by_account.get(&name).map(|entry| entry.clone());
        let source = Arc::new(match known {
            Some(known) if known.settings().is_same(&settings) => return Ok(known),
            Some(known) => known.reconfigured(settings)?,
            None => {
                let kept = (self.vault.clone(), self.shared.clone());
                Source::new(settings, kept, self.clock.clone())?
            }
        });
        self.by_account.insert(name, source.clone());
        Ok(source)
    }

    /// Keeps tokens ready, and never returns. Renews the access tokens of accounts in use before new ones are
    /// needed, uses the other accounts' refresh tokens often enough that they do not expire, and warns when
    /// an app's credential is about to expire.
    pub async fn tend(&self) {
        let mut told = HashMap::new();
        let mut renewals = JoinSet::new();
        loop {
            let now = self.clock.now();
            for source in self.all() {
                notice(&source, now, &mut told);
                // A vault error is reported when a message needs the token.
                let due = source.tend_at(now).await.ok().flatten();
                if due.is_none_or(|due| due > now) {
                    continue;
                }
                while renewals.len() >= RENEWALS {
                    renewals.join_next().await;
                }
                renewals.spawn(async move { renew(&source).await });
            }
            while renewals.try_join_next().is_some() {}
            self.clock.sleep(TICK).await;
        }
    }

    /// Drops the accounts that are not among these; their tokens stay in the vault.
    pub fn retain(&self, accounts: &HashSet<String>) {
        self.by_account
            .retain(|account, _| accounts.contains(account));
    }

    fn all(&self) -> Vec<Arc<Source>> {
        let sources = self.by_account.iter();
        sources.map(|entry| entry.value().clone()).collect()
    }

    /// Returns the accounts that have stored tokens, but that no server uses.
    pub async fn unused(&self) -> Result<Vec<String>, TokenError> {
        let mut accounts = self.stored().await?;
        accounts.retain(|account| !self.by_account.contains_key(account));
        Ok(accounts)
    }

    /// Returns the accounts that have stored tokens, in order.
    async fn stored(&self) -> Result<Vec<String>, TokenError> {
        let mut accounts = self.vault.accounts().map_err(kept)?;
        if let Some(shared) = &self.shared {
            accounts.extend(shared.names().await.map_err(TokenError::Vault)?);
        }
        accounts.sort_unstable();
        accounts.dedup();
        Ok(accounts)
    }

    /// Copies all tokens to where another configuration keeps them. Returns the number of accounts.
    pub async fn copy_to(&self, target: &Self) -> Result<usize, TokenError> {
        let accounts = self.stored().await?;
        for name in &accounts {
            let sealed = match &self.shared {
                Some(shared) => shared.load(name).await.map_err(TokenError::Vault)?,
                None => None,
            };
            let account = match sealed {
                Some((_, sealed)) => self.vault.unsealed(name, &sealed),
                None => self.vault.load(name),
            };
            target.keep(name, &account.map_err(kept)?).await?;
        }
        Ok(accounts.len())
    }

    /// Stores an account, whatever is stored for it.
    async fn keep(&self, name: &str, account: &Account) -> Result<(), TokenError> {
        let Some(shared) = &self.shared else {
            return self.vault.store(name, account).map_err(kept);
        };
        let sealed = self.vault.sealed(name, account).map_err(kept)?;
        let known = shared.load(name).await.map_err(TokenError::Vault)?;
        let known = known.map(|(version, _)| version);
        let stored = shared.store(name, known, sealed).await;
        match stored.map_err(TokenError::Vault)? {
            Some(_) => Ok(()),
            None => Err(TokenError::Vault(format!(
                "another process has changed {name} meanwhile"
            ))),
        }
    }

    /// Removes the stored tokens of accounts that no server uses. Returns these accounts.
    pub async fn forget_unused(&self) -> Result<Vec<String>, TokenError> {
        let unused = self.unused().await?;
        let in_files = self.vault.accounts().map_err(kept)?;
        for account in &unused {
            if in_files.contains(account) {
                self.vault.remove(account).map_err(kept)?;
            }
            if let Some(shared) = &self.shared {
                shared.remove(account).await.map_err(TokenError::Vault)?;
            }
        }
        Ok(unused)
    }

    /// Seals all accounts with a different key, also those that the nodes keep together; see [`Vault::rotate`]. Returns the
    /// number of accounts.
    pub async fn rotate_vault(&self, key: Option<Secret>) -> Result<usize, TokenError> {
        let together = self.reseal_shared(key.as_ref()).await?;
        let vault = self.vault.clone();
        let rotating = tokio::task::spawn_blocking(move || vault.rotate(key.as_ref()));
        let rotated = rotating
            .await
            .map_err(|error| TokenError::Vault(error.to_string()))?;
        Ok(rotated.map_err(kept)?.max(together))
    }

    /// Seals the accounts that the nodes keep together with a different key.
    async fn reseal_shared(&self, key: Option<&Secret>) -> Result<usize, TokenError> {
        let Some(shared) = &self.shared else {
            return Ok(0);
        };
        let needs_key =
            "nodes that share a database need `vault_key`, and a new one with --new-key";
        let key = key.ok_or_else(|| TokenError::Vault(needs_key.to_owned()))?;
        let mut all = Vec::new();
        for name in shared.names().await.map_err(TokenError::Vault)? {
            if let Some((version, sealed)) = shared.load(&name).await.map_err(TokenError::Vault)? {
                let sealed = self.vault.resealed(&name, &sealed, key).map_err(kept)?;
                all.push((name, (version, sealed)));
            }
        }
        let count = all.len();
        shared.replace(all).await.map_err(TokenError::Vault)?;
        Ok(count)
    }
}

fn kept(error: VaultError) -> TokenError {
    TokenError::Vault(error.to_string())
}

async fn renew(source: &Arc<Source>) {
    let server = &source.settings().server;
    match source.anew().await {
        Ok(access) => maillog::token_renewed(server, access.expires),
        Err(error) => maillog::token_failed(server, &error),
    }
}

/// Warns once at each number of days in `NOTICES`, and once more after the expiry.
fn notice(source: &Source, now: Timestamp, told: &mut HashMap<String, u64>) {
    let settings = source.settings();
    let Some(expires) = settings.credential.expires() else {
        return;
    };
    let Some(days) = due_notice(expires, now) else {
        return;
    };
    if told.insert(settings.oauth.clone(), days) != Some(days) {
        maillog::credential_expires(&settings.oauth, expires);
    }
}

/// Returns the smallest number of days in `NOTICES` within which the credential expires; 0 after the expiry;
/// `None` if it is too early for a warning.
fn due_notice(expires: Timestamp, now: Timestamp) -> Option<u64> {
    let left = expires.since(now);
    let day = Duration::from_secs(24 * 3_600);
    if left.is_zero() {
        Some(0)
    } else {
        NOTICES
            .into_iter()
            .rev()
            .find(|days| left <= day * *days as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_told_at_its_days() {
        let day = 24 * 3_600_000;
        let left = |days: i64| due_notice(Timestamp(100 * day), Timestamp((100 - days) * day));
        assert_eq!(left(31), None);
        assert_eq!(
            [30, 15, 14, 8, 7, 2, 1, 0, -5].map(left),
            [30, 30, 14, 14, 7, 7, 1, 0, 0].map(Some)
        );
    }
}
