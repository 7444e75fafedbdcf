//! Servers of special kinds: for many mailboxes, of High Volume Email, and with a fallback.

use std::time::Duration;

use toml::Spanned;

use super::super::checker::Checker;
use crate::config::text::{self, AuthMethod, Mode, Protocol};
use crate::delivery::Fallback;
use crate::message::Priority;
use crate::routing::Filter;
use crate::token::Grant;

/// The default for `fallback_after`: longer than most outages of a provider.
const FALLBACK_AFTER: Duration = Duration::from_secs(3_600);

/// The value of `username` with which a server signs in as each sender.
const PER_SENDER: &str = "{from}";

impl Checker<'_> {
    /// Checks what the server is used for.
    pub(super) fn uses(&mut self, server: &text::ServerTable, key: &str) {
        if let Some(uses) = &server.uses
            && uses.get_ref().is_empty()
        {
            let text = "it is empty, so the server is used for nothing; write \"smtp\", \"imap\" or \"pop3\"";
            self.problem(uses.span(), &format!("{key} use"), text);
        }
        let reads = server.is_for(Protocol::Imap) || server.is_for(Protocol::Pop3);
        let has_no_sign_in = server
            .auth
            .as_ref()
            .is_some_and(|auth| *auth.get_ref() == AuthMethod::None);
        if reads && has_no_sign_in {
            let text = "nobody can read a mailbox without a sign-in; write \"plain\", or oauth = \"NAME\" instead";
            let span = server.auth.as_ref().map(Spanned::span).unwrap_or_default();
            self.problem(span, &format!("{key} auth"), text);
        }
        let sends = server.is_for(Protocol::Smtp);
        if is_per_sender(server) {
            self.per_sender(server, key);
        }
        if server.is_hve() {
            self.high_volume_email(server, key);
        }
        let filters = [
            (&server.from_filter, "from_filter"),
            (&server.to_filter, "to_filter"),
        ];
        for (filter, name) in filters {
            if let (false, Some(filter)) = (sends, filter) {
                let text =
                    "the server is not used for sending; remove the key, or add \"smtp\" to `use`";
                self.problem(filter.span(), &format!("{key} {name}"), text);
            }
        }
    }

    /// Checks a server that signs in as each sender: only the app itself can do that, and only a filter bounds as
    /// whom.
    pub(super) fn per_sender(&mut self, server: &text::ServerTable, key: &str) {
        let span = server.username.as_ref().map(Spanned::span);
        let span = span.unwrap_or_default();
        let is_app = |grant: &Spanned<Grant>| *grant.get_ref() == Grant::ClientCredentials;
        let reads = server.is_for(Protocol::Imap) || server.is_for(Protocol::Pop3);
        let text = if !server.grant.as_ref().is_none_or(is_app) || server.oauth.is_none() {
            "\"{from}\" needs an app that signs in by itself; add oauth = \"NAME\" and grant = \"client_credentials\""
        } else if server.from_filter.is_none() {
            "with \"{from}\" the server signs in as each sender; add from_filter with the domains or addresses whose mailboxes \
             it may use"
        } else if reads {
            "reading needs one mailbox; write its address here, or remove \"imap\" and \"pop3\" from `use`"
        } else if let Some(address) = &server.address {
            let text = "with username = \"{from}\" the server sends as the mailbox that it signs in as; remove this key";
            return self.problem(address.span(), &format!("{key} address"), text);
        } else {
            return;
        };
        self.problem(span, &format!("{key} username"), text);
    }

    /// Checks an account of High Volume Email, which has rules of its own: it sends only as itself, and only to
    /// recipients within the tenant.
    pub(super) fn high_volume_email(&mut self, server: &text::ServerTable, key: &str) {
        let span = server.preset.as_ref().map(Spanned::span);
        let span = span.unwrap_or_default();
        if server.to_filter.is_none() {
            let text = "High Volume Email sends to recipients within the tenant only; add to_filter with the tenant's domains";
            self.problem(span.clone(), &format!("{key} to_filter"), text);
        }
        if server.oauth.is_none() || is_per_sender(server) {
            let text = "a High Volume Email account signs in with OAuth as itself; add oauth = \"NAME\", and write its address as username";
            self.problem(span, &format!("{key} preset"), text);
        }
        let account = server.username.as_ref().map(|name| name.get_ref());
        let parse = |text: &str| Filter::parse(text).ok().flatten();
        if let (Some(filter), Some(account)) = (&server.from_filter, account)
            && parse(filter.get_ref()) != parse(account)
        {
            let text = format!(
                "High Volume Email accepts no sender but the account itself; write {account:?}, or remove the key. Other senders come here \
                 through default_from, or by a user's `server`, and their From is rewritten"
            );
            self.problem(filter.span(), &format!("{key} from_filter"), text);
        }
    }

    /// Returns the fallback of a server, if it has one.
    pub(super) fn fallback(
        &mut self,
        file: &text::File,
        server: &text::ServerTable,
        key: &str,
    ) -> Option<Fallback> {
        let key = format!("{key} fallback");
        let Some(name) = &server.fallback else {
            if server.fallback_after.is_some() || server.fallback_priorities.is_some() {
                let text = "it is missing, so the other fallback keys have no effect; add fallback = \"SERVER\"";
                self.problem(server.name.span(), &key, text);
            }
            return None;
        };
        let mut others = file.server.iter();
        let other = others.find(|other| other.name.get_ref() == name.get_ref());
        let text = match other {
            None => "there is no server of this name",
            Some(other) if other.name == server.name => "a server cannot take over from itself",
            Some(other) if !other.is_for(Protocol::Smtp) => "that server is not used for sending",
            Some(_) if !server.is_for(Protocol::Smtp) => {
                "this server is not used for sending, so nothing can be taken over"
            }
            Some(_) if server.mode == Mode::Direct => {
                "a server in direct mode has no queue that another server could take over"
            }
            Some(_) => "",
        };
        if !text.is_empty() {
            let text = format!("{text}; name another [[server]], or remove the key");
            self.problem(name.span(), &key, text);
            return None;
        }
        let priorities = server.fallback_priorities.as_ref();
        Some(Fallback {
            server: name.get_ref().clone(),
            after: server
                .fallback_after
                .map_or(FALLBACK_AFTER, |after| after.0),
            // Bulk mail can wait.
            priorities: match priorities {
                Some(priorities) => priorities.get_ref().clone(),
                None => vec![Priority::High, Priority::Normal],
            },
        })
    }
}

/// True if the server signs in as each sender.
pub(super) fn is_per_sender(server: &text::ServerTable) -> bool {
    let username = server.username.as_ref();
    username.is_some_and(|name| name.get_ref() == PER_SENDER)
}
