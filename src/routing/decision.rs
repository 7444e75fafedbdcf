//! The routing decision, with its steps numbered as in `routing/rules.md`.

mod choice;
mod recipients;
mod rewriting;

use std::fmt;

use super::lane;
use super::policy::{Caller, Key, NullSender, Policy, ServerRule};
use crate::message::{Address, Author, Mailbox, ReplyTo, ReversePath, Rewriting};

/// The decision about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The message takes this route.
    Route(Route),
    /// The message is refused.
    Refused(Refusal),
}

impl Decision {
    /// True if another From replaces the message's own.
    pub fn replaces_from(&self) -> bool {
        matches!(self, Self::Route(route) if route.plan.from.is_some())
    }
}

/// The route of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The server's name. If the server signs in as each sender, the name is followed by `/` and the mailbox.
    pub server: String,
    /// The changes to the message.
    pub plan: Rewriting,
    /// The reason for this route.
    pub reason: Reason,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The cause of the refusal.
    pub why: NotRouted,
    /// The step that decided.
    pub reason: Reason,
}

/// The cause of a refusal, in words for the sender.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRouted {
    /// No server's from_filter admits the sender (step 6).
    #[error(
        "<{sender}>: no server's from_filter admits this sender, and none may send the message as default_from{which}"
    )]
    Sender {
        /// The sender's address, empty for the null sender.
        sender: String,
        /// A note about the servers that were considered; empty if all were considered.
        which: &'static str,
    },
    /// `on_mismatch = "reject"`: the server would have to rewrite the From.
    #[error(
        "{author}: the from_filter of server {server} does not admit this From, and on_mismatch is \"reject\""
    )]
    From {
        /// The author, or a description if there is none.
        author: String,
        /// The server.
        server: String,
    },
    /// No server takes mail to these recipients from this sender.
    #[error("{sender}, to {recipients}: {}", if *.is_taken {
        "none of the servers whose to_filter admits these recipients has a from_filter that admits this sender"
    } else {
        "no server's to_filter admits these recipients"
    })]
    Recipients {
        /// The sender's address in angle brackets, as in [`NotRouted::Sender`].
        sender: String,
        /// The recipients' addresses in angle brackets.
        recipients: String,
        /// True if a server takes mail to these recipients from other senders.
        is_taken: bool,
    },
    /// The chosen server has no address that it could send as.
    #[error(
        "Server {0} has no address to send this message as: set default_from, or the server's `address`"
    )]
    NoIdentity(String),
    /// The chosen server signs in as each sender, and its filter admits no address of the message.
    #[error(
        "Server {0} signs in as each sender, and its from_filter admits no address to send this message as: add \
         the sender or default_from to it"
    )]
    NoMailbox(String),
}

/// The step that decided, with the address that it matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Step 1: the user is pinned to the server.
    Pinned,
    /// Step 2: an address in the server's filter equals the address of this key.
    Address(Key, Address),
    /// Step 3: a domain in the server's filter equals the domain of this key.
    Domain(Key, Address),
    /// Step 4: the server admits `default_from`.
    DefaultFrom(Address),
    /// Step 5: the first server without a filter.
    Unfiltered,
    /// Step 6: the first server takes mail that no filter admits.
    LastResort,
    /// Step 6, refused: no server's filter admits the sender.
    NotAdmitted,
    /// A server was found, but its filter does not admit the author.
    FromNotAdmitted,
    /// A server was found, but it has no address to send as.
    NoIdentity,
    /// A report of this program goes through the default server.
    Report,
}

impl Policy {
    /// Returns the rules for a user at a listener. A user or listener that is not (or no longer) configured
    /// has no rules.
    pub fn caller(&self, user: &str, listener: &str) -> Caller<'_> {
        let (rule, here) = (self.users.get(user), self.listeners.get(listener));
        let own = rule.and_then(|rule| rule.default_from.as_ref());
        Caller {
            pinned: rule.and_then(|rule| rule.pinned.as_deref()),
            servers: rule.and_then(|rule| rule.servers.as_deref()),
            here: here.and_then(|rule| rule.servers.as_deref()),
            default_from: own.or(here.and_then(|rule| rule.default_from.as_ref())),
            recipient: None,
        }
    }

    /// Returns the default sender that counts for a user at a listener.
    fn default_from<'a>(&'a self, caller: &Caller<'a>) -> Option<&'a Address> {
        caller.default_from.or(self.default_from.as_ref())
    }

    /// Chooses the route of a message, or refuses the message.
    pub fn decide(&self, sender: &ReversePath, author: &Author, caller: Caller) -> Decision {
        let Some(choice) = self.choose(sender, author.mailbox().map(|m| &m.address), caller) else {
            let why = self.not_admitted(sender, author, caller);
            return refused(self.with_recipient(why, &caller), Reason::NotAdmitted);
        };
        let default_from = self.default_from(&caller);
        let from = match self.rewritten_from(&choice, author, default_from) {
            Ok(from) => from,
            Err(refusal) => return Decision::Refused(refusal),
        };
        let mailbox = match Self::mailbox(&choice, author, from.as_ref()) {
            Ok(mailbox) => mailbox,
            Err(refusal) => return Decision::Refused(refusal),
        };
        let envelope_sender = match (&mailbox, sender) {
            // Exchange lets a mailbox send only as itself.
            (Some(mailbox), ReversePath::Mailbox(address)) if address != mailbox => {
                ReversePath::Mailbox(mailbox.clone())
            }
            (Some(mailbox), ReversePath::Null) if self.null_sender == NullSender::Identity => {
                ReversePath::Mailbox(mailbox.clone())
            }
            _ => self.rewritten_sender(&choice, sender, author, from.as_ref()),
        };
        let own = author.mailbox().map(|mailbox| &mailbox.address);
        let is_for_another = from.as_ref().is_some_and(|from| own != Some(&from.address));
        let reply_to = match author {
            Author::One(_) | Author::Several(Some(_)) => Some(ReplyTo::AsItCame),
            Author::Lenient(mailbox) => Some(ReplyTo::Address(mailbox.address.clone())),
            _ => None,
        };
        Decision::Route(Route {
            server: named(choice.server, mailbox.as_ref()),
            plan: Rewriting {
                reply_to: reply_to.filter(|_| self.reply_to && is_for_another),
                is_for_another,
                envelope_sender,
                from,
            },
            reason: choice.reason,
        })
    }

    /// Decides at MAIL, when only the envelope sender is known. Returns a refusal only if no header From
    /// could change the decision.
    pub fn refuses_at_mail(&self, sender: &ReversePath, caller: Caller) -> Option<NotRouted> {
        if self.keys.contains(&Key::Header) || self.choose(sender, None, caller).is_some() {
            return None;
        }
        Some(NotRouted::Sender {
            sender: sender.to_string(),
            which: caller.narrowed(),
        })
    }

    /// Returns the route of a report that this program writes itself, and the address that the report is sent
    /// as. The candidates are the servers that have an address to send as, the default server first. The
    /// first candidate for which `works` returns true is used. If there is none, the first of all candidates
    /// is used.
    pub fn report_route(&self, works: impl Fn(&str) -> bool) -> Option<(Route, Address)> {
        let ways = self.report_ways();
        let name = |server: &ServerRule, identity: &Address| {
            named(server, server.is_per_sender.then_some(identity))
        };
        let works = |(server, identity): &&(&ServerRule, Address)| works(&name(server, identity));
        let (server, identity) = ways.iter().find(works).or(ways.first())?;
        let envelope_sender = match self.null_sender {
            NullSender::Keep => ReversePath::Null,
            NullSender::Identity => ReversePath::Mailbox(identity.clone()),
        };
        let plan = Rewriting {
            envelope_sender,
            from: Some(Mailbox::new(Some("Mail Delivery System"), identity.clone())),
            is_for_another: false,
            reply_to: None,
        };
        let route = Route {
            server: name(server, identity),
            plan,
            reason: Reason::Report,
        };
        Some((route, identity.clone()))
    }

    /// Returns the servers that can send a report, each with the address that it sends as.
    fn report_ways(&self) -> Vec<(&ServerRule, Address)> {
        // A report may be for anybody.
        let all = self.servers.iter().filter(|server| server.to.is_none());
        let all: Vec<&ServerRule> = all.collect();
        let by_default = Self::by_default(&all, self.default_from.as_ref());
        let by_default = by_default.map(|choice| choice.server);
        let unfiltered = all.iter().copied().find(|server| server.filter.is_none());
        let first = by_default.into_iter().chain(unfiltered);
        let mut ways: Vec<(&ServerRule, Address)> = Vec::new();
        for server in first.chain(all) {
            let admitted = self
                .default_from
                .as_ref()
                .filter(|from| server.admits(from));
            let identity = admitted.or(server.address.as_ref());
            let is_new = !ways.iter().any(|(known, _)| known.name == server.name);
            ways.extend(
                identity
                    .filter(|_| is_new)
                    .map(|identity| (server, identity.clone())),
            );
        }
        ways
    }

    fn not_admitted(&self, sender: &ReversePath, author: &Author, caller: Caller) -> NotRouted {
        let by_header = || {
            author
                .mailbox()
                .map(|m| ReversePath::Mailbox(m.address.clone()))
        };
        let named = match self.keys.first() {
            Some(Key::Header) => by_header().unwrap_or_else(|| sender.clone()),
            _ if *sender == ReversePath::Null => by_header().unwrap_or(ReversePath::Null),
            _ => sender.clone(),
        };
        NotRouted::Sender {
            sender: named.to_string(),
            which: caller.narrowed(),
        }
    }
}

fn named(server: &ServerRule, mailbox: Option<&Address>) -> String {
    match mailbox {
        Some(mailbox) => lane::of(&server.name, mailbox),
        None => server.name.clone(),
    }
}

fn refused(why: NotRouted, reason: Reason) -> Decision {
    Decision::Refused(Refusal { why, reason })
}

/// Writes the reason in words. The text is shown after the server's name.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pinned => f.write_str("the user is pinned to this server"),
            Self::Address(key, address) => write!(f, "its from_filter has the address of the {key}, {address}"),
            Self::Domain(key, address) => {
                write!(f, "its from_filter has the domain of the {key}, {}", address.domain())
            }
            Self::DefaultFrom(address) => {
                write!(f, "no from_filter admits the sender; this one admits default_from, {address}")
            }
            Self::Unfiltered => f.write_str("no from_filter admits the sender; this is the first server without one"),
            Self::LastResort => f.write_str("no from_filter admits the sender; the first server is the last resort"),
            Self::NotAdmitted => f.write_str("none of the allowed servers has a from_filter that admits the sender or default_from"),
            Self::FromNotAdmitted => f.write_str("the server's from_filter does not admit the header From, and on_mismatch is \"reject\""),
            Self::NoIdentity => f.write_str("the server has no address to send as"),
            Self::Report => f.write_str("a report goes through the default server"),
        }
    }
}

#[cfg(test)]
mod tests;
