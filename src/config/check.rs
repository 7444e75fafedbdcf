//! Builds the settings from the text, and finds mistakes in the text before the program starts.

mod alert;
mod checker;
mod doubtful;
mod listener;
mod oauth;
mod oidc;
mod server;
mod user;
mod web;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use toml::Spanned;

use super::problem::{self, ConfigError, Problem};
use super::secret::SecretText;
use super::text;
use super::{Config, Fixed, ListenerConfig, Live, Secrets, ServerConfig};
use crate::alerts::AlertSettings;
use crate::base::Secret;
use crate::base::secret::ExposeSecret;
use crate::door::{self, Socket};
use crate::message::{Address, address};
use crate::observe::logging;
use crate::operator::ControlSettings;
use crate::platform::{self, identity};
use crate::routing::{ListenerRule, Policy, ServerRule, UserRule};
use crate::spool::SpoolSettings;
use crate::spool::postgres::PostgresSettings;
use crate::token;
use crate::transport::RemoteHost;
use checker::Checker;

/// The keys `default_from` and `catchall_domain` of a table.
type SenderKeys<'t> = (&'t Option<Spanned<String>>, &'t Option<Spanned<String>>);

/// Checks a configuration's text. `env` looks up an environment variable.
pub(crate) fn check(
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
        missing: HashSet::new(),
    };
    let config = checker.config(file);
    if checker.problems.is_empty() {
        Ok(config)
    } else {
        let mut problems = checker.problems;
        problems.sort_by(|one, other| {
            let parts = |it: &Problem| (it.line, it.key.clone(), it.text.clone());
            parts(one).cmp(&parts(other))
        });
        problems.dedup();
        Err(wrong(problems))
    }
}

/// The folder of the spool, in `data_dir`.
pub(super) const SPOOL: &str = "spool";

/// Returns the configured folder; otherwise systemd's StateDirectory; otherwise a folder beside the
/// configuration. A relative path starts at the configuration's folder.
pub(super) fn data_dir(path: &Path, written: Option<&str>, state: Option<String>) -> PathBuf {
    let beside = |folder: &str| path.parent().unwrap_or(Path::new("")).join(folder);
    match (written, state) {
        (Some(folder), _) => beside(folder),
        (None, Some(folder)) => PathBuf::from(folder),
        (None, None) => beside("mailferry-data"),
    }
}

impl Checker<'_> {
    fn config(&mut self, file: text::File) -> Config {
        let page = file.web.as_ref().and_then(|web| web.external_url.as_ref());
        self.page = page.map(|url| url.get_ref().clone());
        self.level(&file.log.level);
        let host = self.host(&file.host);
        let data_dir = self.data_dir(&file.data_dir);
        let (servers, rules, direct) = self.servers(&file, &host);
        let users = self.users(&file.user, &rules, &file.server);
        let listeners = self.listeners(&file, &users, &rules, &host);
        self.circles(&servers, &listeners, &host);
        self.doubtful(&file, &servers, &rules);
        let (alerts, alert_host) = (self.alerts(&file, &rules), host.clone());
        let policy = self.policy(&file, rules, &listeners);
        self.warnings
            .extend(file.delivery.doubts().map(str::to_owned));
        let (people, oidc) = (self.people(&file.web), self.oidc(&file.web));
        for name in &file.log.debug_users {
            if !users.iter().any(|user| user.name == *name) {
                self.warnings.push(format!(
                    "[log] debug_users: there is no [[user]] named {name:?}, so no dialogue is logged for it"
                ));
            }
        }
        let dialogues = door::Dialogues {
            peers: file.log.debug_peers.iter().map(|it| it.0).collect(),
            users: file.log.debug_users,
        };
        let fixed = Fixed {
            vault_key: self.vault_key(&file.vault_key),
            run_as: file.run_as.map(Spanned::into_inner),
            log: logging::LogSettings {
                format: file.log.format,
                level: file.log.level.into_inner(),
            },
            privacy: logging::LogPrivacy {
                mask_addresses: file.privacy.mask_addresses,
            },
            web: self.web(&file.web),
            control: self.control(file.control, &data_dir.join(SPOOL)),
            spool: self.spool(file.spool, data_dir.join(SPOOL), file.vault_key.is_some()),
            data_dir,
        };
        let live = Live {
            host,
            received: file.privacy.received,
            listeners,
            limits: file.limits,
            users,
            policy,
            servers,
            direct,
            delivery: file.delivery,
            dialogues,
            people,
            oidc,
            alerts: AlertSettings {
                thresholds: file.alerts,
                channels: alerts,
                host: alert_host,
            },
        };
        Config {
            path: self.path.to_owned(),
            fixed,
            live,
            warnings: std::mem::take(&mut self.warnings),
        }
    }

    fn control(&mut self, table: text::ControlTable, spool: &Path) -> ControlSettings {
        let mut settings = ControlSettings::beside(spool);
        if let Some(socket) = table.socket {
            settings.socket = self.beside(socket.get_ref());
        }
        if let Some(group) = table.group {
            if !platform::control::is_group(group.get_ref()) {
                let text = "this machine has no such group; make it with groupadd, or name another";
                self.problem(group.span(), "[control] group", text);
            }
            settings.group = Some(group.into_inner());
        }
        settings.access = table.access;
        settings
    }

    fn spool(&mut self, table: text::SpoolTable, folder: PathBuf, has_key: bool) -> SpoolSettings {
        if let (Some(database), false) = (&table.postgresql, has_key) {
            let text = "nodes that share a database need the same key for their tokens: make one with `mailferry vault new-key`, and write vault_key = { file = \"...\" } on each node";
            self.problem(database.span(), "[spool] postgresql", text);
        }
        let database = table.postgresql.and_then(|it| self.database(it));
        SpoolSettings {
            folder,
            reserve: table.reserve,
            history: table.history,
            postgresql: database,
        }
    }

    fn database(&mut self, table: Spanned<text::PostgresTable>) -> Option<PostgresSettings> {
        let (key, span) = ("[spool] postgresql", table.span());
        let table = table.into_inner();
        let settings = PostgresSettings {
            url: table.url,
            password: self.secret(&table.password, key),
            ca: table.ca.map(|file| self.beside(file.get_ref())),
        };
        self.ok(settings.check(), span, key)?;
        Some(settings)
    }

    fn level(&mut self, level: &Spanned<String>) {
        let read = logging::levels(level.get_ref());
        let bad = "this is not a log level; write \"error\", \"warn\", \"info\" or \"debug\", and optionally a level for a single part, such as \"info,mail=debug\"";
        self.ok(read.ok_or(bad), level.span(), "[log] level");
    }

    fn host(&mut self, host: &Option<Spanned<String>>) -> String {
        match host {
            Some(host) => {
                let normal = address::normal_domain(host.get_ref());
                let bad = "it is not a host name; write one such as relay.example.com";
                let host = self.ok(normal.ok_or(bad), host.span(), "host");
                self.checked_host(host.unwrap_or_default())
            }
            None => {
                let name = identity::host_name();
                let name = address::normal_domain(&name).unwrap_or_else(|| "localhost".into());
                self.checked_host(name)
            }
        }
    }

    /// Warns of an EHLO name that is not a host name (RFC 1123 §2.1), such as a name with underscores,
    /// because some servers refuse such names.
    fn checked_host(&mut self, host: String) -> String {
        let is_label = |label: &str| {
            let is_plain = label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-');
            is_plain && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
        };
        let is_literal = host.starts_with('[');
        if !host.is_empty() && !is_literal && !host.split('.').all(is_label) {
            self.warnings.push(format!(
                "host: Exchange Online refuses the name {host} in EHLO, because a host name contains only letters, digits, dashes and dots; \
                 set `host` at the top of the file to a name such as relay.example.com"
            ));
        }
        host
    }

    /// Warns of a server whose host and port are one of our own listeners, because mail would loop.
    fn circles(&mut self, servers: &[ServerConfig], listeners: &[ListenerConfig], own: &str) {
        for server in servers {
            let hosts = server.smtp.as_ref().map(|smtp| &smtp.remote);
            for remote in hosts.into_iter().chain(&server.imap).chain(&server.pop3) {
                self.circle(server, remote, listeners, own);
            }
        }
    }

    fn circle(
        &mut self,
        server: &ServerConfig,
        remote: &RemoteHost,
        listeners: &[ListenerConfig],
        own: &str,
    ) {
        let (host, port) = (remote.host.as_str(), remote.port);
        let ip: Option<IpAddr> = host.parse().ok();
        let is_local = host == "localhost" || ip.is_some_and(|ip| ip.is_loopback());
        let is_here = |address: &SocketAddr| {
            let is_ours = is_local || host == own || ip == Some(address.ip());
            address.port() == port && is_ours
        };
        let listener = listeners.iter().find(|it| match &it.endpoint.socket {
            Socket::Address { address, .. } => is_here(address),
            Socket::Systemd(_) | Socket::Path { .. } => false,
        });
        if let Some(listener) = listener {
            self.warnings.push(format!(
                "[[server]] {:?}: {host}:{port} is the listener {:?} of this configuration, so mail would loop; write the \
                 host and port of another server",
                server.name, listener.endpoint.name
            ));
        }
    }

    fn data_dir(&self, written: &Option<String>) -> PathBuf {
        data_dir(self.path, written.as_deref(), (self.env)("STATE_DIRECTORY"))
    }

    fn vault_key(&mut self, text: &Option<Spanned<SecretText>>) -> Option<Secret> {
        let key = self.secret(text, "vault_key")?;
        if self.secrets != Secrets::Left && !key.expose_secret().is_empty() {
            let span = text.as_ref()?.span();
            self.ok(token::vault::check_key(&key), span, "vault_key")?;
        }
        Some(key)
    }

    fn policy(
        &mut self,
        file: &text::File,
        servers: Vec<ServerRule>,
        listeners: &[ListenerConfig],
    ) -> Policy {
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
        let general = (&sender.default_from, &sender.catchall_domain);
        let all: Vec<&ServerRule> = servers.iter().collect();
        let default_from = self.default_from(general, general, "[sender]", &all);
        let mut users = HashMap::new();
        for user in &file.user {
            let key = format!("[[user]] {:?}", user.name.get_ref());
            let own = (&user.default_from, &user.catchall_domain);
            let pinned = user.server.as_ref().map(|name| name.get_ref().clone());
            let theirs = user.servers.as_deref().map(names);
            let only = pinned.as_ref().map(std::slice::from_ref);
            let allowed = among(&servers, only.or(theirs.as_deref()));
            let rule = UserRule {
                default_from: self.default_from(own, general, &key, &allowed),
                pinned,
                servers: theirs,
            };
            users.insert(user.name.get_ref().clone(), rule);
        }
        let mut rules = HashMap::new();
        for (listener, text) in listeners.iter().zip(&file.listener) {
            let name = &listener.endpoint.name;
            let own = (&text.default_from, &text.catchall_domain);
            let key = format!("[[listener]] {name}");
            let theirs = text.servers.as_deref().map(names);
            let allowed = among(&servers, theirs.as_deref());
            let rule = ListenerRule {
                default_from: self.default_from(own, general, &key, &allowed),
                servers: theirs,
            };
            rules.insert(name.clone(), rule);
        }
        Policy {
            servers,
            default_from,
            keys,
            last_resort: sender.last_resort,
            on_mismatch: sender.on_mismatch,
            null_sender: sender.null_sender,
            reply_to: sender.reply_to,
            users,
            listeners: rules,
        }
    }

    /// Returns the default sender of a table: its `default_from` if that contains `@`; otherwise `default_from` as the
    /// local part at its `catchall_domain`. What the table lacks comes from `[sender]`, but a table that has neither
    /// key has no default sender of its own.
    fn default_from(
        &mut self,
        own: SenderKeys,
        general: SenderKeys,
        table: &str,
        servers: &[&ServerRule],
    ) -> Option<Address> {
        let is_set =
            |text: &Option<Spanned<String>>| text.clone().filter(|text| !text.get_ref().is_empty());
        let (from, domain) = (is_set(own.0), is_set(own.1));
        if from.is_none() && domain.is_none() {
            return None;
        }
        let Some(from) = from.or(is_set(general.0)) else {
            self.warnings.push(format!("{table} catchall_domain: there is no default_from, so it has no effect; add default_from, such as \"notifications\""));
            return None;
        };
        let domain = domain.or(is_set(general.1));
        let text = match (from.get_ref().split_once('@'), domain) {
            // A domain of its own replaces the domain of the general address.
            (Some((local, _)), Some(domain)) if own.0.is_none() => {
                format!("{local}@{}", domain.get_ref())
            }
            (Some(_), _) => from.get_ref().clone(),
            (None, Some(domain)) => format!("{}@{}", from.get_ref(), domain.get_ref()),
            (None, None) => {
                self.warnings.push(format!("{table} default_from: it has no domain and catchall_domain is not set, so it is ignored; add a domain, or set catchall_domain"));
                return None;
            }
        };
        let key = format!("{table} default_from");
        let address = self.ok(Address::parse(&text), from.span(), &key)?;
        let admits = |rule: &&ServerRule| {
            let filter = rule.filter.as_ref();
            filter.is_none_or(|filter| filter.admits(&address))
        };
        if !servers.iter().any(admits) {
            let whose = if table == "[sender]" {
                "no server's from_filter"
            } else {
                "the from_filter of no server that may send this mail"
            };
            self.warnings.push(format!(
                "{key}: {whose} admits {address}, so it is never used; add it to a from_filter"
            ));
        }
        Some(address)
    }
}

fn names(written: &[Spanned<String>]) -> Vec<String> {
    written.iter().map(|name| name.get_ref().clone()).collect()
}

/// Returns the servers with these names; `None` means all.
fn among<'s>(servers: &'s [ServerRule], names: Option<&[String]>) -> Vec<&'s ServerRule> {
    let is_among = |rule: &&ServerRule| names.is_none_or(|names| names.contains(&rule.name));
    servers.iter().filter(is_among).collect()
}
