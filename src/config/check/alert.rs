//! `[[alert]]`: the ways to tell people that something needs them.

use std::collections::HashSet;

use toml::Spanned;
use url::Url;

use super::checker::Checker;
use crate::alerts::{AlertChannel, Way};
use crate::base::secret::ExposeSecret;
use crate::config::settings::Secrets;
use crate::config::text::{AlertTable, File};
use crate::message::Address;
use crate::routing::ServerRule;

impl Checker<'_> {
    pub(super) fn alerts(&mut self, file: &File, rules: &[ServerRule]) -> Vec<AlertChannel> {
        let (mut names, mut channels) = (HashSet::new(), Vec::new());
        for table in &file.alert {
            let name = table.name.get_ref();
            let key = format!("[[alert]] {name:?}");
            if !names.insert(name.clone()) {
                self.problem(
                    table.name.span(),
                    &key,
                    "there are two of this name; rename one",
                );
            }
            if let Some(way) = self.way(table, rules, &key) {
                let name = name.clone();
                channels.push(AlertChannel { name, way });
            }
        }
        channels
    }

    fn way(&mut self, table: &AlertTable, rules: &[ServerRule], key: &str) -> Option<Way> {
        let ways = [
            table.url.is_some(),
            table.secret_url.is_some(),
            table.command.is_some(),
            table.mail.is_some(),
        ];
        if ways.iter().filter(|is_set| **is_set).count() != 1 {
            let text = "write exactly one of `url`, `secret_url`, `command` and `mail`";
            self.problem(table.name.span(), key, text);
            return None;
        }
        if let Some(form) = table.form.as_ref().filter(|_| !ways[0] && !ways[1]) {
            let text = "only a webhook has a form; remove it";
            self.problem(form.span(), &format!("{key} form"), text);
        }
        if let Some(servers) = table.servers.as_ref().filter(|_| !ways[3])
            && let Some(first) = servers.first()
        {
            let text = "only an alert by mail has servers; remove them";
            self.problem(first.span(), &format!("{key} servers"), text);
        }
        match (&table.command, &table.mail) {
            (Some(command), _) => self.command(command, key),
            (_, Some(mail)) => self.by_mail(table, mail, rules, key),
            _ => self.webhook(table, key),
        }
    }

    fn webhook(&mut self, table: &AlertTable, key: &str) -> Option<Way> {
        let url = match &table.url {
            Some(url) => url.get_ref().clone().into(),
            None => self.secret(&table.secret_url, &format!("{key} secret_url"))?,
        };
        let span = table.url.as_ref().map(Spanned::span);
        let span = span.or(table.secret_url.as_ref().map(Spanned::span))?;
        let is_left = self.secrets == Secrets::Left && table.secret_url.is_some();
        let is_url = Url::parse(url.expose_secret())
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !is_left && !is_url {
            // A secret is not repeated in an error.
            let text = "it is not a URL; write https://HOST/PATH";
            self.problem(span, key, text);
        }
        let form = table.form.as_ref().map(|form| *form.get_ref());
        Some(Way::Webhook {
            url,
            form: form.unwrap_or_default(),
        })
    }

    fn command(&mut self, command: &Spanned<Vec<String>>, key: &str) -> Option<Way> {
        if command.get_ref().first().is_none_or(String::is_empty) {
            let text = "it is empty; write the program and its arguments: [\"/usr/local/bin/notify\", \"mail\"]";
            self.problem(command.span(), &format!("{key} command"), text);
        }
        Some(Way::Command(command.get_ref().clone()))
    }

    fn by_mail(
        &mut self,
        table: &AlertTable,
        mail: &Spanned<String>,
        rules: &[ServerRule],
        key: &str,
    ) -> Option<Way> {
        let to: Result<Address, _> = mail.get_ref().parse();
        let to = match to {
            Ok(to) => to,
            Err(error) => {
                self.problem(mail.span(), &format!("{key} mail"), error.to_string());
                return None;
            }
        };
        let servers = table.servers.as_ref();
        self.known_servers(
            servers.into_iter().flatten(),
            rules,
            &format!("{key} servers"),
        );
        let all = || rules.iter().map(|rule| rule.name.clone()).collect();
        let named = servers.map(|servers| servers.iter().map(|it| it.get_ref().clone()).collect());
        let servers: Vec<String> = named.unwrap_or_else(all);
        if servers.len() == 1 {
            self.warnings.push(format!(
                "{key}: there is only one server to send by, so no alert can be sent if server {} fails; add a webhook or a command",
                servers[0]
            ));
        }
        Some(Way::Mail { to, servers })
    }
}
