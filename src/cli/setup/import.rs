//! The configurations of other tools, as answers for `setup`. Pure: the file's text is an argument.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use configparser::ini::{Ini, IniDefault};

use super::answers::SignIn;
use super::fernet;
use super::imported::Imported;
use crate::base::Secret;
use crate::config::preset;
use crate::message::Address;

/// Reads the configuration of email-oauth2-proxy (`emailproxy.config`). Its secrets are encrypted with a password.
pub(super) fn emailproxy(text: &str, password: Option<&Secret>) -> Result<Imported, String> {
    let mut defaults = IniDefault::default();
    // Account names and secrets contain `#`, `;` and `:`.
    defaults.delimiters = vec!['='];
    defaults.inline_comment_symbols = Some(Vec::new());
    defaults.multiline = true;
    let mut ini = Ini::new_from_defaults(defaults);
    let sections: BTreeMap<_, _> = ini.read(text.to_owned())?.into_iter().collect();
    let mut imported = Imported::default();
    for (section, keys) in &sections {
        let value = |key: &str| keys.get(key).and_then(Option::as_deref).unwrap_or_default();
        match section.split_once('-') {
            Some(("smtp", port)) => imported.smtp(section, port, value("local_address"), value("server_address")),
            Some(("imap", _)) => imported.left.push(format!(
                "[{section}]: if apps read mail there, run setup with --reading, which lets the app read these mailboxes"
            )),
            Some(("pop", _)) => imported.left.push(format!(
                "[{section}]: setup makes a listener for IMAP only; add one with protocol = \"pop3\""
            )),
            _ if section.contains('@') => imported.account(section, &value, password),
            _ => {}
        }
    }
    imported.left.push(
        "the sign-in of apps: they gave the mailbox's address and a password of their own choice; now they sign in as printed above"
            .to_owned(),
    );
    Ok(imported)
}

impl Imported {
    fn smtp(&mut self, section: &str, port: &str, local: &str, server: &str) {
        if !self.is_at_microsoft(server) {
            return self.left.push(format!(
                "[{section}]: {server} is not Microsoft 365; add a [[server]] for it"
            ));
        }
        let address = local.parse().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        match (port.parse(), self.listen) {
            (Ok(port), None) => self.listen = Some(SocketAddr::new(address, port)),
            _ => self.left.push(format!(
                "[{section}]: setup makes one listener for sending; add another [[listener]] if apps use this port"
            )),
        }
    }

    /// Takes an account over, if it belongs to the same app as the ones before.
    fn account<'v>(
        &mut self,
        section: &str,
        value: &impl Fn(&str) -> &'v str,
        password: Option<&Secret>,
    ) {
        let Ok(address) = Address::parse(section) else {
            return self.left.push(format!(
                "[{section}]: accounts for a whole domain are not carried over; add a [[server]] for each mailbox"
            ));
        };
        let Some(tenant) = tenant_of(value("token_url")) else {
            return self.left.push(format!(
                "[{section}]: its token_url is not Microsoft's; add [oauth.NAME] and a [[server]] for it"
            ));
        };
        let sign_in = match value("oauth2_flow") {
            // So does that program.
            "" if value("permission_url").is_empty() => SignIn::App,
            "client_credentials" => SignIn::App,
            "" | "authorization_code" | "device" => SignIn::Person,
            other => {
                return self
                    .left
                    .push(format!("[{section}]: the flow {other} has no equivalent"));
            }
        };
        let app = (
            Some(sign_in),
            Some(tenant),
            Some(value("client_id").to_owned()),
        );
        let before = (self.sign_in, self.tenant.clone(), self.client_id.clone());
        if self.client_id.is_some() && app != before {
            return self.left.push(format!(
                "[{section}]: it belongs to another app or tenant, or another flow; run setup for it in another folder, or add it by hand"
            ));
        }
        (self.sign_in, self.tenant, self.client_id) = app;
        self.takes(&address, None);
        match sign_in {
            SignIn::App => self.secret_of_app(section, value),
            SignIn::Person => self.secrets_of_person(section, address, value, password),
        }
    }

    fn secret_of_app<'v>(&mut self, section: &str, value: &impl Fn(&str) -> &'v str) {
        if value("client_secret").is_empty() && value("client_secret_encrypted").is_empty() {
            return;
        }
        self.left.push(format!(
            "[{section}] client_secret: the new configuration uses a certificate, which the script adds to the same app; the secret keeps \
             working until you delete it"
        ));
    }

    /// Takes over the client secret and the refresh token of an account for which a person has signed in.
    fn secrets_of_person<'v>(
        &mut self,
        section: &str,
        address: Address,
        value: &impl Fn(&str) -> &'v str,
        password: Option<&Secret>,
    ) {
        let open = |key: &str| match (value(key), password) {
            ("", _) => Ok(None),
            (_, None) => Err(
                "it is encrypted; name the file with the account's password by --import-password-file",
            ),
            (encrypted, Some(password)) => {
                let salt = BASE64_STANDARD
                    .decode(value("token_salt"))
                    .unwrap_or_default();
                let iterations = value("token_iterations")
                    .parse()
                    .unwrap_or(LEGACY_ITERATIONS);
                let opened = fernet::decrypted(encrypted, password, &salt, iterations);
                opened.map(Some).ok_or("this password does not open it")
            }
        };
        let written = Some(value("client_secret")).filter(|secret| !secret.is_empty());
        let secret = match written {
            Some(secret) => Ok(Some(secret.into())),
            None => open("client_secret_encrypted"),
        };
        match secret {
            Ok(secret) => self.client_secret = secret.or(self.client_secret.take()),
            Err(reason) => self.left.push(format!(
                "[{section}] client_secret_encrypted: {reason}, or add client_secret = {{ file = \"...\" }} to [oauth.microsoft]"
            )),
        }
        let scopes = value("oauth2_scope");
        let granted = match scopes.contains("SMTP.Send") {
            true => open("refresh_token"),
            false if value("refresh_token").is_empty() => Ok(None),
            false => Err("its oauth2_scope has no SMTP.Send"),
        };
        match granted {
            Ok(token) => self
                .refresh_tokens
                .extend(token.map(|token| (address, token))),
            Err(reason) => self.left.push(format!(
                "[{section}] refresh_token: {reason}, or sign in once with `mailferry connect`"
            )),
        }
    }
}

/// The iterations of files that do not name them, from versions before October 2023.
const LEGACY_ITERATIONS: NonZeroU32 = NonZeroU32::new(100_000).unwrap();

/// Returns the tenant of an address of Entra ID's token endpoint.
fn tenant_of(token_url: &str) -> Option<String> {
    let url: url::Url = token_url.parse().ok()?;
    let is_microsoft = url.host_str().is_some_and(preset::is_entra);
    let tenant = url.path_segments()?.next()?;
    (is_microsoft && !tenant.is_empty()).then(|| tenant.to_owned())
}

/// Reads the configuration of msmtp (`~/.msmtprc`, `/etc/msmtprc`).
pub(super) fn msmtp(text: &str) -> Result<Imported, String> {
    let mut accounts: Vec<Account> = Vec::new();
    let mut defaults = Account::default();
    let mut current = None;
    let mut imported = Imported::default();
    let mut default = String::new();
    for line in text.lines().map(str::trim) {
        let (key, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let value = value.trim().trim_matches('"');
        match key {
            "" => {}
            comment if comment.starts_with('#') => {}
            "defaults" => current = None,
            "account" => {
                let (name, bases) = value.split_once(':').unwrap_or((value, ""));
                let (name, bases) = (name.trim(), bases.trim());
                if name == "default" && !bases.is_empty() {
                    default = bases
                        .split(',')
                        .next()
                        .unwrap_or_default()
                        .trim()
                        .to_owned();
                    continue;
                }
                let mut account = defaults.clone();
                for base in bases
                    .split(',')
                    .map(str::trim)
                    .filter(|base| !base.is_empty())
                {
                    let known = accounts.iter().find(|it| it.name == base);
                    account = known
                        .cloned()
                        .ok_or_else(|| format!("there is no account {base}"))?;
                }
                account.name = name.to_owned();
                accounts.push(account);
                current = Some(accounts.len() - 1);
            }
            key => {
                let account = match current {
                    Some(place) => &mut accounts[place],
                    None => &mut defaults,
                };
                account.set(key, value);
            }
        }
    }
    for account in &accounts {
        imported.msmtp(account, default == account.name || accounts.len() == 1);
    }
    Ok(imported)
}

/// An account of msmtp.
#[derive(Debug, Clone, Default)]
struct Account {
    name: String,
    host: String,
    from: String,
    user: String,
    others: Vec<String>,
}

/// The settings of msmtp that mean nothing more than what mailferry does anyway.
const IMPLIED: [&str; 9] = [
    "auth",
    "tls",
    "tls_starttls",
    "tls_trust_file",
    "tls_certcheck",
    "port",
    "timeout",
    "logfile",
    "syslog",
];

impl Account {
    fn set(&mut self, key: &str, value: &str) {
        match key {
            "host" => self.host = value.to_owned(),
            "from" => self.from = value.to_owned(),
            "user" => self.user = value.to_owned(),
            implied if IMPLIED.contains(&implied) => {}
            other => self.others.push(other.to_owned()),
        }
    }
}

impl Imported {
    fn msmtp(&mut self, account: &Account, is_default: bool) {
        let Account {
            name,
            host,
            from,
            user,
            ..
        } = account;
        if !self.is_at_microsoft(host) {
            return self.left.push(format!(
                "account {name}: {host} is not Microsoft 365; add a [[server]] for it"
            ));
        }
        let Ok(mailbox) = Address::parse(if user.contains('@') { user } else { from }) else {
            return self.left.push(format!(
                "account {name}: neither user nor from is an address"
            ));
        };
        if let Ok(sender) = Address::parse(from)
            && sender != mailbox
        {
            self.takes(&mailbox, Some(sender.as_str()));
        }
        if is_default {
            self.default_from = Some(mailbox.clone());
        }
        self.takes(&mailbox, None);
        for key in &account.others {
            let why = match key.as_str() {
                "password" | "passwordeval" => {
                    "Microsoft 365 takes no passwords; mailferry signs in with tokens"
                }
                _ => "it has no equivalent",
            };
            self.left.push(format!("account {name}, {key}: {why}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn accounts_of_one_app_are_taken_over_from_emailproxy() {
        let text = "\
[Server setup]
documentation = text with
\tmore lines = and more

[SMTP-1587]
server_address = smtp.office365.com
server_port = 587
server_starttls = True
local_address = 0.0.0.0

[SMTP-2465]
server_address = smtp.gmail.com

[IMAP-1993]
server_address = outlook.office365.com

[info@example.com]
token_url = https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token
oauth2_scope = https://outlook.office365.com/.default
oauth2_flow = client_credentials
client_id = 12345678-1234-1234-1234-123456789abc
client_secret = a;b#c

[jane@example.com]
permission_url = https://login.microsoftonline.com/common/oauth2/v2.0/authorize
token_url = https://login.microsoftonline.com/common/oauth2/v2.0/token
client_id = another

[me@gmail.com]
token_url = https://oauth2.googleapis.com/token
client_id = google

[@example.org]
token_url = https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token

[emailproxy]
encrypt_client_secret_on_first_use = True
";
        let imported = emailproxy(text, None).unwrap();
        assert_eq!(imported.mailboxes, [address("info@example.com")]);
        assert_eq!(imported.sign_in, Some(SignIn::App));
        assert_eq!(imported.tenant.as_deref(), Some("contoso.onmicrosoft.com"));
        assert_eq!(
            imported.client_id.as_deref(),
            Some("12345678-1234-1234-1234-123456789abc")
        );
        assert_eq!(imported.listen, Some("0.0.0.0:1587".parse().unwrap()));
        let left = imported.left.join("\n");
        for part in [
            "[smtp-2465]: smtp.gmail.com is not Microsoft 365",
            "[info@example.com] client_secret: the new configuration uses a certificate",
            "[imap-1993]: if apps read mail there",
            "[jane@example.com]: it belongs to another app",
            "[me@gmail.com]: its token_url is not Microsoft's",
            "[@example.org]: accounts for a whole domain",
        ] {
            assert!(left.contains(part), "{part}:\n{left}");
        }
        assert!(!left.contains("a;b"), "a secret: {left}");
    }

    #[test]
    fn accounts_of_msmtp_are_taken_over() {
        let text = "\
# comment
defaults
auth on
tls on
logfile ~/.msmtp.log

account office
host smtp.office365.com
port 587
from reports@example.com
user info@example.com
password \"s3cret\"

account other
host mail.example.net
user x
passwordeval \"cat file\"

account bills : office
user bills@example.com
from bills@example.com
dsn_notify never

account default : office
";
        let imported = msmtp(text).unwrap();
        let (info, bills) = (address("info@example.com"), address("bills@example.com"));
        assert_eq!(imported.mailboxes, [info.clone(), bills]);
        assert_eq!(
            imported.filters,
            [(info.clone(), "reports@example.com".to_owned())]
        );
        assert_eq!(imported.default_from, Some(info));
        let left = imported.left.join("\n");
        for part in [
            "account office, password: Microsoft 365 takes no passwords",
            "account other: mail.example.net is not Microsoft 365",
            "account bills, dsn_notify: it has no equivalent",
        ] {
            assert!(left.contains(part), "{part}:\n{left}");
        }
        assert!(!left.contains("s3cret"));
    }
}
