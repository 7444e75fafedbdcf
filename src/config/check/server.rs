//! The upstream servers: each `[[server]]` with its `[oauth.NAME]`.

mod kinds;
mod reading;

use std::collections::HashSet;
use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use toml::Spanned;

use super::checker::Checker;
use crate::base::tls;
use crate::base::{Service, written};
use crate::config::ServerConfig;
use crate::config::preset::{Provider, high_volume_email};
use crate::config::text::{self, AuthMethod, Mode, Protocol};
use crate::delivery::MailboxLimits;
use crate::incoming::ReadingProtocol;
use crate::message::Address;
use crate::routing::{Filter, ServerRule};
use crate::transport::smtp::{self, SmtpServer};
use crate::transport::{RemoteHost, Tls};
use kinds::is_per_sender;

/// The submission port (RFC 6409 §3.1), and the port for implicit TLS (RFC 8314 §7.3).
const PORTS: (u16, u16) = (587, 465);

impl Checker<'_> {
    pub(super) fn servers(
        &mut self,
        file: &text::File,
        host: &str,
    ) -> (Vec<ServerConfig>, Vec<ServerRule>, HashSet<String>) {
        let (mut servers, mut rules, mut direct) = (Vec::new(), Vec::new(), HashSet::new());
        let mut seen = HashSet::new();
        if file.server.is_empty() {
            self.problem(0..0, "[[server]]", "there is none to forward to; add one");
        }
        for server in &file.server {
            let name = server.name.get_ref().clone();
            let key = format!("[[server]] {name:?}");
            if !seen.insert(name.clone()) {
                self.problem(
                    server.name.span(),
                    &key,
                    "there are two servers of this name; rename one",
                );
            }
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if name.is_empty() || name.starts_with('.') || !name.chars().all(is_plain) {
                self.problem(server.name.span(), &key, "a server's name may contain only letters, digits, dots, dashes and underscores, and may not start with a dot");
            }
            self.uses(server, &key);
            if server.is_for(Protocol::Smtp) {
                rules.push(self.rule(server, &key));
            }
            if server.mode == Mode::Direct {
                direct.insert(name);
            }
            if let Some(server) = self.server(server, file, host, &key) {
                servers.push(server);
            }
        }
        self.watched_twice(&file.server);
        // Only now are the scopes of all servers that share an account known.
        for token in servers
            .iter_mut()
            .filter_map(|server: &mut ServerConfig| server.token.as_mut())
        {
            if let Some(account) = self.accounts.get(&token.account) {
                token.scopes = account.scopes.clone();
            }
        }
        (servers, rules, direct)
    }

    fn rule(&mut self, server: &text::ServerTable, key: &str) -> ServerRule {
        let filter = server.from_filter.as_ref().and_then(|filter| {
            let parsed = Filter::parse(filter.get_ref());
            self.ok(parsed, filter.span(), &format!("{key} from_filter"))
                .flatten()
        });
        // High Volume Email refuses every other sender.
        let own = || {
            let account = server.username.as_ref()?.get_ref();
            Filter::parse(account).ok().flatten()
        };
        let filter = filter.or_else(|| own().filter(|_| server.is_hve()));
        let to = self.filter(&server.to_filter, &format!("{key} to_filter"));
        let address = match &server.address {
            Some(address) => self.ok(
                Address::parse(address.get_ref()),
                address.span(),
                &format!("{key} address"),
            ),
            None => server
                .username
                .as_ref()
                .and_then(|name| Address::parse(name.get_ref()).ok()),
        };
        ServerRule {
            name: server.name.get_ref().clone(),
            address,
            filter,
            to,
            is_per_sender: is_per_sender(server),
            sends_only_as_itself: server.is_hve(),
            message_size: match server.is_hve() {
                true => Some(
                    server
                        .message_size
                        .unwrap_or(high_volume_email::MESSAGE_SIZE),
                ),
                false => server.message_size,
            },
        }
    }

    fn server(
        &mut self,
        server: &text::ServerTable,
        file: &text::File,
        hello: &str,
        key: &str,
    ) -> Option<ServerConfig> {
        let oauth = &file.oauth;
        let found = server.oauth.as_ref().map(|name| {
            (
                name,
                oauth
                    .iter()
                    .find(|(known, _)| known.get_ref() == name.get_ref()),
            )
        });
        let registration = match found {
            Some((name, None)) => {
                let known: Vec<&str> = oauth.keys().map(|name| name.get_ref().as_str()).collect();
                let text = format!(
                    "there is no [oauth.{}]; the tables are: {}",
                    name.get_ref(),
                    known.join(", ")
                );
                self.problem(name.span(), &format!("{key} oauth"), text);
                return None;
            }
            Some((_, Some((name, registration)))) => Some((name.get_ref().as_str(), registration)),
            None => None,
        };
        let auth = self.auth(server, registration.is_some(), key)?;
        let token = match registration {
            Some((name, registration)) if matches!(auth, smtp::Auth::XOAuth2 { .. }) => {
                Some(self.token(server, name, registration, key)?)
            }
            _ => None,
        };
        let registration = registration.map(|(_, registration)| registration);
        let provider = registration.map(|registration| registration.provider);
        let roots = self.roots(&server.ca, &format!("{key} ca"))?;
        let tls_config = self.client_config(&roots, server.name.span(), key)?;
        let limits = self.limits(server, provider.unwrap_or(Provider::Custom), key)?;
        let remote = |host: String, port: u16, tls: Tls| RemoteHost {
            host,
            port,
            tls,
            tls_config: tls_config.clone(),
            roots: roots.clone(),
        };
        let smtp = match server.is_for(Protocol::Smtp) {
            true => Some(self.smtp_host(server, registration, key)?),
            false => None,
        };
        let smtp = smtp.map(|(host, tls)| SmtpServer {
            service: match provider {
                Some(Provider::Microsoft) => Service::ExchangeOnline,
                _ => Service::at(&host),
            },
            remote: remote(
                host,
                server.port.unwrap_or(match tls {
                    Tls::Implicit => PORTS.1,
                    Tls::Starttls | Tls::None => PORTS.0,
                }),
                tls,
            ),
            hello: hello.to_owned(),
            auth: auth.clone(),
        });
        let mut reading = |protocol| {
            let found = self.reading_host(server, registration, protocol, key)?;
            Some(found.map(|(host, port, tls)| remote(host, port, tls)))
        };
        let (imap, pop3) = (
            reading(ReadingProtocol::Imap)?,
            reading(ReadingProtocol::Pop3)?,
        );
        let bounces = self.bounces(file, server, key)?;
        Some(ServerConfig {
            name: server.name.get_ref().clone(),
            bounces,
            username: server
                .username
                .as_ref()
                .map(|name| name.get_ref().clone())
                .unwrap_or_default(),
            smtp,
            auth,
            imap,
            pop3,
            token,
            limits,
            fallback: self.fallback(file, server, key),
            tenant: registration
                .and_then(|registration| registration.tenant.as_ref())
                .map(|tenant| tenant.get_ref().to_lowercase()),
        })
    }

    /// Returns the host for sending, and how the connection to it is protected.
    fn smtp_host(
        &mut self,
        server: &text::ServerTable,
        registration: Option<&text::OAuthTable>,
        key: &str,
    ) -> Option<(String, Tls)> {
        let hve = server.is_hve().then_some(high_volume_email::HOST);
        let preset = hve.or_else(|| {
            let registration = registration?;
            let tenant = registration.tenant.as_ref();
            let tenant = tenant.map(|tenant| tenant.get_ref().as_str());
            registration
                .provider
                .host(registration.cloud, tenant.unwrap_or_default())
        });
        let host = self.host_of(&server.host, preset, server.name.span(), key)?;
        let tls = match &server.tls {
            Some(tls) => self.tls_mode(tls, &host, key),
            None => Tls::default(),
        };
        Some((host, tls))
    }

    /// Returns the host as written, or else the provider's.
    fn host_of(
        &mut self,
        written: &Option<Spanned<String>>,
        preset: Option<&str>,
        place: std::ops::Range<usize>,
        key: &str,
    ) -> Option<String> {
        let key = format!("{key} host");
        if let Some(host) = written
            && let Some(text) = no_host(host.get_ref())
        {
            self.problem(host.span(), &key, text);
            return None;
        }
        let written = written.as_ref().map(|host| host.get_ref().clone());
        let host = written.or(preset.map(str::to_owned));
        let missing = "the server's host is not known; add host = \"...\"";
        self.ok(host.ok_or(missing), place, &key)
    }

    /// Returns the limits that the server sets, and the provider's limits for the rest. For limits that can
    /// be switched off, 0 means no limit.
    fn limits(
        &mut self,
        server: &text::ServerTable,
        provider: Provider,
        key: &str,
    ) -> Option<MailboxLimits> {
        let preset = match server.is_hve() {
            true => high_volume_email::LIMITS,
            false => provider.limits(),
        };
        let at_least_one = [
            (&server.sessions, "sessions"),
            (&server.recipients_per_message, "recipients_per_message"),
        ];
        for (value, name) in at_least_one {
            if let Some(value) = value
                && *value.get_ref() == 0
            {
                let text = "with 0 nothing could be sent; write 1 or more";
                self.problem(value.span(), &format!("{key} {name}"), text);
                return None;
            }
            if let Some(value) = value
                && *value.get_ref() as u64 > written::MOST
            {
                let text = format!("the maximum is {}; write a smaller number", written::MOST);
                self.problem(value.span(), &format!("{key} {name}"), text);
                return None;
            }
        }
        let own = |value: &Option<Spanned<usize>>| value.as_ref().map(|value| *value.get_ref());
        let per_minute = server
            .messages_per_minute
            .map(|most| (most > 0).then_some(most));
        let per_day = server
            .recipients_per_day
            .map(|most| (most > 0).then_some(most));
        Some(MailboxLimits {
            sessions: own(&server.sessions).unwrap_or(preset.sessions),
            per_minute: per_minute.unwrap_or(preset.per_minute),
            per_day: per_day.unwrap_or(preset.per_day),
            recipients: own(&server.recipients_per_message).unwrap_or(preset.recipients),
        })
    }

    fn auth(
        &mut self,
        server: &text::ServerTable,
        has_oauth: bool,
        key: &str,
    ) -> Option<smtp::Auth> {
        let default = if has_oauth {
            AuthMethod::XOAuth2
        } else {
            AuthMethod::None
        };
        let (wanted, span) = match &server.auth {
            Some(auth) => (*auth.get_ref(), auth.span()),
            None => (default, server.name.span()),
        };
        let key_auth = format!("{key} auth");
        match (wanted, has_oauth) {
            (AuthMethod::XOAuth2, false) => {
                self.problem(
                    span,
                    &key_auth,
                    "xoauth2 needs an app registration; add oauth = \"NAME\" and its [oauth.NAME]",
                );
                return None;
            }
            (AuthMethod::Plain | AuthMethod::Login | AuthMethod::None, true) => {
                self.problem(
                    span,
                    &key_auth,
                    "a server with oauth signs in with xoauth2; remove the key auth or the key oauth",
                );
                return None;
            }
            (AuthMethod::None, false) if server.auth.is_none() => {
                self.problem(span, &key_auth, "no sign-in method is set; add oauth = \"NAME\", or auth = \"plain\", \"login\" or \"none\"");
                return None;
            }
            _ => {}
        }
        let username = server.username.as_ref().map(|name| name.get_ref().clone());
        if wanted == AuthMethod::None {
            return Some(smtp::Auth::None);
        }
        let missing = "it is missing; write the mailbox or user to sign in as";
        let username = self.ok(
            username.ok_or(missing),
            server.name.span(),
            &format!("{key} username"),
        )?;
        if wanted == AuthMethod::XOAuth2 {
            if !username.contains('@') && !is_per_sender(server) {
                let span = server.username.as_ref().map(Spanned::span);
                let text = format!(
                    "{username:?} is not an address; write the mailbox's address, such as name@example.com"
                );
                self.problem(span.unwrap_or(0..0), &format!("{key} username"), text);
                return None;
            }
            return Some(smtp::Auth::XOAuth2 { username });
        }
        let key_password = format!("{key} password");
        let password = match &server.password {
            Some(_) => self.secret(&server.password, &key_password)?,
            None => {
                self.problem(
                    span,
                    &key_password,
                    "it is missing; add password = { file = \"FILE\" }",
                );
                return None;
            }
        };
        Some(match wanted {
            AuthMethod::Login => smtp::Auth::Login { username, password },
            _ => smtp::Auth::Plain { username, password },
        })
    }

    fn tls_mode(&mut self, tls: &Spanned<Tls>, host: &str, key: &str) -> Tls {
        let loopback =
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if *tls.get_ref() == Tls::None && !loopback {
            let text = format!(
                "{host} is not on loopback, so mail and password would cross the network unencrypted; write \"starttls\" or \"implicit\""
            );
            self.problem(tls.span(), &format!("{key} tls"), text);
        }
        *tls.get_ref()
    }

    pub(super) fn roots(
        &mut self,
        file: &Option<Spanned<String>>,
        key: &str,
    ) -> Option<Vec<CertificateDer<'static>>> {
        match file {
            Some(file) => {
                let read = tls::read_certificates(&self.beside(file.get_ref()));
                self.ok(read, file.span(), key)
            }
            None => Some(Vec::new()),
        }
    }
}

/// Returns the protocols by which mail of this server is read.
pub(super) fn reads(server: &text::ServerTable) -> Vec<ReadingProtocol> {
    let both = [
        (Protocol::Imap, ReadingProtocol::Imap),
        (Protocol::Pop3, ReadingProtocol::Pop3),
    ];
    let used = both.into_iter().filter(|(usage, _)| server.is_for(*usage));
    used.map(|(_, protocol)| protocol).collect()
}

/// Returns the reason why a text is not a host, or `None` if it is a host.
fn no_host(text: &str) -> Option<&'static str> {
    let is_address = text.parse::<IpAddr>().is_ok();
    if text.contains("://") || text.contains('/') {
        Some("this is a URL; write only the host name, such as smtp.example.com")
    } else if text.contains(':') && !is_address {
        Some("write only the host name, and the port as port = NUMBER")
    } else if text.trim().is_empty() || text.contains(char::is_whitespace) {
        Some("it is not a host name; write one such as smtp.example.com")
    } else {
        None
    }
}
