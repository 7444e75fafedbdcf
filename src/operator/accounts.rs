//! The servers' accounts, for a person to connect, inspect and disconnect. The running program does this for
//! the commands; if no program is running, the commands use this module directly.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, oneshot, watch};
use tokio::task::AbortHandle;
use url::Url;

pub(crate) use super::callback::Visit;
use super::callback::{Brought, Callback, Returns};
use super::row::TokenRow;
use crate::base::Secret;
use crate::observe::maillog;
use crate::token::{
    Grant, SignInError, SignInPurpose, SignedIn, Source, Sources, TokenError, VaultError, sign_in,
};

/// The maximum number of simultaneous sign-ins; each may have a socket.
const ATTEMPTS: usize = 32;

/// The maximum time to wait for the browser to fetch its last page.
const PAGE: Duration = Duration::from_secs(2);

/// The maximum time that one progress request waits for the sign-in to end.
const LOOK: Duration = Duration::from_secs(25);

/// The servers' accounts, and the sign-ins under way.
pub struct Accounts {
    sources: Arc<Sources>,
    by_server: ArcSwap<Vec<Named>>,
    attempts: Mutex<HashMap<String, UnderWay>>,
    returns: Arc<Returns>,
    /// Sends the name of a server when somebody has signed in for it.
    connected: broadcast::Sender<String>,
    /// The page's external URL, if it has one.
    page: Option<Url>,
}

/// A sign-in under way: its progress, and the task that waits for the person.
struct UnderWay {
    seen: watch::Receiver<SignInProgress>,
    waiting: Option<AbortHandle>,
}

/// A server, with its account if it has one.
pub(crate) type Named = (String, Option<Arc<Source>>);

/// How to sign in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignInWay {
    /// As the server's `grant` says.
    #[default]
    Usual,
    /// A sign-in on another device.
    Device,
}

/// The options of a sign-in to begin.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct SignInOptions {
    /// How to sign in.
    pub way: SignInWay,
    /// True if an account other than the server's may sign in.
    pub anybody: bool,
}

/// A sign-in that has begun, with instructions for the person.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SignInAttempt {
    /// The sign-in's id, to ask for its progress.
    pub id: String,
    /// The URL to open.
    pub url: Url,
    /// True if a browser on any machine will do.
    pub anywhere: bool,
    /// The code to type at that URL, for a sign-in on another device.
    pub user_code: Option<String>,
    /// The user who has to sign in, if the configuration names one.
    pub user: Option<String>,
}

/// The progress of a sign-in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignInProgress {
    /// The person has not finished signing in.
    Waiting,
    /// The sign-in succeeded, as this user if the provider named one.
    Done(Option<String>),
    /// The sign-in failed, for this reason.
    Failed(String),
}

/// The result of a disconnect.
#[derive(Debug, Serialize, Deserialize)]
pub struct Disconnected {
    /// True if there were any tokens.
    pub had_tokens: bool,
    /// The servers that share the account.
    pub servers: Vec<String>,
}

/// The reason why a request about accounts failed.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// The server does not exist.
    #[error("there is no server named {name}; the servers are: {known}")]
    NoServer {
        /// The requested name.
        name: String,
        /// The existing servers.
        known: String,
    },
    /// The server needs no sign-in.
    #[error("server {0} needs no sign-in; check it with `mailferry test {0}`")]
    NobodyToSignIn(String),
    /// The provider has no endpoint of this kind.
    #[error("the provider of server {0} is configured without {1}; add it to its [oauth] table")]
    NoEndpoint(String, &'static str),
    /// The browser would have nowhere to return to.
    #[error(
        "after the sign-in the browser goes to {0}, the page of `mailferry serve`; start `mailferry serve` first, or use `--device`"
    )]
    NoPage(Url),
    /// The port for the browser's return is not available.
    #[error(
        "cannot listen for the browser at {url}: {source}; set another port in `redirect` of the server's [oauth] table, or 0 for any free port"
    )]
    Listen {
        /// The address.
        url: Url,
        /// The reason.
        source: std::io::Error,
    },
    /// Too many sign-ins are under way.
    #[error("too many sign-ins are under way; finish or cancel one, or wait {} minutes", sign_in::TIME.as_secs() / 60)]
    TooMany,
    /// The sign-in ended long ago, or never existed.
    #[error("there is no such sign-in; start again")]
    NoAttempt,
    /// An error of the provider or of the stored tokens.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// An error of the vault.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

impl Accounts {
    /// Creates the accounts of these servers; a server may have no account. `page` is the page's external
    /// URL, if it has one.
    pub fn new(sources: Arc<Sources>, servers: Vec<Named>, page: Option<Url>) -> Self {
        Self {
            sources,
            by_server: ArcSwap::from_pointee(servers),
            attempts: Mutex::default(),
            returns: Arc::default(),
            connected: broadcast::Sender::new(ATTEMPTS),
            page,
        }
    }

    /// Returns a receiver that gets the name of a server each time somebody signs in for it.
    pub fn connected(&self) -> broadcast::Receiver<String> {
        self.connected.subscribe()
    }

    /// Replaces the servers; sign-ins under way continue.
    pub fn reconfigure(&self, servers: Vec<Named>) {
        self.by_server.store(Arc::new(servers));
    }

    /// Begins a sign-in for a server.
    pub async fn connect(
        &self,
        server: &str,
        wish: SignInOptions,
    ) -> Result<SignInAttempt, AccountsError> {
        let source = self.source(server)?;
        let grant = source.settings().grant;
        if !grant.is_by_user() {
            return Err(AccountsError::NobodyToSignIn(server.to_owned()));
        }
        // Check the vault now: otherwise its errors would appear only after the person has signed in.
        source.status().await?;
        let by_device = wish.way == SignInWay::Device || grant == Grant::DeviceCode;
        let id = format!("{:016x}", rand::random::<u64>());
        let (progress, seen) = watch::channel(SignInProgress::Waiting);
        self.enter(&id, seen)?;
        let begun = if by_device {
            self.by_device(server, source, wish, &id, progress).await
        } else {
            self.by_browser(server, source, wish, &id, progress).await
        };
        if begun.is_err() {
            self.attempts().remove(&id);
        }
        begun
    }

    async fn by_browser(
        &self,
        server: &str,
        source: Arc<Source>,
        wish: SignInOptions,
        id: &str,
        progress: watch::Sender<SignInProgress>,
    ) -> Result<SignInAttempt, AccountsError> {
        let callback = self.callback(&source.settings().redirect).await?;
        let redirect = match &callback {
            Some(callback) => callback.redirect().clone(),
            None => source.settings().redirect.clone(),
        };
        let missing = || AccountsError::NoEndpoint(server.to_owned(), "authorize_url");
        let begun = source.begin(redirect.clone()).ok_or_else(missing)?;
        let attempt = SignInAttempt {
            id: id.to_owned(),
            url: begun.url.clone(),
            anywhere: callback.is_none(),
            user_code: None,
            user: source.settings().user.clone(),
        };
        let mut back = self.returns.expect(&begun.state, &redirect);
        let (end, ended) = oneshot::channel::<()>();
        let ended = async {
            let _ = ended.await;
        };
        let page = callback.map(|callback| callback.serve(self.returns.clone(), ended));
        let (server, connected) = (server.to_owned(), self.connected.clone());
        let waiting = tokio::spawn(async move {
            let result = match tokio::time::timeout(sign_in::TIME, &mut back.brought).await {
                Ok(Ok(Brought::Code(code))) => {
                    let name = server.clone();
                    let finishing = async move {
                        let who = SignInPurpose {
                            server: &name,
                            anybody: wish.anybody,
                        };
                        source.finish(begun, &code, who).await
                    };
                    whole(finishing).await
                }
                Ok(Ok(Brought::Refusal(words))) => Err(SignInError::Refused(words)),
                Ok(Err(_)) | Err(_) => Err(SignInError::TooLate),
            };
            back.tell(match &result {
                Ok(SignedIn { user: Some(user) }) => {
                    Ok(format!("Connected: {user} has signed in."))
                }
                Ok(SignedIn { user: None }) => Ok("Connected.".to_owned()),
                Err(error) => Err(format!("Not connected: {error}")),
            });
            drop((back, end));
            if let Some(page) = page {
                // A waiting command exits as soon as it receives the result, so let the browser fetch its
                // page before that.
                let _ = tokio::time::timeout(PAGE, page).await;
            }
            let _ = progress.send(ended_as(&server, result, &connected));
        });
        self.wait_by(id, waiting.abort_handle());
        Ok(attempt)
    }

    /// Opens a port on loopback for the browser to return to. Returns `None` if the browser returns to the
    /// page instead.
    async fn callback(&self, redirect: &Url) -> Result<Option<Callback>, AccountsError> {
        if redirect.scheme() == "https" {
            let is_ours = |page: &Url| page.origin() == redirect.origin();
            let page = self.page.as_ref().filter(|page| is_ours(page));
            let missing = || AccountsError::NoPage(redirect.clone());
            return page.map(|_| None).ok_or_else(missing);
        }
        let bound = Callback::bind(redirect).await;
        let url = redirect.clone();
        let bound = bound.map_err(|source| AccountsError::Listen { url, source })?;
        Ok(Some(bound))
    }

    /// Handles a browser that has returned to the page. Returns the result of its visit and the text for
    /// the person.
    pub async fn come_back(&self, path: &str, query: &HashMap<String, String>) -> (Visit, String) {
        self.returns.come_back(path, query).await
    }

    async fn by_device(
        &self,
        server: &str,
        source: Arc<Source>,
        wish: SignInOptions,
        id: &str,
        progress: watch::Sender<SignInProgress>,
    ) -> Result<SignInAttempt, AccountsError> {
        let missing = || AccountsError::NoEndpoint(server.to_owned(), "device_url");
        let code = source.begin_device().await?.ok_or_else(missing)?;
        let attempt = SignInAttempt {
            id: id.to_owned(),
            url: code.url.clone(),
            anywhere: true,
            user_code: Some(code.user_code.clone()),
            user: source.settings().user.clone(),
        };
        let (server, connected) = (server.to_owned(), self.connected.clone());
        let waiting = tokio::spawn(async move {
            let who = SignInPurpose {
                server: &server,
                anybody: wish.anybody,
            };
            let result = source.finish_device(&code, who).await;
            let _ = progress.send(ended_as(&server, result, &connected));
        });
        self.wait_by(id, waiting.abort_handle());
        Ok(attempt)
    }

    fn wait_by(&self, id: &str, waiting: AbortHandle) {
        if let Some(attempt) = self.attempts().get_mut(id) {
            attempt.waiting = Some(waiting);
        }
    }

    /// Stops waiting for the person. A sign-in at the URL of this attempt is refused from now on.
    pub fn cancel(&self, id: &str) {
        let attempt = self.attempts().remove(id);
        if let Some(waiting) = attempt.and_then(|attempt| attempt.waiting) {
            waiting.abort();
        }
    }

    /// Returns the progress of a sign-in, after waiting a while for its end.
    pub async fn progress(&self, id: &str) -> Result<SignInProgress, AccountsError> {
        let found = self.attempts().get(id).map(|attempt| attempt.seen.clone());
        let mut seen = found.ok_or(AccountsError::NoAttempt)?;
        let is_over = |progress: &SignInProgress| !matches!(progress, SignInProgress::Waiting);
        let over = tokio::time::timeout(LOOK, seen.wait_for(is_over)).await;
        let progress = match over {
            Ok(Ok(progress)) => progress.clone(),
            Ok(Err(_)) => SignInProgress::Failed("the sign-in was interrupted".into()),
            Err(_) => SignInProgress::Waiting,
        };
        if is_over(&progress) {
            self.attempts().remove(id);
        }
        Ok(progress)
    }

    /// Returns the present progress of a sign-in.
    pub fn look(&self, id: &str) -> SignInProgress {
        let attempts = self.attempts();
        let seen = attempts
            .get(id)
            .map(|attempt| attempt.seen.borrow().clone());
        seen.unwrap_or_else(|| SignInProgress::Failed("the sign-in has ended".into()))
    }

    /// Returns the state of each server's tokens, in the order of the servers.
    pub async fn tokens(&self) -> Vec<TokenRow> {
        let servers = self.by_server.load_full();
        let mut rows = Vec::new();
        for (server, source) in servers.iter() {
            rows.push(TokenRow::of(server, source.as_deref()).await);
        }
        rows
    }

    /// Returns the accounts that have stored tokens but are used by no server.
    pub async fn unused(&self) -> Result<Vec<String>, AccountsError> {
        Ok(self.sources.unused().await?)
    }

    /// Forgets the tokens of accounts that no server uses. Returns these accounts.
    pub async fn forget_unused(&self) -> Result<Vec<String>, AccountsError> {
        Ok(self.sources.forget_unused().await?)
    }

    /// Forgets the tokens of a server's account.
    pub async fn disconnect(&self, server: &str) -> Result<Disconnected, AccountsError> {
        let source = self.source(server)?;
        let shares = |other: &&Named| {
            let other = other.1.as_ref();
            other.is_some_and(|other| other.settings().account == source.settings().account)
        };
        let servers = self.by_server.load();
        let servers = servers
            .iter()
            .filter(shares)
            .map(|(name, _)| name.clone())
            .collect();
        // The task finishes even if the caller is cancelled, so that the stored tokens and the tokens in
        // memory agree.
        let done = tokio::spawn(async move { source.disconnect().await });
        let broken = |panic: tokio::task::JoinError| TokenError::Vault(panic.to_string());
        let had_tokens = done.await.map_err(broken)??;
        maillog::disconnected(server);
        Ok(Disconnected {
            had_tokens,
            servers,
        })
    }

    /// Encrypts the vault with a different key. Returns the number of accounts in it.
    pub async fn rotate_vault(&self, key: Option<Secret>) -> Result<usize, AccountsError> {
        let count = self.sources.rotate_vault(key).await?;
        maillog::vault_rotated(count);
        Ok(count)
    }

    fn source(&self, server: &str) -> Result<Arc<Source>, AccountsError> {
        let servers = self.by_server.load();
        let found = servers.iter().find(|(name, _)| name == server);
        let (_, source) = found.ok_or_else(|| {
            let known: Vec<&str> = servers.iter().map(|(name, _)| name.as_str()).collect();
            AccountsError::NoServer {
                name: server.to_owned(),
                known: known.join(", "),
            }
        })?;
        let nobody = || AccountsError::NobodyToSignIn(server.to_owned());
        source.clone().ok_or_else(nobody)
    }

    /// Adds a sign-in, and removes sign-ins that have ended without anybody asking for their result.
    fn enter(&self, id: &str, seen: watch::Receiver<SignInProgress>) -> Result<(), AccountsError> {
        let mut attempts = self.attempts();
        attempts.retain(|_, it| matches!(*it.seen.borrow(), SignInProgress::Waiting));
        if attempts.len() >= ATTEMPTS {
            return Err(AccountsError::TooMany);
        }
        let waiting = None;
        attempts.insert(id.to_owned(), UnderWay { seen, waiting });
        Ok(())
    }

    fn attempts(&self) -> std::sync::MutexGuard<'_, HashMap<String, UnderWay>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finishes a sign-in even if the caller is cancelled, so that the provider's answer is either stored
/// completely or refused.
async fn whole(
    finishing: impl Future<Output = Result<SignedIn, SignInError>> + Send + 'static,
) -> Result<SignedIn, SignInError> {
    let broken = |panic: tokio::task::JoinError| TokenError::Vault(panic.to_string());
    tokio::spawn(finishing).await.map_err(broken)?
}

fn ended_as(
    server: &str,
    result: Result<SignedIn, SignInError>,
    connected: &broadcast::Sender<String>,
) -> SignInProgress {
    match result {
        Ok(SignedIn { user }) => {
            maillog::signed_in(server, user.as_deref().unwrap_or_default());
            // There is no receiver if a command signs in while `serve` is not running.
            let _ = connected.send(server.to_owned());
            SignInProgress::Done(user)
        }
        Err(error) => {
            maillog::sign_in_failed(server, &error);
            SignInProgress::Failed(error.to_string())
        }
    }
}
