//! The mailboxes, and who may read which. Pure, except that a mailbox refers to the source of its tokens.

use std::collections::HashMap;
use std::sync::Arc;

use super::protocol::ReadingProtocol;
use super::refused::Refused;
use crate::token::Source;
use crate::transport::RemoteHost;
use crate::transport::smtp::Auth;

/// A mailbox that apps can read: the account of a server.
#[derive(Clone)]
pub struct Mailbox {
    /// The server's name in the configuration.
    pub server: String,
    /// The mailbox's address.
    pub address: String,
    /// The host for IMAP, if the server is used for it.
    pub imap: Option<RemoteHost>,
    /// The host for POP3, if the server is used for it.
    pub pop3: Option<RemoteHost>,
    /// How to sign in.
    pub auth: Auth,
    /// The source of the tokens, for XOAUTH2.
    pub token: Option<Arc<Source>>,
}

impl Mailbox {
    /// Returns the host for a protocol, if the server is used for it.
    pub fn host(&self, protocol: ReadingProtocol) -> Option<&RemoteHost> {
        match protocol {
            ReadingProtocol::Imap => self.imap.as_ref(),
            ReadingProtocol::Pop3 => self.pop3.as_ref(),
        }
    }

    fn is_named(&self, name: &str) -> bool {
        self.server == name || self.address.eq_ignore_ascii_case(name)
    }
}

/// The mailboxes, and the users who may read them.
#[derive(Clone, Default)]
pub struct IncomingSettings {
    /// The mailboxes by server.
    pub mailboxes: HashMap<String, Arc<Mailbox>>,
    /// The servers whose mailboxes each user may read, in the order of the configuration.
    pub readers: HashMap<String, Vec<String>>,
}

/// A sign-in name, split into the user and the mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignInName<'a> {
    /// The user.
    pub user: &'a str,
    /// The mailbox, if the name has one: a server's name or a mailbox's address.
    pub mailbox: Option<&'a str>,
}

impl IncomingSettings {
    /// Splits a sign-in name, `USER` or `USER/MAILBOX`. A user's own name may have a slash.
    pub fn split<'a>(&self, name: &'a str) -> SignInName<'a> {
        let whole = SignInName {
            user: name,
            mailbox: None,
        };
        if self.readers.contains_key(name) {
            return whole;
        }
        name.rsplit_once('/')
            .map_or(whole, |(user, mailbox)| SignInName {
                user,
                mailbox: Some(mailbox),
            })
    }

    /// Returns the mailbox that a user reads with this name over this protocol.
    pub fn mailbox(
        &self,
        name: SignInName<'_>,
        protocol: ReadingProtocol,
    ) -> Result<Arc<Mailbox>, Refused> {
        let user = || name.user.to_owned();
        let servers = self.readers.get(name.user).map_or(&[][..], Vec::as_slice);
        let mut mailboxes = servers
            .iter()
            .filter_map(|server| self.mailboxes.get(server));
        let found = match (name.mailbox, servers) {
            (_, []) => return Err(Refused::NoMailbox { user: user() }),
            (Some(wanted), _) => mailboxes.find(|mailbox| mailbox.is_named(wanted)),
            (None, [_]) => mailboxes.next(),
            (None, _) => {
                let mut usable = mailboxes.filter(|mailbox| mailbox.host(protocol).is_some());
                match (usable.next(), usable.next()) {
                    (Some(only), None) => Some(only),
                    _ => {
                        let mailboxes = servers.to_vec();
                        return Err(Refused::WhichMailbox {
                            user: user(),
                            mailboxes,
                        });
                    }
                }
            }
        };
        let Some(mailbox) = found else {
            let mailbox = name.mailbox.unwrap_or_default().to_owned();
            return Err(Refused::NotYours {
                user: user(),
                mailbox,
            });
        };
        if mailbox.host(protocol).is_none() {
            return Err(Refused::NotForThis {
                server: mailbox.server.clone(),
                protocol: protocol.name(),
            });
        }
        Ok(mailbox.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{Tls, Upstream};

    fn settings() -> IncomingSettings {
        let remote = Upstream::of_exchange().smtp.remote;
        let mailbox = |server: &str, imap, pop3| {
            let host = |is_used: bool| is_used.then(|| remote.clone());
            let mailbox = Mailbox {
                server: server.to_owned(),
                address: format!("{server}@example.com"),
                imap: host(imap),
                pop3: host(pop3),
                auth: Auth::None,
                token: None,
            };
            (server.to_owned(), Arc::new(mailbox))
        };
        assert_eq!(remote.tls, Tls::Starttls);
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        IncomingSettings {
            mailboxes: [
                mailbox("a", true, false),
                mailbox("b", true, true),
                mailbox("c", true, true),
            ]
            .into(),
            readers: [
                ("one".to_owned(), names(&["a"])),
                ("two".to_owned(), names(&["a", "b"])),
                ("all/three".to_owned(), names(&["a", "b", "c"])),
                ("none".to_owned(), names(&[])),
            ]
            .into(),
        }
    }

    #[test]
    fn a_user_reads_only_its_own_mailboxes() {
        use ReadingProtocol::{Imap, Pop3};
        let settings = settings();
        let ask = |name: &str, protocol| match settings.mailbox(settings.split(name), protocol) {
            Ok(mailbox) => mailbox.server.clone(),
            Err(Refused::NoMailbox { .. }) => "none".into(),
            Err(Refused::WhichMailbox { mailboxes, .. }) => mailboxes.join(" or "),
            Err(Refused::NotYours { .. }) => "not yours".into(),
            Err(Refused::NotForThis { .. }) => "not for this".into(),
            Err(other) => other.to_string(),
        };
        for (name, protocol, expected) in [
            ("one", Imap, "a"),
            ("one", Pop3, "not for this"),
            ("one/a", Imap, "a"),
            ("one/A@Example.com", Imap, "a"),
            ("one/b", Imap, "not yours"),
            ("one/nobody", Imap, "not yours"),
            ("two", Imap, "a or b"),
            ("two", Pop3, "b"),
            ("two/b@example.com", Imap, "b"),
            ("all/three", Imap, "a or b or c"),
            ("all/three/c", Imap, "c"),
            ("none", Imap, "none"),
            ("none/a", Imap, "none"),
            ("stranger/a", Imap, "none"),
        ] {
            assert_eq!(ask(name, protocol), expected, "{name} {protocol}");
        }
    }
}
