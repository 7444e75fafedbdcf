//! One account's tokens: at hand when they are fresh, renewed by one when they are not.

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
use super::state::{Access, Account, Grants, TokenOrigin};
use super::vault::Vault;
use crate::base::secret::ExposeSecret;
use crate::base::tls::TlsError;
use crate::base::{Clock, Timestamp};
use crate::observe::maillog;
pub use sign_in::SignInPurpose;

/// One request to the token endpoint, all of it.
const REQUEST: Duration = Duration::from_secs(30);

/// How long a failure answers those who ask again, so that a queue does not become a storm. A
/// provider that asks for a longer pause gets it.
const FAILURE_HOLDS: Duration = Duration::from_secs(10);

/// How long a renewal in the background that failed waits, where the failure passes by itself.
const TEND_AGAIN: Duration = Duration::from_secs(60);

/// And where a person is needed.
const PERSON_NEEDED: Duration = Duration::from_secs(3_600);

/// An account.
pub struct Source {
    settings: AccountSettings,
    http: reqwest::Client,
    vault: Arc<Vault>,
    clock: Clock,
    current: ArcSwapOption<Access>,
    tokens: Arc<Tokens>,
    /// Whether these settings have had their say about what the vault has.
    is_applied: AtomicBool,
    /// The last failure, until an answer comes. Other settings do not inherit it.
    failure: std::sync::Mutex<Option<LastFailure>>,
    /// How much of the time ahead of need it takes: random, so that many do not come at once.
    share: f64,
    /// When a token was last asked for (milliseconds, as [`Timestamp`]); 0 for never.
    last_used: AtomicI64,
}

/// What an account has, whatever its settings: one that is configured anew goes on with it.
#[derive(Default)]
struct Tokens {
    /// What the vault has, once it was read; whoever holds it may change both.
    account: Mutex<Option<Account>>,
    /// Held while the provider is asked, so that it is asked once.
    flight: Mutex<()>,
}

#[derive(Clone)]
struct LastFailure {
    at: Timestamp,
    error: TokenError,
}

/// What a person may know of an account.
#[derive(Debug, Clone)]
pub struct Status {
    /// Who signed in, where the provider said.
    pub user: Option<String>,
    /// How the refresh token was got; none where there is none.
    pub origin: Option<TokenOrigin>,
    /// When the refresh token came: each use brings another.
    pub rotated: Option<Timestamp>,
    /// When the access token ends, where there is one.
    pub expires: Option<Timestamp>,
    /// Whether there ever was an access token, be it over by now.
    pub has_worked: bool,
    /// Why there is no newer one.
    pub trouble: Option<String>,
    /// Whether that passes only when a person mends something.
    pub needs_person: bool,
}

impl Source {
    /// An account whose tokens are kept in `vault`.
    pub fn new(
        settings: AccountSettings,
        vault: Arc<Vault>,
        clock: Clock,
    ) -> Result<Self, TlsError> {
        Self::with(settings, vault, clock, Arc::default())
    }

    /// The same account with other settings.
    pub(super) fn reconfigured(&self, settings: AccountSettings) -> Result<Self, TlsError> {
        let source = Self::with(
            settings,
            self.vault.clone(),
            self.clock.clone(),
            self.tokens.clone(),
        )?;
        let last_used = self.last_used.load(Ordering::Relaxed);
        source.last_used.store(last_used, Ordering::Relaxed);
        Ok(source)
    }

    fn with(
        settings: AccountSettings,
        vault: Arc<Vault>,
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
            clock,
            current: ArcSwapOption::empty(),
            tokens,
            is_applied: AtomicBool::new(false),
            failure: std::sync::Mutex::default(),
            share: rand::random(),
            last_used: AtomicI64::new(0),
        })
    }

    /// As it is configured.
    pub fn settings(&self) -> &AccountSettings {
        &self.settings
    }

    /// A token that is good for some minutes: the one at hand, or a new one.
    pub async fn get(self: &Arc<Self>) -> Result<Arc<Access>, TokenError> {
        let now = self.clock.now();
        self.last_used.store(now.0, Ordering::Relaxed);
        match self.at_hand(0, now) {
            Some(access) => Ok(access),
            None => self.renewed(0).await,
        }
    }

    /// A token newer than `rejected`, which the upstream did not take.
    pub async fn after_rejection(
        self: &Arc<Self>,
        rejected: &Access,
    ) -> Result<Arc<Access>, TokenError> {
        self.renewed(rejected.generation + 1).await
    }

    /// When it is to be renewed in the background, if ever, and if it is not being renewed; see
    /// [`Account::tend_at`]. After a failure that does not pass by itself, rarely: a person is needed,
    /// and retries would look like an attack.
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

    /// A new token, whatever is at hand.
    pub async fn anew(self: &Arc<Self>) -> Result<Arc<Access>, TokenError> {
        let generation = self.account().await?.generation;
        self.renewed(generation + 1).await
    }

    /// Asks anew at the next need, whatever the last answer was: somebody has mended something.
    pub fn forgive(&self) {
        self.remember(None);
    }

    /// What a person may know of it.
    pub async fn status(&self) -> Result<Status, TokenError> {
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
            needs_person: account.trouble.is_some()
                || failure.as_ref().is_some_and(|it| !it.error.is_transient()),
            trouble: failure
                .map(|failure| failure.error.to_string())
                .or_else(|| account.trouble.clone()),
        })
    }

    /// Forgets all tokens of the account; whether there were any.
    pub async fn disconnect(&self) -> Result<bool, TokenError> {
        let mut account = self.account().await?;
        let mut next = account.clone();
        let there_was = next.refresh.is_some() || next.access.is_some();
        next.forget();
        self.keep(&next).await?;
        self.current.store(None);
        *account = next;
        Ok(there_was)
    }

    fn at_hand(&self, generation: u64, now: Timestamp) -> Option<Arc<Access>> {
        let access = self.current.load_full()?;
        (access.generation >= generation && access.is_fresh(now)).then_some(access)
    }

    /// A token past its freshness is better than none while the provider is out.
    fn still_valid(&self, generation: u64) -> Option<Arc<Access>> {
        let access = self.current.load_full()?;
        (access.generation >= generation && access.is_valid(self.clock.now())).then_some(access)
    }

    /// A renewal goes on when its caller does not: the provider may have rotated already.
    async fn renewed(self: &Arc<Self>, generation: u64) -> Result<Arc<Access>, TokenError> {
        let (source, asked) = (self.clone(), self.clock.now());
        let renewal = tokio::spawn(async move { source.renew(generation, asked).await });
        renewal
            .await
            .unwrap_or_else(|panic| Err(TokenError::Vault(panic.to_string())))
    }

    /// One at a time; those that waited find the result of the one before.
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
        let generation_asked = self.account().await?.generation;
        match self.ask().await {
            Ok(access) => {
                self.remember(None);
                Ok(access)
            }
            Err(error) => {
                if !error.is_transient() {
                    self.keep_trouble(generation_asked, &error).await;
                }
                let at = self.clock.now();
                self.remember(Some(LastFailure {
                    at,
                    error: error.clone(),
                }));
                self.still_valid(generation).ok_or(error)
            }
        }
    }

    /// So that whoever looks later, by another process too, sees it. Not worth failing for.
    async fn keep_trouble(&self, asked: u64, error: &TokenError) {
        let Ok(mut account) = self.account().await else {
            return;
        };
        let mut next = account.clone();
        if next.refused(asked, &error.to_string()) && self.keep(&next).await.is_ok() {
            *account = next;
        }
    }

    /// Asks the provider, keeps what it gave, and only then hands it out. Where somebody signed in
    /// or out meanwhile, the answer is dropped and what they left counts.
    async fn ask(&self) -> Result<Arc<Access>, TokenError> {
        let asked = self.account().await?.clone();
        let (granted, used) = self.request(&asked).await?;
        let mut account = self.account().await?;
        let mut next = account.clone();
        if next.granted(
            asked.generation,
            used.as_ref(),
            grants(granted),
            self.clock.now(),
        ) {
            self.keep(&next).await?;
            self.publish(&next);
            *account = next;
        }
        let server = || self.settings.server.clone();
        self.current
            .load_full()
            .ok_or_else(|| TokenError::NotConnected { account: server() })
    }

    /// With each refresh token that we have, as long as the one before was refused.
    async fn request(
        &self,
        account: &Account,
    ) -> Result<(Granted, Option<Zeroizing<String>>), TokenError> {
        if !self.settings.grant.is_by_user() {
            return Ok((
                flow::request(&self.settings, &self.http, Ask::App).await?,
                None,
            ));
        }
        let server = self.settings.server.clone();
        let mut failure = TokenError::NotConnected { account: server };
        for token in account.refresh_tokens() {
            match flow::request(&self.settings, &self.http, Ask::Refresh(&token)).await {
                Ok(granted) => return Ok((granted, Some(token))),
                Err(error @ TokenError::SignIn { .. }) => failure = error,
                Err(other) => return Err(other),
            }
        }
        Err(failure)
    }

    /// The account, read from the vault at its first use; a refresh token that is newly configured
    /// wins over what is kept.
    async fn account(&self) -> Result<MappedMutexGuard<'_, Account>, TokenError> {
        let mut account = self.tokens.account.lock().await;
        if account.is_none() {
            let (vault, name) = (self.vault.clone(), self.settings.account.clone());
            let loaded = tokio::task::spawn_blocking(move || vault.load(&name)).await;
            *account = Some(match loaded {
                Ok(Ok(loaded)) => loaded,
                // What an app gets by itself can be asked for again.
                Ok(Err(error)) if !self.settings.grant.is_by_user() => {
                    maillog::token_unreadable(&self.settings.server, &error);
                    Account::default()
                }
                Ok(Err(error)) => return Err(TokenError::Vault(error.to_string())),
                Err(panic) => return Err(TokenError::Vault(panic.to_string())),
            });
        }
        let mut account = MutexGuard::map(account, |account| account.get_or_insert_default());
        if !self.is_applied.swap(true, Ordering::Relaxed) {
            if let Some(token) = &self.settings.refresh_token {
                let token = Zeroizing::new(token.expose_secret().trim().to_owned());
                let digest = digest_of(&token);
                account.configure(token, digest, self.clock.now());
            }
            account.ask_for(self.settings.request_digest());
            // A run that has just begun goes on with what the one before kept at hand.
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
        let (vault, name) = (self.vault.clone(), self.settings.account.clone());
        let account = account.clone();
        let kept = tokio::task::spawn_blocking(move || vault.store(&name, &account)).await;
        match kept {
            Ok(kept) => kept.map_err(|error| TokenError::Vault(error.to_string())),
            Err(panic) => Err(TokenError::Vault(panic.to_string())),
        }
    }
}

fn grants(granted: Granted) -> Grants {
    Grants {
        access: granted.access,
        refresh: granted.refresh,
        expires_in: granted.expires_in,
    }
}
