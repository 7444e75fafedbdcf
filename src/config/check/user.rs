//! `[[user]]`: the users who may send, their addresses and their limits.

use std::collections::HashSet;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::checker::Checker;
use super::server::reads;
use crate::base::secret::ExposeSecret;
use crate::base::written::{self, Network};
use crate::config::text;
use crate::door::User;
use crate::door::password::Hash;
use crate::door::usage::{Limit, Unit};
use crate::message::Address;
use crate::routing::{Filter, ServerRule};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3_600);

impl Checker<'_> {
    pub(super) fn users(
        &mut self,
        users: &[text::UserTable],
        rules: &[ServerRule],
        servers: &[text::ServerTable],
    ) -> Vec<User> {
        if users.is_empty() {
            self.problem(
                0..0,
                "[[user]]",
                "there is none, so nobody could send; add one with name and password",
            );
        }
        let mut seen = HashSet::new();
        let users = users.iter().map(|user| {
            let is_new = seen.insert(user.name.get_ref().clone());
            if !is_new {
                self.problem(
                    user.name.span(),
                    &key_of(user),
                    "there are two users of this name; rename one",
                );
            }
            self.user(user, rules, servers)
        });
        users.collect()
    }

    /// Checks the servers whose mailboxes a user may read.
    fn mailboxes(
        &mut self,
        user: &text::UserTable,
        servers: &[text::ServerTable],
        key: &str,
    ) -> Vec<String> {
        let names = user.mailboxes.iter().flatten();
        if let (None, Some(name)) = (&user.password, names.clone().next()) {
            let text =
                "mail is read with a password only, whatever `networks` says; add a password";
            self.problem(name.span(), &format!("{key} mailboxes"), text);
        }
        for name in names.clone() {
            let reads = |server: &&text::ServerTable| !reads(server).is_empty();
            let found = servers
                .iter()
                .find(|server| server.name.get_ref() == name.get_ref());
            let text = match found {
                Some(server) if reads(&server) => continue,
                Some(_) => format!(
                    "server {:?} is not used for reading; add \"imap\" or \"pop3\" to its `use`",
                    name.get_ref()
                ),
                None => {
                    let known = servers.iter().filter(reads);
                    let known: Vec<&str> =
                        known.map(|server| server.name.get_ref().as_str()).collect();
                    format!(
                        "there is no [[server]] named {:?}; the servers for reading are: {}",
                        name.get_ref(),
                        known.join(", ")
                    )
                }
            };
            self.problem(name.span(), &format!("{key} mailboxes"), text);
        }
        names.map(|name| name.get_ref().clone()).collect()
    }

    fn user(
        &mut self,
        user: &text::UserTable,
        rules: &[ServerRule],
        servers: &[text::ServerTable],
    ) -> User {
        let key = key_of(user);
        if user.password.is_none() && user.networks.is_empty() {
            self.problem(
                user.name.span(),
                &key,
                "this user has no way to sign in; add a password, or networks",
            );
        }
        if let (Some(pin), Some(_)) = (&user.server, &user.servers) {
            self.problem(
                pin.span(),
                &format!("{key} server"),
                "a user pinned to one server cannot have a list of servers as well; remove the key server or the key servers",
            );
        }
        self.known_servers(user.server.iter(), rules, &format!("{key} server"));
        self.servers_of(
            &user.servers,
            rules,
            &format!("{key} servers"),
            user.name.span(),
        );
        User {
            name: user.name.get_ref().clone(),
            hash: self.hash(user, &format!("{key} password")),
            networks: Network::ranges(&user.networks),
            priority: user.priority,
            senders: self.filter(&user.senders, &format!("{key} senders")),
            recipients: self.filter(&user.recipients, &format!("{key} recipients")),
            limits: limits(user),
            sessions: user.sessions.map(written::zero_as_unlimited),
            mailboxes: self.mailboxes(user, servers, &key),
            assume_from: self.address(&user.assume_from, &format!("{key} assume_from")),
        }
    }

    fn hash(&mut self, user: &text::UserTable, key: &str) -> Option<crate::base::Secret> {
        let hash = self.secret(&user.password, key)?;
        let is_read = !hash.expose_secret().is_empty();
        if is_read && Hash::parse(hash.expose_secret()).is_none() {
            let span = user.password.as_ref()?.span();
            let text = "it is not an argon2id hash; make one with `mailferry hash-password`";
            self.problem(span, key, text);
        }
        Some(hash)
    }

    /// Checks the servers that a user or a listener names, if any.
    pub(super) fn servers_of(
        &mut self,
        servers: &Option<Vec<Spanned<String>>>,
        rules: &[ServerRule],
        key: &str,
        place: Range<usize>,
    ) {
        if servers.as_ref().is_some_and(Vec::is_empty) {
            self.problem(place, key, "it is empty, so nothing could be sent; name servers, or remove the key to allow all");
        }
        self.known_servers(servers.iter().flatten(), rules, key);
    }

    /// Reports names that no server has.
    pub(super) fn known_servers<'n>(
        &mut self,
        names: impl Iterator<Item = &'n Spanned<String>>,
        rules: &[ServerRule],
        key: &str,
    ) {
        for name in names {
            if !rules.iter().any(|rule| rule.name == *name.get_ref()) {
                let known: Vec<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
                let text = format!(
                    "there is no [[server]] named {:?}; the servers are: {}",
                    name.get_ref(),
                    known.join(", ")
                );
                self.problem(name.span(), key, text);
            }
        }
    }

    pub(super) fn address(
        &mut self,
        address: &Option<Spanned<String>>,
        key: &str,
    ) -> Option<Address> {
        let address = address.as_ref()?;
        self.ok(Address::parse(address.get_ref()), address.span(), key)
    }

    pub(super) fn filter(&mut self, filter: &Option<Spanned<String>>, key: &str) -> Option<Filter> {
        let filter = filter.as_ref()?;
        let text = filter.get_ref();
        if text.is_empty() {
            let text = "it is empty; name addresses or domains, or remove the key to allow all";
            self.problem(filter.span(), key, text);
        }
        if text.contains(['*', ';']) {
            let text =
                "wildcards are not supported; list each address or domain, separated by commas";
            self.problem(filter.span(), key, text);
        }
        self.ok(Filter::parse(text), filter.span(), key)?
    }
}

fn key_of(user: &text::UserTable) -> String {
    format!("[[user]] {:?}", user.name.get_ref())
}

/// Returns the configured limits; 0 means no limit.
fn limits(user: &text::UserTable) -> Vec<Limit> {
    let rows = [
        (
            "messages_per_minute",
            Unit::Messages,
            MINUTE,
            user.messages_per_minute,
        ),
        (
            "messages_per_day",
            Unit::Messages,
            DAY,
            user.messages_per_day,
        ),
        (
            "recipients_per_minute",
            Unit::Recipients,
            MINUTE,
            user.recipients_per_minute,
        ),
        (
            "recipients_per_day",
            Unit::Recipients,
            DAY,
            user.recipients_per_day,
        ),
    ];
    let limits = rows
        .into_iter()
        .filter_map(|row| limit(row.0, row.1, row.2, row.3));
    limits.collect()
}

/// Returns the limit that a key sets; `None` if the key is missing or 0.
pub(super) fn limit(
    setting: &'static str,
    unit: Unit,
    period: Duration,
    most: Option<u64>,
) -> Option<Limit> {
    Some(Limit {
        setting,
        unit,
        period,
        most: most.filter(|most| *most > 0)?,
    })
}
