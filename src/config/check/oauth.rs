//! Checks an app registration for the server that uses it.

use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use toml::Spanned;
use url::Url;

use super::checker::Checker;
use crate::base::{Secret, Timestamp, tls};
use crate::config::Secrets;
use crate::config::check::server::reads;
use crate::config::preset::{OAuthEndpoint, Provider};
use crate::config::text::{self, Protocol};
use crate::token::{self, AppSecret, Certificate, Credential, Endpoints, Grant, Scopes};
use crate::web;

/// Tenant names that stand for several tenants. No app-only tokens are issued for these names.
pub(super) const SHARED_TENANTS: [&str; 3] = ["common", "organizations", "consumers"];

/// The browser's redirect target after a sign-in, unless the configuration sets one. Entra ignores the port
/// of a loopback address, so any free port will do; the path must match.
const REDIRECT: &str = "http://localhost:0/callback";

impl Checker<'_> {
    pub(super) fn token(
        &mut self,
        server: &text::ServerTable,
        name: &str,
        oauth: &text::OAuthTable,
        key: &str,
    ) -> Option<token::AccountSettings> {
        let missing = "it is missing; write \"client_credentials\", \"authorization_code\", \"device_code\" or \"refresh_token\"";
        let grant = server.grant.as_ref().map(|grant| *grant.get_ref());
        let key_grant = format!("{key} grant");
        let grant = self.ok(grant.ok_or(missing), server.name.span(), &key_grant)?;
        let table = format!("[oauth.{name}]");
        // Check both before returning, so that all problems are reported at once.
        let (credential, endpoints) = (
            self.credential(oauth, &table),
            self.endpoints(oauth, grant, &table),
        );
        let (credential, endpoints) = (credential?, endpoints?);
        if grant == Grant::ClientCredentials && credential == Credential::None {
            self.problem(
                oauth.client_id.span(),
                &format!("{table} client_secret"),
                "client_credentials needs it, or a certificate; add client_secret = { env = \"NAME\" }",
            );
            return None;
        }
        let user = server.account.as_ref().or(server.username.as_ref());
        let user = user
            .map(|user| user.get_ref().clone())
            .filter(|_| grant.is_by_user());
        let roots = self.roots(&oauth.ca, &format!("{table} ca"))?;
        let tls = self.client_config(&roots, oauth.client_id.span(), &table)?;
        let refresh_token = self.refresh_token(server, oauth, key);
        let settings = token::AccountSettings {
            account: match &user {
                Some(user) => format!("{name}/{}", user.to_lowercase()),
                None => name.to_owned(),
            },
            server: server.name.get_ref().clone(),
            oauth: name.to_owned(),
            endpoints,
            client_id: oauth.client_id.get_ref().clone(),
            credential,
            scopes: match &oauth.scopes {
                Some(scopes) => Scopes::of(scopes.clone()),
                None => {
                    let (sends, reads) = (server.is_for(Protocol::Smtp), reads(server));
                    oauth.provider.scopes(grant, oauth.cloud, sends, &reads)
                }
            },
            grant,
            user,
            redirect: self.redirect(oauth, &table)?,
            refresh_token,
            roots,
            tls,
        };
        self.shared(settings, server, key)
    }

    /// Lets all servers of one account share its settings, and therefore its tokens, token requests and
    /// failures. The first server's settings apply; the other servers must have the same settings.
    fn shared(
        &mut self,
        mut settings: token::AccountSettings,
        server: &text::ServerTable,
        key: &str,
    ) -> Option<token::AccountSettings> {
        let Some(first) = self.accounts.get_mut(&settings.account) else {
            let account = settings.account.clone();
            self.accounts.insert(account, settings.clone());
            return Some(settings);
        };
        settings.server = first.server.clone();
        if first.is_same_account(&settings) {
            first.scopes.join(&settings.scopes);
            return Some(settings);
        }
        let text = format!(
            "it uses the same account as server {:?}, but its token settings differ (such as grant or refresh_token); make them the same, or set another `account`",
            first.server
        );
        self.problem(server.name.span(), key, text);
        None
    }

    fn refresh_token(
        &mut self,
        server: &text::ServerTable,
        oauth: &text::OAuthTable,
        key: &str,
    ) -> Option<Secret> {
        let key = format!("{key} refresh_token");
        let text = self.secret(&server.refresh_token, &key)?;
        if self.secrets == Secrets::Left {
            return Some(text);
        }
        let user = server.account.as_ref().or(server.username.as_ref());
        let user = user.map(|user| user.get_ref().as_str()).unwrap_or_default();
        let token = token::import::refresh_token(&text, oauth.client_id.get_ref(), user);
        let span = server.refresh_token.as_ref()?.span();
        self.ok(token, span, &key)
    }

    fn credential(&mut self, oauth: &text::OAuthTable, table: &str) -> Option<Credential> {
        let first = (
            &oauth.client_secret,
            &oauth.client_secret_expires,
            "client_secret",
        );
        let second = (
            &oauth.second_client_secret,
            &oauth.second_client_secret_expires,
            "second_client_secret",
        );
        let mut secrets = Vec::new();
        for (secret, expires, key) in [first, second] {
            if let Some(secret) = self.secret(secret, &format!("{table} {key}")) {
                let expires = self.date(expires, &format!("{table} {key}_expires"));
                self.warn_of_end(expires, &format!("{table} {key}_expires"));
                secrets.push(AppSecret { secret, expires });
            }
        }
        let has_secret = oauth.client_secret.is_some() || oauth.second_client_secret.is_some();
        let others = [
            oauth.certificate.is_some(),
            oauth.assertion_file.is_some(),
            has_secret,
        ];
        if others.iter().filter(|is_there| **is_there).count() > 1 {
            let text = "an app proves its identity in only one way; keep only client_secret, or certificate and key, or assertion_file";
            self.problem(oauth.client_id.span(), table, text);
            return None;
        }
        match (&oauth.certificate, &oauth.key, &oauth.assertion_file) {
            (Some(certificate), Some(key), _) => self.certificate(certificate, key, table),
            (Some(only), None, _) => {
                let text = "a certificate needs its key; add key = \"FILE\"";
                self.problem(only.span(), &format!("{table} certificate"), text);
                None
            }
            (None, Some(only), _) => {
                let text = "a key needs its certificate; add certificate = \"FILE\"";
                self.problem(only.span(), &format!("{table} key"), text);
                None
            }
            (None, None, Some(file)) => Some(Credential::AssertionFile(self.beside(file))),
            _ if has_secret && secrets.is_empty() => None,
            _ if secrets.is_empty() => Some(Credential::None),
            _ => Some(Credential::Secrets(secrets)),
        }
    }

    /// Warns of a secret that has expired or soon will. This is not an error, because the date may be a
    /// mistake and mail must keep flowing.
    fn warn_of_end(&mut self, ends: Option<Timestamp>, key: &str) {
        let now = Timestamp::now();
        let warning = match ends {
            Some(ends) if ends <= now => format!("{key}: the secret has expired; make a new one"),
            Some(ends) if ends < now.after(token::sources::FIRST_NOTICE) => {
                format!("{key}: the secret expires on {ends}; make a new one before then")
            }
            _ => return,
        };
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    fn certificate(
        &mut self,
        certificate: &Spanned<String>,
        key: &Spanned<crate::config::secret::SecretText>,
        table: &str,
    ) -> Option<Credential> {
        use crate::base::secret::ExposeSecret;
        let (at, key_at) = (format!("{table} certificate"), format!("{table} key"));
        let chain = tls::read_certificates(&self.beside(certificate.get_ref()));
        let chain: Vec<CertificateDer> = self.ok(chain, certificate.span(), &at)?;
        let first = chain.first().ok_or("there is no certificate in it");
        let first = self.ok(first.cloned(), certificate.span(), &at)?;
        if self.secrets == Secrets::Left {
            return Some(Credential::AssertionFile("".into()));
        }
        let pem = self.secret(&Some(key.clone()), &key_at)?;
        let made = Certificate::new(&first, pem.expose_secret().as_bytes());
        let made = self.ok(made, key.span(), &key_at)?;
        Some(Credential::Certificate(Arc::new(made)))
    }

    fn date(
        &mut self,
        date: &Option<Spanned<toml::value::Datetime>>,
        key: &str,
    ) -> Option<Timestamp> {
        let date = date.as_ref()?;
        let text = date.get_ref().to_string();
        let bad = format!("{text} is not a date; write one such as 2027-05-01");
        self.ok(Timestamp::of_date(&text).ok_or(bad), date.span(), key)
    }

    fn redirect(&mut self, oauth: &text::OAuthTable, table: &str) -> Option<Url> {
        let Some(url) = &oauth.redirect else {
            return Some(REDIRECT.parse().expect("a URL"));
        };
        let (redirect, page) = (url.get_ref(), self.page.as_ref());
        let text = match redirect.scheme() {
            "http" if is_loopback(redirect) => return Some(redirect.clone()),
            "https" if page.is_none_or(|page| page.origin() != redirect.origin()) => {
                "nobody would answer the browser there; set [web] external_url to the same https://HOST, or write http://localhost:0/PATH"
            }
            "https" if web::is_own_path(redirect.path()) => {
                "the page itself uses this path; write another, such as https://HOST/callback"
            }
            "https" => return Some(redirect.clone()),
            _ => {
                "the sign-in's code would cross the network unencrypted; write http://localhost:PORT/PATH, or an https:// address"
            }
        };
        self.problem(url.span(), &format!("{table} redirect"), text);
        None
    }

    fn endpoints(
        &mut self,
        oauth: &text::OAuthTable,
        grant: Grant,
        table: &str,
    ) -> Option<Endpoints> {
        let tenant = self.tenant(oauth, grant, table)?;
        let preset = |endpoint| oauth.provider.endpoint(endpoint, oauth.cloud, &tenant);
        let wanted = [
            (&oauth.token_url, "token_url", OAuthEndpoint::Token),
            (
                &oauth.authorize_url,
                "authorize_url",
                OAuthEndpoint::Authorize,
            ),
            (&oauth.device_url, "device_url", OAuthEndpoint::Device),
        ];
        let mut found = Vec::new();
        for (written, key, endpoint) in wanted {
            let key = format!("{table} {key}");
            // A configured token endpoint means a different provider: the preset endpoints do not apply.
            let preset = preset(endpoint).filter(|_| oauth.token_url.is_none());
            found.push(match (written, preset) {
                (Some(url), _) => Some(self.secure(url, &key)?),
                (None, Some(url)) => Some(self.ok(url.parse(), tenant_span(oauth), &key)?),
                (None, None) => None,
            });
        }
        let [token, authorize, device] = <[Option<Url>; 3]>::try_from(found).ok()?;
        let missing = "it is missing; a custom provider needs its token endpoint";
        let key = format!("{table} token_url");
        let token = self.ok(token.ok_or(missing), oauth.client_id.span(), &key)?;
        let needed = match grant {
            Grant::AuthorizationCode if authorize.is_none() => Some("authorize_url"),
            Grant::DeviceCode if device.is_none() => Some("device_url"),
            _ => None,
        };
        if let Some(needed) = needed {
            let text = "it is missing; it is required for this grant if token_url is set";
            self.problem(oauth.client_id.span(), &format!("{table} {needed}"), text);
            return None;
        }
        Some(Endpoints {
            token,
            authorize,
            device,
        })
    }

    fn secure(&mut self, url: &Spanned<Url>, key: &str) -> Option<Url> {
        if url.get_ref().scheme() != "https" && !is_loopback(url.get_ref()) {
            let text =
                "the client secret would cross the network unencrypted; write an https:// address";
            self.problem(url.span(), key, text);
            return None;
        }
        Some(url.get_ref().clone())
    }

    fn tenant(&mut self, oauth: &text::OAuthTable, grant: Grant, table: &str) -> Option<String> {
        let tenant = oauth
            .tenant
            .as_ref()
            .map(|tenant| tenant.get_ref().as_str());
        let tenant = tenant.unwrap_or_default();
        let (key, span) = (format!("{table} tenant"), tenant_span(oauth));
        let needs_tenant = oauth.provider == Provider::Microsoft && oauth.token_url.is_none();
        if needs_tenant && tenant.is_empty() {
            let text = "it is missing; write the directory (tenant) id, or a domain such as contoso.onmicrosoft.com";
            self.problem(span, &key, text);
            return None;
        }
        if needs_tenant
            && !tenant
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || ".-".contains(c))
        {
            let text = format!(
                "{tenant:?} is not a tenant; write the directory (tenant) id, or a domain such as contoso.onmicrosoft.com"
            );
            self.problem(span, &key, text);
            return None;
        }
        let id = oauth.client_id.get_ref();
        if needs_tenant && !is_guid(id) {
            let text = format!(
                "{id:?} is not an application (client) id, which looks like 12345678-1234-1234-1234-123456789abc"
            );
            self.problem(oauth.client_id.span(), &format!("{table} client_id"), text);
            return None;
        }
        if needs_tenant && !grant.is_by_user() && SHARED_TENANTS.contains(&tenant) {
            self.problem(span, &key, format!("client_credentials needs one tenant, not {tenant:?}; write the directory (tenant) id"));
            return None;
        }
        Some(tenant.to_owned())
    }
}

/// True for eight, four, four, four and twelve hexadecimal digits, with dashes between.
pub(super) fn is_guid(text: &str) -> bool {
    let lengths = text.split('-').map(|part| {
        let is_hex = part.bytes().all(|b| b.is_ascii_hexdigit());
        if is_hex { part.len() } else { 0 }
    });
    lengths.eq([8, 4, 4, 4, 12])
}

fn tenant_span(oauth: &text::OAuthTable) -> Range<usize> {
    let tenant = oauth.tenant.as_ref().map(Spanned::span);
    tenant.unwrap_or_else(|| oauth.client_id.span())
}

pub(super) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
