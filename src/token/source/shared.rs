//! An account whose tokens several nodes keep together: each node reads what the others have stored, and only one of
//! them requests a new token at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{REQUEST, Source};
use crate::token::error::TokenError;
use crate::token::state::{Access, Account};
use crate::token::vault::VaultError;

/// The longest time for which one node renews an account: requests with each refresh token, with and without the scopes
/// for reading.
const RENEWAL: Duration = Duration::from_secs(4 * REQUEST.as_secs());

/// The pause before a node looks again at an account that another node renews.
const LOOK: Duration = Duration::from_millis(200);

impl Source {
    /// Reads the account as the nodes keep it. Returns `None` if it is not there.
    pub(super) async fn load_shared(
        &self,
    ) -> Result<Option<Result<Account, VaultError>>, TokenError> {
        let Some(shared) = &self.shared else {
            return Ok(None);
        };
        let name = &self.settings.account;
        let loaded = shared.load(name).await.map_err(TokenError::Vault)?;
        let Some((version, sealed)) = loaded else {
            return Ok(None);
        };
        self.tokens.version.store(version, Ordering::Release);
        Ok(Some(self.vault.unsealed(name, &sealed)))
    }

    /// Stores the account for all nodes. If another node has stored another state meanwhile, that state counts.
    pub(super) async fn keep_shared(&self, account: &Account) -> Result<(), TokenError> {
        let Some(shared) = &self.shared else {
            return Ok(());
        };
        let name = &self.settings.account;
        let sealed = self.vault.sealed(name, account);
        let sealed = sealed.map_err(|error| TokenError::Vault(error.to_string()))?;
        let known = self.tokens.version.load(Ordering::Acquire);
        let known = (known > 0).then_some(known);
        let stored = shared.store(name, known, sealed).await;
        match stored.map_err(TokenError::Vault)? {
            Some(version) => {
                self.tokens.version.store(version, Ordering::Release);
                Ok(())
            }
            None => Err(TokenError::Vault(
                "another node has changed the account meanwhile; this passes by itself".to_owned(),
            )),
        }
    }

    /// Reads the account again if another node has changed it.
    pub(super) async fn reload(&self) -> Result<(), TokenError> {
        let mut kept = self.tokens.account.lock().await;
        let Some(known) = &mut *kept else {
            // Its first use reads it.
            return Ok(());
        };
        let before = self.tokens.version.load(Ordering::Acquire);
        let Some(loaded) = self.load_shared().await? else {
            return Ok(());
        };
        if self.tokens.version.load(Ordering::Acquire) == before {
            return Ok(());
        }
        let loaded = loaded.map_err(|error| TokenError::Vault(error.to_string()))?;
        let generation = known.generation + 1;
        *known = Account {
            generation,
            ..loaded
        };
        self.publish(known);
        // Another node's sign-in may have ended the failure.
        self.remember(None);
        Ok(())
    }

    /// Reads the account again, to show it to people, if another node has changed it. This may notice a change a second late,
    /// so that an idle node asks the database little.
    pub(super) async fn reload_to_show(&self) -> Result<(), TokenError> {
        let Some(shared) = &self.shared else {
            return Ok(());
        };
        let recent = shared.recent_version(&self.settings.account).await;
        let known = self.tokens.version.load(Ordering::Acquire);
        match recent.map_err(TokenError::Vault)? {
            Some(version) if version != known => self.reload().await,
            _ => Ok(()),
        }
    }

    /// Begins a renewal for all nodes. Waits while another node renews the account, and returns its token.
    pub(super) async fn begin_shared(
        &self,
        generation: u64,
    ) -> Result<Option<Arc<Access>>, TokenError> {
        let Some(shared) = &self.shared else {
            return Ok(None);
        };
        let name = &self.settings.account;
        let mut is_begun = false;
        while !is_begun {
            let begun = shared.begin_renewal(name, RENEWAL).await;
            is_begun = begun.map_err(TokenError::Vault)?;
            self.reload().await?;
            if let Some(access) = self.at_hand(generation, self.clock.now()) {
                if is_begun {
                    shared.end_renewal(name).await;
                }
                return Ok(Some(access));
            }
            if !is_begun {
                self.clock.sleep(LOOK).await;
            }
        }
        Ok(None)
    }

    /// Ends a renewal, so that another node may renew the account.
    pub(super) async fn end_shared(&self) {
        if let Some(shared) = &self.shared {
            shared.end_renewal(&self.settings.account).await;
        }
    }
}
