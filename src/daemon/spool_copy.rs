//! Copies everything that one configuration has stored to where another one stores it.

use std::sync::Arc;

use super::settings::tokens;
use crate::base::Clock;
use crate::base::shared_secrets::SharedSecrets;
use crate::config::Config;
use crate::spool::copy::{self, Copied, CopyError, Named};
use crate::spool::{self, Owner, SpoolError};
use crate::token::{Sources, TokenError, Vault, VaultError};

/// The numbers of copied items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(crate) struct CopiedSpool {
    /// Messages of the queue.
    pub messages: usize,
    /// Stories of the history.
    pub stories: usize,
    /// Accounts with tokens.
    pub accounts: usize,
}

/// The reason why a spool was not copied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolCopyError {
    /// The spool.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// There is nothing to copy.
    #[error(
        "there is no spool in {0}: `serve` has not run with the configuration --from. If systemd runs mailferry, set `data_dir` to its \
         folder, such as /var/lib/mailferry"
    )]
    Nothing(String),
    /// The tokens.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The vault does not open.
    #[error("token vault: {0}")]
    Vault(#[from] VaultError),
}

impl From<SpoolError> for SpoolCopyError {
    fn from(error: SpoolError) -> Self {
        Self::Copy(error.into())
    }
}

/// Copies, or goes on with a copy that was interrupted. Tells `so_far` how much is done. Returns `None` if the copy was
/// complete already.
pub(crate) async fn copy_spool(
    source: &Config,
    target: &Config,
    so_far: &dyn Fn(Copied),
) -> Result<Option<CopiedSpool>, SpoolCopyError> {
    let clock = Clock::default();
    let (from, to) = both(source, target, &clock).await?;
    if !copy::begin(&from, &to).await? {
        return Ok(None);
    }
    let tokens = sources(source, &from)?;
    let accounts = tokens.copy_to(&sources(target, &to)?).await?;
    let Copied { messages, stories } = copy::run(&from, &to, &clock, so_far).await?;
    copy::end(&from, &to).await?;
    Ok(Some(CopiedSpool {
        messages,
        stories,
        accounts,
    }))
}

/// Gives up a copy that is not complete.
pub(crate) async fn undo_spool_copy(
    source: &Config,
    target: &Config,
) -> Result<(), SpoolCopyError> {
    let (from, to) = both(source, target, &Clock::default()).await?;
    Ok(copy::undo(&from, &to).await?)
}

/// Opens both spools. `clock` gets the time of the source.
async fn both(
    source: &Config,
    target: &Config,
    clock: &Clock,
) -> Result<(Named, Named), SpoolCopyError> {
    if !spool::exists(&source.fixed.spool) {
        let folder = source.fixed.spool.folder.display();
        return Err(SpoolCopyError::Nothing(folder.to_string()));
    }
    let from = named(source, clock).await?;
    let to = named(target, &Clock::default()).await?;
    Ok((from, to))
}

async fn named(config: &Config, clock: &Clock) -> Result<Named, SpoolError> {
    let owner = Owner::this_process(&config.live.host);
    spool::copyable(&config.fixed.spool, owner, clock).await
}

/// Returns where a configuration keeps its tokens.
fn sources(config: &Config, (spool, _): &Named) -> Result<Sources, VaultError> {
    let shared: Option<Arc<dyn SharedSecrets>> = spool.secrets();
    let vault = Vault::visit(tokens(config), config.fixed.vault_key.as_ref())?;
    Ok(Sources::new(vault, shared, Clock::default()))
}
