//! The reading of servers' mailboxes: apps read mail, and mailferry reads delivery reports.

use std::collections::HashMap;

use toml::Spanned;

use super::super::checker::Checker;
use crate::bounces::{Folder, Handled};
use crate::config::text::{self, Protocol};
use crate::incoming::ReadingProtocol;
use crate::transport::Tls;

impl Checker<'_> {
    /// The reports of a mailbox are read once, and one setting says what is done with them.
    pub(super) fn watched_twice(&mut self, servers: &[text::ServerTable]) {
        let mut seen: HashMap<String, &str> = HashMap::new();
        for server in servers {
            let Some(on) = server.bounces.as_ref().filter(|on| *on.get_ref()) else {
                continue;
            };
            let Some(mailbox) = &server.username else {
                continue;
            };
            let name = server.name.get_ref();
            let first = seen.entry(mailbox.get_ref().to_lowercase()).or_insert(name);
            if *first != name {
                let text = format!(
                    "the reports in {} are read for server {first} already; remove this key",
                    mailbox.get_ref()
                );
                self.problem(on.span(), &format!("[[server]] {name:?} bounces"), text);
            }
        }
    }

    /// Returns what to do with matched delivery reports in the mailbox. The inner value is `None` if they are not read.
    pub(super) fn bounces(
        &mut self,
        file: &text::File,
        server: &text::ServerTable,
        key: &str,
    ) -> Option<Option<Handled>> {
        let is_set = |value: &Option<Spanned<bool>>| value.as_ref().is_some_and(|it| *it.get_ref());
        let (folder, deletes) = (&server.bounce_folder, is_set(&server.delete_bounces));
        let Some(on) = server.bounces.as_ref().filter(|on| *on.get_ref()) else {
            let written = folder.as_ref().map(|it| (it.span(), "bounce_folder"));
            let written = written.or(server
                .delete_bounces
                .as_ref()
                .map(|it| (it.span(), "delete_bounces")));
            if let Some((span, name)) = written {
                let text = "it has no effect, because the reports are not read; add bounces = true";
                self.problem(span, &format!("{key} {name}"), text);
            }
            return Some(None);
        };
        if file.spool.history.is_zero() {
            let text = "a report is matched with the history of what was sent, which is not kept; remove [spool] history = \"0s\"";
            self.problem(on.span(), &format!("{key} bounces"), text);
        }
        if !server.is_for(Protocol::Imap) {
            let text = "the reports are read by IMAP; add \"imap\" to `use`";
            self.problem(on.span(), &format!("{key} bounces"), text);
            return None;
        }
        let Some(folder) = folder else {
            return Some(Some(if deletes {
                Handled::Deleted
            } else {
                Handled::Marked
            }));
        };
        if deletes {
            let text =
                "reports are either moved or deleted; remove bounce_folder, or delete_bounces";
            self.problem(folder.span(), &format!("{key} bounce_folder"), text);
        }
        let parsed = Folder::parse(folder.get_ref());
        let folder = self.ok(parsed, folder.span(), &format!("{key} bounce_folder"))?;
        Some(Some(Handled::Moved(folder)))
    }

    /// Returns the host, port and protection for reading by this protocol. The inner value is `None` if the
    /// server is not used for it.
    pub(super) fn reading_host(
        &mut self,
        server: &text::ServerTable,
        registration: Option<&text::OAuthTable>,
        protocol: ReadingProtocol,
        key: &str,
    ) -> Option<Option<(String, u16, Tls)>> {
        let key = format!("{key} {}", protocol.name());
        let (written, usage) = match protocol {
            ReadingProtocol::Imap => (&server.imap, Protocol::Imap),
            ReadingProtocol::Pop3 => (&server.pop3, Protocol::Pop3),
        };
        if !server.is_for(usage) {
            if written.is_some() {
                let text = format!(
                    "the server is not used for it; add \"{}\" to `use`",
                    protocol.name()
                );
                self.problem(server.name.span(), &key, text);
            }
            return Some(None);
        }
        let preset = registration.and_then(|registration| {
            registration
                .provider
                .reading_host(protocol, registration.cloud)
        });
        let usual = text::RemoteTable::default();
        let written = written.as_ref().unwrap_or(&usual);
        let host = self.host_of(&written.host, preset, server.name.span(), &key)?;
        let tls = match &written.tls {
            Some(tls) => self.tls_mode(tls, &host, &key),
            None => Tls::Implicit,
        };
        let (implicit, other) = protocol.ports();
        let port = written.port.unwrap_or(match tls {
            Tls::Implicit => implicit,
            Tls::Starttls | Tls::None => other,
        });
        Some(Some((host, port, tls)))
    }
}
