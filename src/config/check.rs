//! From the text to the settings: everything that can be wrong before anything is started.

mod oauth;
mod server;

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use toml::Spanned;
use url::Url;

use super::problem::{self, ConfigError, Problem};
use super::secret::SecretText;
use super::text::{self, BareNewlines, OnUncertain};
use super::{Config, Secrets};
use crate::admin::web;
use crate::base::secret::ExposeSecret;
use crate::base::{Secret, tls};
use crate::delivery::{BackOff, Schedule, Uncertain};
use crate::listener::users::is_hash;
use crate::listener::{Endpoint, User};
use crate::message::{Address, address};
use crate::routing::{Policy, ServerRule, UserRule};
use crate::{session, spool, token};

/// Checks a configuration's text. `env` looks a variable up.
pub fn check(
    path: &Path,
    text: &str,
    secrets: Secrets,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, ConfigError> {
    let wrong = |problems| ConfigError::Wrong {
        path: path.display().to_string(),
        problems,
    };
    let file: text::File =
        toml::from_str(text).map_err(|error| wrong(vec![problem::of_toml(text, &error)]))?;
    let mut checker = Checker {
        path,
        text,
        secrets,
        env,
        problems: Vec::new(),
        warnings: Vec::new(),
        tls: HashMap::new(),
        accounts: HashMap::new(),
        page: None,
    };
    let config = checker.config(file);
    match checker.problems.is_empty() {
        true => Ok(config),
        false => {
            checker.problems.sort_by_key(|problem| problem.line);
            Err(wrong(checker.problems))
        }
    }
}

/// Collects what is wrong while it builds.
struct Checker<'a> {
    path: &'a Path,
    text: &'a str,
    secrets: Secrets,
    env: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
    /// By the roots besides the system's, which take milliseconds to read: a thousand servers share.
    tls: HashMap<Vec<CertificateDer<'static>>, Arc<ClientConfig>>,
    /// By the account's name; see `shared`.
    accounts: HashMap<String, token::Settings>,
    /// Where the page is reached from outside.
    page: Option<Url>,
}

impl Checker<'_> {
    fn problem(&mut self, span: Range<usize>, key: &str, text: impl ToString) {
        let line = problem::line_of(self.text, &span);
        self.problems.push(Problem {
            line,
            key: key.to_owned(),
            text: text.to_string(),
        });
    }

    /// The value, or none and a problem.
    fn ok<T, E: ToString>(
        &mut self,
        result: Result<T, E>,
        span: Range<usize>,
        key: &str,
    ) -> Option<T> {
        result.map_err(|error| self.problem(span, key, error)).ok()
    }

    fn secret(&mut self, secret: &Option<Spanned<SecretText>>, key: &str) -> Option<Secret> {
        let secret = secret.as_ref()?;
        if self.secrets == Secrets::Left {
            return Some(String::new().into());
        }
        let resolved = secret.get_ref().resolve(self.path, self.env);
        self.ok(resolved, secret.span(), key)
    }

    /// The client's side of TLS that trusts these roots besides the system's.
    fn client_config(
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

    /// A path as written, beside the configuration file where it is relative.
    fn beside(&self, file: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(file)
    }

    fn config(&mut self, file: text::File) -> Config {
        let page = file.web.as_ref().and_then(|web| web.external_url.as_ref());
        self.page = page.map(|url| url.get_ref().clone());
        let host = self.host(&file.host);
        let data_dir = self.data_dir(&file.data_dir);
        let endpoints = file
            .listener
            .iter()
            .filter_map(|listener| self.endpoint(listener))
            .collect::<Vec<_>>();
        if file.listener.is_empty() {
            self.problem(
                0..0,
                "[[listener]]",
                "there is none; add one with address = \"127.0.0.1:2525\"",
            );
        }
        let (servers, rules, direct) = self.servers(&file, &host);
        let users = self.users(&file.user, &rules);
        let policy = self.policy(&file, rules);
        let limits = &file.limits;
        let session = session::Settings {
            host: host.clone(),
            message_size: limits.message_size,
            recipients: limits.recipients,
            commands: limits.commands,
            errors: limits.errors,
            reject_bare_newlines: limits.bare_newlines == BareNewlines::Reject,
            offers_auth: users.iter().any(|user| user.hash.is_some()),
        };
        let waits: Vec<_> = file
            .delivery
            .retry
            .get_ref()
            .iter()
            .map(|wait| wait.0)
            .collect();
        if waits.is_empty() {
            self.problem(
                file.delivery.retry.span(),
                "[delivery] retry",
                "it is empty; write waits, such as [\"1m\", \"1h\"]",
            );
        }
        if waits.iter().any(Duration::is_zero) {
            self.problem(
                file.delivery.retry.span(),
                "[delivery] retry",
                "a wait of nothing would try again without a pause; write \"1s\" or more",
            );
        }
        self.times(&file.delivery);
        Config {
            path: self.path.to_owned(),
            log: (file.log.format, file.log.level),
            endpoints,
            web: self.web(&file.web),
            session: Arc::new(session),
            idle_time: limits.idle_time.0,
            session_time: limits.session_time.0,
            sessions: limits.sessions,
            users,
            policy,
            servers,
            direct,
            back_off: {
                let [first, longest] = &file.delivery.back_off;
                BackOff {
                    first: first.0,
                    longest: longest.0.max(first.0),
                }
            },
            schedule: Schedule {
                waits,
                expires_after: file.delivery.expire_after.0,
            },
            uncertain: match file.delivery.uncertain {
                OnUncertain::Retry => Uncertain::Retry(file.delivery.uncertain_pause.0),
                OnUncertain::Hold => Uncertain::Hold,
            },
            warn_after: Some(file.delivery.warn_after.0).filter(|after| !after.is_zero()),
            reports_per_hour: file.delivery.reports_per_hour,
            grace: file.delivery.grace.0,
            spool: spool::sqlite::Settings {
                folder: data_dir.join("spool"),
                reserve: file.spool.reserve,
                history: file.spool.history.0,
            },
            data_dir,
            vault_key: self.vault_key(&file.vault_key),
            host,
            warnings: std::mem::take(&mut self.warnings),
        }
    }

    /// Times that are allowed each by itself, and not meant together.
    fn times(&mut self, delivery: &text::Delivery) {
        let [first, longest] = delivery.back_off;
        let (expires, warns) = (delivery.expire_after.0, delivery.warn_after.0);
        let odd = [
            (
                longest.0 < first.0,
                "[delivery] back_off: the longest is shorter than the first, which holds; write the shorter one first",
            ),
            (
                expires.is_zero(),
                "[delivery] expire_after: it is nothing, so what is not delivered at once is given up",
            ),
            (
                warns >= expires && !expires.is_zero(),
                "[delivery] warn_after: messages are given up before it (expire_after), so nobody is warned",
            ),
        ];
        let odd = odd.into_iter().filter(|(is_odd, _)| *is_odd);
        self.warnings.extend(odd.map(|(_, words)| words.to_owned()));
    }

    fn host(&mut self, host: &Option<Spanned<String>>) -> String {
        match host {
            Some(host) => {
                let normal = address::normal_domain(host.get_ref());
                let bad = "it is not a host name; write one such as relay.example.com";
                self.ok(normal.ok_or(bad), host.span(), "host")
                    .unwrap_or_default()
            }
            None => {
                let name = rustix::system::uname()
                    .nodename()
                    .to_string_lossy()
                    .into_owned();
                address::normal_domain(&name).unwrap_or_else(|| "localhost".into())
            }
        }
    }

    /// As written; else systemd's, else a folder beside the configuration.
    fn data_dir(&self, written: &Option<String>) -> PathBuf {
        match (written, (self.env)("STATE_DIRECTORY")) {
            (Some(folder), _) => self.beside(folder),
            (None, Some(folder)) => PathBuf::from(folder),
            (None, None) => self.beside("mailferry-data"),
        }
    }

    fn endpoint(&mut self, listener: &text::Listener) -> Option<Endpoint> {
        let address = *listener.address.get_ref();
        let tls = match (&listener.certificate, &listener.key) {
            (Some(chain), Some(key)) => {
                let files = (self.beside(chain.get_ref()), self.beside(key.get_ref()));
                let config = tls::server_config(&files.0, &files.1);
                Some(Arc::new(self.ok(
                    config,
                    chain.span(),
                    "[[listener]] certificate",
                )?))
            }
            (None, None) => None,
            (Some(only), None) => {
                self.problem(
                    only.span(),
                    "[[listener]] certificate",
                    "a certificate needs its key; add key = \"FILE\"",
                );
                None
            }
            (None, Some(only)) => {
                self.problem(
                    only.span(),
                    "[[listener]] key",
                    "a key needs its certificate; add certificate = \"FILE\"",
                );
                None
            }
        };
        let plaintext = address.ip().is_loopback() || listener.allow_plaintext;
        if tls.is_none() && listener.certificate.is_none() && !plaintext {
            self.problem(
                listener.address.span(),
                "[[listener]] address",
                format!(
                    "{address} is not on loopback and has no TLS, so passwords would cross the network in clear; \
                     add certificate and key, or say allow_plaintext = true"
                ),
            );
        }
        Some(Endpoint {
            address,
            tls,
            plaintext,
            priority: listener.priority,
        })
    }

    fn vault_key(&mut self, text: &Option<Spanned<SecretText>>) -> Option<Secret> {
        let key = self.secret(text, "vault_key")?;
        if self.secrets == Secrets::Read {
            let span = text.as_ref()?.span();
            self.ok(token::vault::check_key(&key), span, "vault_key")?;
        }
        Some(key)
    }

    fn web(&mut self, web: &Option<text::Web>) -> Option<web::Settings> {
        let web = web.as_ref()?;
        let address = *web.address.get_ref();
        if !address.ip().is_loopback() {
            let text = format!(
                "{address} is not on loopback, and the page has no TLS; write 127.0.0.1:PORT, and put a proxy with TLS before it (external_url)"
            );
            self.problem(web.address.span(), "[web] address", text);
        }
        let external_url = web.external_url.as_ref().map(|url| {
            if url.get_ref().scheme() != "https" {
                let text = "the page would cross the network in clear; write an https:// address";
                self.problem(url.span(), "[web] external_url", text);
            }
            if url.get_ref().path() != "/" {
                let text = "the page has a name of its own, and no path; write https://HOST";
                self.problem(url.span(), "[web] external_url", text);
            }
            url.get_ref().clone()
        });
        Some(web::Settings {
            address,
            external_url,
        })
    }

    fn users(&mut self, users: &[text::User], rules: &[ServerRule]) -> Vec<User> {
        let mut seen = HashSet::new();
        let mut built = Vec::new();
        if users.is_empty() {
            self.problem(
                0..0,
                "[[user]]",
                "there is none, so nobody could send; add one with name and password",
            );
        }
        for user in users {
            let (name, span) = (user.name.get_ref(), user.name.span());
            let key = format!("[[user]] {name:?}");
            if !seen.insert(name.as_str()) {
                self.problem(
                    span.clone(),
                    &key,
                    "there are two users of this name; rename one",
                );
            }
            if user.password.is_none() && user.networks.is_empty() {
                self.problem(
                    span,
                    &key,
                    "nothing admits this user; add a password, or networks",
                );
            }
            if let (Some(pin), Some(_)) = (&user.server, &user.servers) {
                self.problem(
                    pin.span(),
                    &format!("{key} server"),
                    "a user pinned to a server cannot have servers as well; remove one of the keys",
                );
            }
            let named = user.server.iter().map(|name| (name, "server"));
            let named = named.chain(user.servers.iter().flatten().map(|name| (name, "servers")));
            for (server, which) in named {
                if !rules.iter().any(|rule| rule.name == *server.get_ref()) {
                    let known: Vec<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
                    let text = format!(
                        "there is no [[server]] named {:?}; the servers are: {}",
                        server.get_ref(),
                        known.join(", ")
                    );
                    self.problem(server.span(), &format!("{key} {which}"), text);
                }
            }
            let key = format!("{key} password");
            let hash = self.secret(&user.password, &key);
            if let (Some(hash), Some(written)) = (&hash, &user.password)
                && self.secrets == Secrets::Read
                && !is_hash(hash.expose_secret())
            {
                self.problem(
                    written.span(),
                    &key,
                    "it is not an argon2 hash; make one with `mailferry hash-password`",
                );
            }
            built.push(User {
                name: name.clone(),
                hash,
                networks: user.networks.clone(),
                priority: user.priority,
            });
        }
        built
    }

    fn policy(&mut self, file: &text::File, servers: Vec<ServerRule>) -> Policy {
        let sender = &file.sender;
        let keys = sender.keys.get_ref().clone();
        let unique: HashSet<_> = keys.iter().map(|key| format!("{key:?}")).collect();
        if keys.is_empty() || unique.len() != keys.len() {
            self.problem(
                sender.keys.span(),
                "[sender] match",
                "write \"envelope\", \"header\" or both, each once",
            );
        }
        let default_from = self.default_from(sender);
        if let Some(from) = &default_from
            && !servers.iter().any(|rule| {
                rule.filter
                    .as_ref()
                    .is_none_or(|filter| filter.admits(from))
            })
        {
            self.warnings.push(format!("[sender] default_from: no server's from_filter admits {from}, so it is never used; add it to one"));
        }
        let rule = |user: &text::User| {
            let servers = user.servers.as_ref();
            let rule = UserRule {
                pinned: user.server.as_ref().map(|name| name.get_ref().clone()),
                servers: servers
                    .map(|names| names.iter().map(|name| name.get_ref().clone()).collect()),
            };
            (user.name.get_ref().clone(), rule)
        };
        Policy {
            servers,
            default_from,
            keys,
            last_resort: sender.last_resort,
            on_mismatch: sender.on_mismatch,
            null_sender: sender.null_sender,
            reply_to: sender.reply_to,
            users: file.user.iter().map(rule).collect::<HashMap<_, _>>(),
        }
    }

    /// With `@` an address; else a local part at the catch-all domain; else none.
    fn default_from(&mut self, sender: &text::Sender) -> Option<Address> {
        let from = sender
            .default_from
            .as_ref()
            .filter(|from| !from.get_ref().is_empty())?;
        let domain = sender
            .catchall_domain
            .as_ref()
            .filter(|domain| !domain.get_ref().is_empty());
        let text = match (from.get_ref().contains('@'), domain) {
            (true, _) => from.get_ref().clone(),
            (false, Some(domain)) => format!("{}@{}", from.get_ref(), domain.get_ref()),
            (false, None) => {
                self.warnings.push("[sender] default_from: it has no domain and there is no catchall_domain, so there is no default from; add one".into());
                return None;
            }
        };
        self.ok(Address::parse(&text), from.span(), "[sender] default_from")
    }
}
