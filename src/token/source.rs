//! The tokens of one account: handed out at once if they are fresh, otherwise renewed by one caller for all.

mod shared;
mod sign_in;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use rustls::ClientConfig;
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};
use zeroize::Zeroizing;

use super::error::TokenError;
use super::flow::{self, Ask, Granted};
use super::settings::{AccountSettings, digest_of};
use super::state::{Access, Account, Grants, Reading, TokenOrigin};
use super::vault::Vault;
use crate::base::secret::ExposeSecret;
use crate::base::shared_secrets::SharedSecrets;
use crate::base::tls::TlsError;
use crate::base::{Clock, Timestamp};
use crate::observe::maillog;
pub use sign_in::SignInPurpose;

/// The time limit for one whole request to the token endpoint.
const REQUEST: Duration = Duration::from_secs(30);

/// How long a failure is returned to new callers without another request, so that a queue does not cause
/// a storm of requests. If the provider requests a pause, that pause applies instead.
const FAILURE_HOLDS: Duration = Duration::from_secs(10);

/// The pause after a failed background renewal, if the failure passes by itself.
const TEND_AGAIN: Duration = Duration::from_secs(60);

/// The pause after a failed renewal, if a person must fix the problem.
const PERSON_NEEDED: Duration = Duration::from_secs(3_600);

/// An account and its tokens.
pub struct Source {
    settings: AccountSettings,
    http: reqwest::Client,
    vault: Arc<Vault>,
    /// Where the nodes keep the tokens together; `None` if they are in this process's vault.
    shared: Option<Arc<dyn SharedSecrets>>,
    clock: Clock,
    current: ArcSwapOption<Access>,
    tokens: Arc<Tokens>,
    /// True if a reload has changed the settings.
    is_changed: bool,
    /// True once these settings have been applied to the account from the vault.
    is_applied: AtomicBool,
    /// The last failure, until a request succeeds. New settings do not inherit it.
    failure: std::sync::Mutex<Option<LastFailure>>,
    /// The part of `AHEAD` that this account uses: random, so that accounts do not all renew at once.
    share: f64,
    /// The time at which a caller last asked for a token (milliseconds, as [`Timestamp`]); 0 means never.
    last_used: AtomicI64,
}

/// Where an account's tokens are kept: the vault, which seals them, and where the nodes keep them together, if several
/// nodes do.
pub(super) type Stores = (Arc<Vault>, Option<Arc<dyn SharedSecrets>>);

/// The part of an account that its settings do not affect: a reconfigured account continues with it.
#[derive(Default)]
struct Tokens {
    /// The account as stored in the vault, once it has been read. Only the holder of this lock may change it,
    /// here or in the vault.
    account: Mutex<Option<Account>>,
    /// Locked during a renewal, so that only one runs at a time.
    flight: Mutex<()>,
    /// The version of the account that the nodes share, when it was last read or stored; 0 if it was not there.
    version: AtomicI64,
}

#[derive(Clone)]
struct LastFailure {
    at: Timestamp,
    error: TokenError,
}

/// The state of an account, as shown to people.
#[derive(Debug, Clone)]
pub struct Status {
    /// The user who signed in, if the provider named one.
    pub user: Option<String>,
    /// How the refresh token was obtained; `None` if there is none.
    pub origin: Option<TokenOrigin>,
    /// The time at which the refresh token arrived or was last used.
    pub rotated: Option<Timestamp>,
    /// The time at which the access token expires, if there is one.
    pub expires: Option<Timestamp>,
    /// True if there ever was an access token, even if it has expired by now.
    pub has_worked: bool,
    /// The reason why there is no newer token.
    pub trouble: Option<String>,
    /// True if the trouble passes only when a person fixes something.
    pub needs_person: bool,
    /// True if the sign-in is for sending only, although a server is for reading too.
    pub lacks_reading: bool,
}

impl Source {
    /// Creates an account that keeps its tokens in the vault, or shares them with other nodes.
    pub fn new(
        settings: AccountSettings,
        (vault, shared): Stores,
        clock: Clock,
    ) -> Result<Self, TlsError> {
        Self::with(settings, (vault, shared), clock, Arc::default())
    }

    /// Returns the same account with other settings.
    pub(super) fn reconfigured(&self, settings: AccountSettings) -> Result<Self, TlsError> {
        let mut source = Self::with(
            settings,
            (self.vault.clone(), self.shared.clone()),
            self.clock.clone(),
            self.tokens.clone(),
        )?;
        source.is_changed = true;
        let last_used = self.last_used.load(Ordering::Relaxed);
        source.last_used.store(last_used, Ordering::Relaxed);
        Ok(source)
    }

    fn with(
        settings: AccountSettings,
        (vault, shared): Stores,
        clock: Clock,
        tokens: Arc<Tokens>,
    ) -> Result<Self, TlsError> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(ClientConfig::clone(&settings.tls))
            .redirect(reqwest::redirect::Policy::none())
            .timeout(REQUEST)
            .build()
            .map_err(|error| TlsError::Roots(error.to_string()))?;
        Ok(Self {
            settings,
            http,
            vault,
            shared,
            clock,
            current: ArcSwapOption::empty(),
            tokens,
            is_changed: false,
            is_applied: AtomicBool::new(false),
            failure: std::sync::Mutex::default(),
            share: rand::random(),
            last_used: AtomicI64::new(0),
        })
    }

    /// Returns the account's settings.
    pub fn settings(&self) -> &AccountSettings {
        &self.settings
    }

    /// Returns the current token if it is fresh, otherwise a new one.
    pub async fn get(self: &Arc<Self>) -> Result<Arc<Access>, TokenError> {
        let now = self.clock.now();
        self.last_used.store(now.0, Ordering::Relaxed);
        match self.at_hand(0, now) {
            Some(access) => Ok(access),
            None => self.renewed(0).await,
        }
    }

    /// Returns a token with the scopes for reading, as [`Self::get`] does. If the current token is for sending
    /// only, requests another one, unless the provider refused the scopes since the last sign-in.
    pub async fn get_for_reading(self: &Arc<Self>) -> Result<Arc<Access>, TokenError> {
        let Some(wanted) = self.settings.scopes.added() else {
            return self.get().await;
        };
        let access = self.get().await?;
        if access.reading.as_ref() == Some(&wanted) {
            return Ok(access);
        }
        if self.account().await?.reading_refused.as_ref() == Some(&wanted) {
            return Err(self.not_for_reading());
        }
        let access = self.after_rejection(&access).await?;
        match access.reading.as_ref() == Some(&wanted) {
            true => Ok(access),
            false => Err(self.not_for_reading()),
        }
    }

    fn not_for_reading(&self) -> TokenError {
        let account = self.settings.server.clone();
        TokenError::NotForReading { account }
    }

    /// Returns a token newer than `rejected`, which the upstream refused.
    pub async fn after_rejection(
        self: &Arc<Self>,
        rejected: &Access,
    ) -> Result<Arc<Access>, TokenError> {
        self.renewed(rejected.generation + 1).await
    }

    /// Returns the time of the next background renewal; see [`Account::tend_at`]. `None` if no renewal is
    /// needed, or if one is in progress. After a failure that does not pass by itself, renewals are rare: a
    /// person is needed, and retries would look like an attack.
    pub async fn tend_at(&self, now: Timestamp) -> Result<Option<Timestamp>, TokenError> {
        if self.tokens.flight.try_lock().is_err() {
            return Ok(None);
        }
        let last_used = Timestamp(self.last_used.load(Ordering::Relaxed));
        let account = self.account().await?;
        let last_used = (last_used.0 > 0).then_some(last_used);
        let due = account.tend_at(last_used, now, self.share);
        let again = self
            .failure()
            .map(|failure| failure.at.after(self.pause(&failure.error)));
        Ok(due.map(|due| again.map_or(due, |again| again.max(due))))
    }

    fn pause(&self, error: &TokenError) -> Duration {
        if error.is_transient() {
            error.pause().unwrap_or(TEND_AGAIN)
        } else {
            PERSON_NEEDED
        }
    }

    /// Requests a new token even if the current one is still valid.
    pub async fn anew(self: &Arc<Self>) -> Result<Arc<Access>, TokenError> {
        let generation = self.account().await?.generation;
        self.renewed(generation + 1).await
    }

    /// Forgets the last failure, because the problem may have been fixed. The next caller causes a new
    /// request.
    pub fn clear_failure(&self) {
        self.remember(None);
    }

    /// Returns the account's state, as shown to people.
    pub async fn status(&self) -> Result<Status, TokenError> {
        self.reload_to_show().await?;
        let failure = self.failure();
        let account = self.account().await?;
        let is_by_user = self.settings.grant.is_by_user();
        Ok(Status {
            user: account.user.clone(),
            origin: account.origin.filter(|_| is_by_user),
            rotated: account
                .refresh
                .as_ref()
                .map(|refresh| refresh.since)
                .filter(|_| is_by_user),
            expires: account.access().map(|access| access.expires),
            has_worked: account.access.is_some(),
            lacks_reading: self.settings.scopes.added().is_some()
                && account.reading_refused == self.settings.scopes.added(),
            needs_person: account.trouble.is_some()
                || failure.as_ref().is_some_and(|it| !it.error.is_transient()),
            trouble: failure
                .map(|failure| failure.error.to_string())
                .or_else(|| account.trouble.clone()),
        })
    }

    /// Forgets all tokens of the account. Returns true if there were any.
    pub async fn disconnect(&self) -> Result<bool, TokenError> {
        self.reload().await?;
        let mut account = self.account().await?;
        let mut next = account.clone();
        let had_tokens = next.refresh.is_some() || next.access.is_some();
        next.forget();
        self.keep(&next).await?;
        self.current.store(None);
        *account = next;
        Ok(had_tokens)
    }

    fn at_hand(&self, generation: u64, now: Timestamp) -> Option<Arc<Access>> {
        let access = self.current.load_full()?;
        (access.generation >= generation && access.is_fresh(now)).then_some(access)
    }

    /// Returns the current token, if it has not expired. While the provider is down, a token that is no
    /// longer fresh is better than none.
    fn still_valid(&self, generation: u64) -> Option<Arc<Access>> {
        let access = self.current.load_full()?;
        (access.generation >= generation && access.is_valid(self.clock.now())).then_some(access)
    }

    /// Renews the token, even if the caller gives up meanwhile: the provider may already have rotated the
    /// refresh token.
    async fn renewed(self: &Arc<Self>, generation: u64) -> Result<Arc<Access>, TokenError> {
        let (source, asked) = (self.clone(), self.clock.now());
        let renewal = tokio::spawn(async move { source.renew(generation, asked).await });
        renewal
            .await
            .unwrap_or_else(|panic| Err(TokenError::Vault(panic.to_string())))
    }

    /// Renews the token, one caller at a time. Callers that waited for a renewal use its result.
    async fn renew(&self, generation: u64, asked: Timestamp) -> Result<Arc<Access>, TokenError> {
        let _flight = self.tokens.flight.lock().await;
        drop(self.account().await?);
        if let Some(access) = self.at_hand(generation, self.clock.now()) {
            return Ok(access);
        }
        if let Some(failure) = self.failure() {
            let holds = failure.error.pause().unwrap_or(FAILURE_HOLDS);
            if failure.at >= asked || asked.since(failure.at) < holds {
                return self.still_valid(generation).ok_or(failure.error);
            }
        }
        match self.begin_shared(generation).await {
            Ok(None) => {}
            Ok(Some(access)) => return Ok(access),
            Err(error) => return self.still_valid(generation).ok_or(error),
        }
        let generation_asked = self.account().await?.generation;
        let asked = self.ask().await;
        self.end_shared().await;
        match asked {
            Ok(access) => {
                self.remember(None);
                Ok(access)
            }
            Err(error) => {
                if !error.is_transient() {
                    self.keep_trouble(generation_asked, &error).await;
                }
                // The database that the nodes share is asked again at once: it is not the provider.
                let is_provider = self.shared.is_none() || !matches!(error, TokenError::Vault(_));
                if is_provider {
                    let at = self.clock.now();
                    self.remember(Some(LastFailure {
                        at,
                        error: error.clone(),
                    }));
                }
                self.still_valid(generation).ok_or(error)
            }
        }
    }

    /// Stores the error for anyone who looks later, even in another process. A failure to store it does not
    /// matter.
    async fn keep_trouble(&self, asked: u64, error: &TokenError) {
        let Ok(mut account) = self.account().await else {
            return;
        };
        let mut next = account.clone();
        if next.refused(asked, &error.to_string()) && self.keep(&next).await.is_ok() {
            *account = next;
        }
    }

    /// Requests a token from the provider, stores it, and only then hands it out. If somebody signed in
    /// or out meanwhile, the response is dropped and the newer state counts.
    async fn ask(&self) -> Result<Arc<Access>, TokenError> {
        let asked = self.account().await?.clone();
        let (grants, used) = self.request(&asked).await?;
        let mut account = self.account().await?;
        let mut next = account.clone();
        if next.granted(asked.generation, used.as_ref(), grants, self.clock.now()) {
            self.keep(&next).await?;
            self.publish(&next);
            *account = next;
        }
        let server = || self.settings.server.clone();
        self.current
            .load_full()
            .ok_or_else(|| TokenError::NotConnected { account: server() })
    }

    /// Requests a token with our refresh tokens in turn; each one is used only if the provider refused the
    /// previous one.
    async fn request(
        &self,
        account: &Account,
    ) -> Result<(Grants, Option<Zeroizing<String>>), TokenError> {
        if !self.settings.grant.is_by_user() {
            let granted = flow::request(&self.settings, &self.http, Ask::App).await?;
            return Ok((grants(granted, Reading::NotRequested), None));
        }
        let server = self.settings.server.clone();
        let mut failure = TokenError::NotConnected { account: server };
        for token in account.refresh_tokens() {
            match self.refresh(account, &token).await {
                Ok(grants) => return Ok((grants, Some(token))),
                Err(error @ TokenError::SignIn { .. }) => failure = error,
                Err(other) => return Err(other),
            }
        }
        Err(failure)
    }

    /// Requests a token with one refresh token. If the provider wants a sign-in, the reason may be the scopes
    /// for reading, to which nobody consented yet: sending must go on, so they are left out.
    async fn refresh(&self, account: &Account, token: &str) -> Result<Grants, TokenError> {
        let request =
            |reading| flow::request(&self.settings, &self.http, Ask::Refresh { token, reading });
        let added = self.settings.scopes.added();
        let Some(added) = added.filter(|added| account.reading_refused.as_ref() != Some(added))
        else {
            let is_reading = self.settings.scopes.added().is_none();
            return Ok(grants(request(is_reading).await?, Reading::NotRequested));
        };
        match request(true).await {
            Ok(granted) => Ok(grants(granted, Reading::Granted(added))),
            Err(TokenError::SignIn { .. }) => {
                let granted = request(false).await?;
                maillog::reading_needs_sign_in(&self.settings.server);
                Ok(grants(granted, Reading::Refused(added)))
            }
            Err(other) => Err(other),
        }
    }

    /// Locks and returns the account; its first use reads it from the vault. A newly configured refresh token
    /// takes precedence over the stored one.
    async fn account(&self) -> Result<MappedMutexGuard<'_, Account>, TokenError> {
        let mut account = self.tokens.account.lock().await;
        if account.is_none() {
            *account = Some(self.loaded().await?);
        }
        let mut account = MutexGuard::map(account, |account| account.get_or_insert_default());
        if !self.is_applied.swap(true, Ordering::Relaxed) {
            if let Some(token) = &self.settings.refresh_token {
                let token = Zeroizing::new(token.expose_secret().trim().to_owned());
                let digest = digest_of(&token);
                account.configure(token, digest, self.clock.now());
            }
            account.ask_for(self.settings.request_digest());
            if self.is_changed {
                // The next request shows if the new settings are right.
                account.trouble = None;
            }
            // After a start, continue to renew the token that the previous run kept ready.
            if let (Some(access), 0) = (account.access(), self.last_used.load(Ordering::Relaxed)) {
                self.last_used.store(access.issued.0, Ordering::Relaxed);
            }
        }
        let published = self.current.load().as_ref().map(|access| access.generation);
        if published != Some(account.generation) {
            self.publish(&account);
        }
        Ok(account)
    }

    /// Reads the account: from where the nodes keep it, or else from the vault.
    async fn loaded(&self) -> Result<Account, TokenError> {
        let loaded = match self.load_shared().await? {
            Some(loaded) => loaded,
            None => {
                let (vault, name) = (self.vault.clone(), self.settings.account.clone());
                let loaded = tokio::task::spawn_blocking(move || vault.load(&name)).await;
                loaded.map_err(|panic| TokenError::Vault(panic.to_string()))?
            }
        };
        match loaded {
            // A token that an app gets by itself can be requested again.
            Err(error) if !self.settings.grant.is_by_user() => {
                maillog::token_unreadable(&self.settings.server, &error);
                Ok(Account::default())
            }
            loaded => loaded.map_err(|error| TokenError::Vault(error.to_string())),
        }
    }

    fn failure(&self) -> Option<LastFailure> {
        let failure = self.failure.lock();
        failure.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember(&self, failure: Option<LastFailure>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    fn publish(&self, account: &Account) {
        self.current.store(account.access().map(Arc::new));
    }

    async fn keep(&self, account: &Account) -> Result<(), TokenError> {
        if self.shared.is_some() {
            return self.keep_shared(account).await;
        }
        let (vault, name) = (self.vault.clone(), self.settings.account.clone());
        let account = account.clone();
        let kept = tokio::task::spawn_blocking(move || vault.store(&name, &account)).await;
        match kept {
            Ok(kept) => kept.map_err(|error| TokenError::Vault(error.to_string())),
            Err(panic) => Err(TokenError::Vault(panic.to_string())),
        }
    }
}

fn grants(granted: Granted, reading: Reading) -> Grants {
    Grants {
        access: granted.access,
        refresh: granted.refresh,
        expires_in: granted.expires_in,
        reading,
    }
}
