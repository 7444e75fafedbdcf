//! One account's tokens: at hand when they are fresh, renewed by one when they are not.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use dashmap::DashMap;
use rustls::pki_types::CertificateDer;
use tokio::sync::Mutex;
use url::Url;
use zeroize::Zeroizing;

use super::flow::{self, Grant, Granted, TokenError};
use super::state::{self, Access, Account};
use super::vault::Vault;
use crate::base::secret::ExposeSecret;
use crate::base::tls::{self, TlsError};
use crate::base::{Secret, Timestamp};

/// One request to the token endpoint, all of it.
const REQUEST: Duration = Duration::from_secs(30);

/// How long a failure answers those who ask again, so that a queue does not become a storm.
const FAILURE_HOLDS: Duration = Duration::from_secs(10);

/// Where tokens come from.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The account's name in the vault: the app registration's for client credentials, which all
    /// its servers share, else the server's.
    pub account: String,
    /// The app registration's name in the configuration, for error texts.
    pub oauth: String,
    /// The token endpoint.
    pub token_url: Url,
    /// The app's id.
    pub client_id: String,
    /// The app's secret; a public client has none.
    pub client_secret: Option<Secret>,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// How.
    pub grant: Grant,
    /// The refresh token to begin with.
    pub refresh_token: Option<Secret>,
    /// Root certificates besides the system's.
    pub roots: Vec<CertificateDer<'static>>,
}

/// An account.
pub struct Source {
    settings: Settings,
    http: reqwest::Client,
    vault: Arc<Vault>,
    current: ArcSwapOption<Access>,
    renewal: Mutex<Renewal>,
}

/// What only the one that renews may touch.
#[derive(Default)]
struct Renewal {
    account: Option<Account>,
    generation: u64,
    failure: Option<(Timestamp, TokenError)>,
}

/// The accounts by name. Holds one [`Source`] for each, whoever asks; gives out clones.
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
        if let Some(known) = self
            .by_account
            .get(&settings.account)
            .map(|entry| entry.clone())
            && known.settings.is_same(&settings)
        {
            return Ok(known);
        }
        let source = Arc::new(Source::new(settings, self.vault.clone())?);
        self.by_account
            .insert(source.settings.account.clone(), source.clone());
        Ok(source)
    }
}

impl Settings {
    /// What is asked for, and of whom.
    fn request_digest(&self) -> String {
        digest(&format!(
            "{} {} {}",
            self.token_url,
            self.client_id,
            self.scopes.join(" ")
        ))
    }

    fn is_same(&self, other: &Self) -> bool {
        let exposed =
            |secret: &Option<Secret>| secret.as_ref().map(|s| s.expose_secret().to_owned());
        self.account == other.account
            && self.token_url == other.token_url
            && self.client_id == other.client_id
            && self.scopes == other.scopes
            && self.grant == other.grant
            && self.roots == other.roots
            && exposed(&self.client_secret) == exposed(&other.client_secret)
            && exposed(&self.refresh_token) == exposed(&other.refresh_token)
    }
}

impl Source {
    /// An account whose tokens are kept in `vault`.
    pub fn new(settings: Settings, vault: Arc<Vault>) -> Result<Self, TlsError> {
        let tls = tls::client_config(&settings.roots)?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(REQUEST)
            .build()
            .map_err(|error| TlsError::Roots(error.to_string()))?;
        Ok(Self {
            settings,
            http,
            vault,
            current: ArcSwapOption::empty(),
            renewal: Mutex::default(),
        })
    }

    /// A token that is good for some minutes: the one at hand, or a new one.
    pub async fn get(self: &Arc<Self>) -> Result<Arc<Access>, TokenError> {
        self.at_least(0).await
    }

    /// A token newer than `rejected`, which the upstream did not take.
    pub async fn after_rejection(
        self: &Arc<Self>,
        rejected: &Access,
    ) -> Result<Arc<Access>, TokenError> {
        self.at_least(rejected.generation + 1).await
    }

    async fn at_least(self: &Arc<Self>, generation: u64) -> Result<Arc<Access>, TokenError> {
        if let Some(access) = self.at_hand(generation) {
            return Ok(access);
        }
        // A renewal goes on when its caller does not: the provider may have rotated already.
        let (source, asked) = (self.clone(), Timestamp::now());
        let renewal = tokio::spawn(async move { source.renew(generation, asked).await });
        renewal
            .await
            .unwrap_or_else(|panic| Err(TokenError::Vault(panic.to_string())))
    }

    fn at_hand(&self, generation: u64) -> Option<Arc<Access>> {
        let access = self.current.load_full()?;
        (access.generation >= generation && access.is_fresh(Timestamp::now())).then_some(access)
    }

    /// One at a time; those that waited find the result of the one before.
    async fn renew(&self, generation: u64, asked: Timestamp) -> Result<Arc<Access>, TokenError> {
        let mut renewal = self.renewal.lock().await;
        if renewal.account.is_none() {
            self.recall(&mut renewal).await?;
        }
        if let Some(access) = self.at_hand(generation) {
            return Ok(access);
        }
        if let Some((at, failure)) = &renewal.failure
            && (*at >= asked || asked.since(*at) < FAILURE_HOLDS)
        {
            return self.still_valid(generation).ok_or_else(|| failure.clone());
        }
        match self.ask(&mut renewal).await {
            Ok(access) => {
                renewal.failure = None;
                self.current.store(Some(access.clone()));
                Ok(access)
            }
            Err(failure) => {
                renewal.failure = Some((Timestamp::now(), failure.clone()));
                self.still_valid(generation).ok_or(failure)
            }
        }
    }

    /// A token past its freshness is better than none while the provider is out.
    fn still_valid(&self, generation: u64) -> Option<Arc<Access>> {
        let access = self.current.load_full()?;
        (access.generation >= generation && access.is_valid(Timestamp::now())).then_some(access)
    }

    /// Reads what the vault has, and lets a refresh token that is newly configured win over it.
    async fn recall(&self, renewal: &mut Renewal) -> Result<(), TokenError> {
        let (vault, name) = (self.vault.clone(), self.settings.account.clone());
        let loaded = tokio::task::spawn_blocking(move || vault.load(&name)).await;
        let mut account = match loaded {
            Ok(loaded) => loaded.map_err(|error| TokenError::Vault(error.to_string()))?,
            Err(panic) => return Err(TokenError::Vault(panic.to_string())),
        };
        if let Some(token) = &self.settings.refresh_token {
            let token = Zeroizing::new(token.expose_secret().trim().to_owned());
            let digest = digest(&token);
            account.configure(token, digest);
        }
        let request = self.settings.request_digest();
        if account.request.as_ref() != Some(&request) {
            account.access = None;
            account.request = Some(request);
        }
        if let Some(token) = &account.access {
            renewal.generation += 1;
            self.current.store(Some(Arc::new(Access {
                token: token.as_str().to_owned().into(),
                issued: account.issued,
                expires: account.expires,
                generation: renewal.generation,
            })));
        }
        renewal.account = Some(account);
        Ok(())
    }

    /// Asks the provider, keeps what it gave, and only then hands it out.
    async fn ask(&self, renewal: &mut Renewal) -> Result<Arc<Access>, TokenError> {
        let mut account = renewal.account.clone().unwrap_or_default();
        let (granted, used) = self.request(&account).await?;
        let now = Timestamp::now();
        if let (Some(new), Some(used)) = (granted.refresh, used) {
            account.rotate(used, new);
        }
        account.issued = now;
        account.expires = now.after(granted.expires_in.unwrap_or(state::LIFE_UNSAID));
        account.access = Some(granted.access.clone());
        self.keep(account.clone()).await?;
        renewal.generation += 1;
        let access = Access {
            token: granted.access.as_str().to_owned().into(),
            issued: account.issued,
            expires: account.expires,
            generation: renewal.generation,
        };
        renewal.account = Some(account);
        Ok(Arc::new(access))
    }

    /// With each refresh token that we have, as long as the one before was refused.
    async fn request(
        &self,
        account: &Account,
    ) -> Result<(Granted, Option<Zeroizing<String>>), TokenError> {
        if self.settings.grant == Grant::ClientCredentials {
            return Ok((flow::request(&self.settings, &self.http, None).await?, None));
        }
        let server = self.settings.account.clone();
        let mut failure = TokenError::NoRefreshToken { server };
        for token in account.refresh_tokens() {
            match flow::request(&self.settings, &self.http, Some(token.as_str())).await {
                Ok(granted) => return Ok((granted, Some(token))),
                Err(error @ TokenError::SignIn { .. }) => failure = error,
                Err(other) => return Err(other),
            }
        }
        Err(failure)
    }

    async fn keep(&self, account: Account) -> Result<(), TokenError> {
        let (vault, name) = (self.vault.clone(), self.settings.account.clone());
        let kept = tokio::task::spawn_blocking(move || vault.store(&name, &account)).await;
        match kept {
            Ok(kept) => kept.map_err(|error| TokenError::Vault(error.to_string())),
            Err(panic) => Err(TokenError::Vault(panic.to_string())),
        }
    }
}

/// Tells one text from another without keeping it in clear.
fn digest(text: &str) -> String {
    use base64::Engine;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    base64::prelude::BASE64_STANDARD.encode(digest)
}
