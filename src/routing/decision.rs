//! The decision itself, step by step as the specification numbers them.

use std::fmt;

use super::policy::{Caller, Key, NullSender, OnMismatch, Policy, ServerRule};
use crate::message::{Address, Author, Mailbox, Plan, ReversePath};
use crate::session::Reply;

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It goes this way.
    Route(Route),
    /// It goes nowhere.
    Refused(Refusal),
}

/// The way of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The server's name.
    pub server: String,
    /// What is rewritten.
    pub plan: Plan,
    /// Why.
    pub reason: Reason,
}

/// A refusal, as the client hears it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The reply.
    pub reply: Reply,
    /// Why.
    pub reason: Reason,
}

/// The step that decided, with what it matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Step 1: the user is pinned to the server.
    Pinned,
    /// Step 2: an address in the server's filter equals this key.
    Address(Key, Address),
    /// Step 3: a domain in the server's filter equals this key's.
    Domain(Key, Address),
    /// Step 4: the server admits the default from.
    DefaultFrom(Address),
    /// Step 5: the first server without a filter.
    Unfiltered,
    /// Step 6: the first server takes what nobody admits.
    LastResort,
    /// Step 6, refused: no server's filter admits the sender.
    NotAdmitted,
    /// The server was found, and its filter does not admit the author.
    FromNotAdmitted,
    /// The server was found, and has no address to speak as.
    NoIdentity,
    /// A report of this program goes through the default server.
    Report,
}

/// A server, why, and the address that it is to speak as.
struct Choice<'p> {
    server: &'p ServerRule,
    identity: Option<Address>,
    reason: Reason,
}

impl Policy {
    /// What holds for a user; nothing special for one that is not known (any more).
    pub fn caller(&self, user: &str) -> Caller<'_> {
        let rule = self.users.get(user);
        Caller {
            pinned: rule.and_then(|rule| rule.pinned.as_deref()),
            servers: rule.and_then(|rule| rule.servers.as_deref()),
        }
    }

    /// Decides about a message.
    pub fn decide(&self, sender: &ReversePath, author: &Author, caller: Caller) -> Decision {
        let Some(choice) = self.choose(sender, author.mailbox().map(|m| &m.address), caller) else {
            return refused(self.not_admitted(sender, author), Reason::NotAdmitted);
        };
        let from = match self.rewritten_from(&choice, author) {
            Ok(from) => from,
            Err(refusal) => return Decision::Refused(refusal),
        };
        let envelope_sender = self.rewritten_sender(&choice, sender, author, from.as_ref());
        let valid_author = matches!(author, Author::One(_) | Author::Several(Some(_)));
        Decision::Route(Route {
            server: choice.server.name.clone(),
            plan: Plan {
                reply_to: self.reply_to && from.is_some() && valid_author,
                envelope_sender,
                from,
            },
            reason: choice.reason,
        })
    }

    /// Decides at MAIL, where only the envelope is known: a refusal that no header can change.
    pub fn refuses_at_mail(&self, sender: &ReversePath, caller: Caller) -> Option<Reply> {
        if self.keys.contains(&Key::Header) || self.choose(sender, None, caller).is_some() {
            return None;
        }
        Some(Reply::not_admitted(sender))
    }

    /// The way of a report that this program writes itself, and the address that it is from: the
    /// default server, else the first that can say who it is.
    pub fn report_route(&self) -> Option<(Route, Address)> {
        let by_default = self.by_default(&self.servers.iter().collect::<Vec<_>>());
        let unfiltered = || self.servers.iter().find(|server| server.filter.is_none());
        let server = by_default
            .map(|choice| choice.server)
            .or_else(|| {
                unfiltered()
                    .filter(|server| self.default_from.is_some() || server.address.is_some())
            })
            .or_else(|| self.servers.iter().find(|server| server.address.is_some()))?;
        let own = || server.address.clone();
        let identity = self
            .default_from
            .clone()
            .filter(|from| server.admits(from))
            .or_else(own)?;
        let envelope_sender = match self.null_sender {
            NullSender::Keep => ReversePath::Null,
            NullSender::Identity => ReversePath::Mailbox(identity.clone()),
        };
        let plan = Plan {
            envelope_sender,
            from: None,
            reply_to: false,
        };
        let route = Route {
            server: server.name.clone(),
            plan,
            reason: Reason::Report,
        };
        Some((route, identity))
    }

    fn choose<'p>(
        &'p self,
        sender: &ReversePath,
        author: Option<&Address>,
        caller: Caller,
    ) -> Option<Choice<'p>> {
        if let Some(name) = caller.pinned {
            let server = self.servers.iter().find(|server| server.name == name)?;
            return Some(self.pinned(server, author));
        }
        let may = |server: &&ServerRule| {
            caller
                .servers
                .is_none_or(|names| names.contains(&server.name))
        };
        let candidates: Vec<&ServerRule> = self.servers.iter().filter(may).collect();
        let keys: Vec<(Key, &Address)> = self
            .keys
            .iter()
            .filter_map(|&key| match key {
                Key::Envelope => Some((key, sender.address()?)),
                Key::Header => Some((key, author?)),
            })
            .collect();
        self.by_key(&candidates, &keys)
            .or_else(|| self.by_default(&candidates))
            .or_else(|| self.unfiltered(&candidates, &keys))
            .or_else(|| self.last_resort(&candidates))
    }

    fn pinned<'p>(&self, server: &'p ServerRule, author: Option<&Address>) -> Choice<'p> {
        let admitted = |address: &&Address| server.admits(address);
        let identity = author
            .filter(admitted)
            .or(self.default_from.as_ref().filter(admitted))
            .or(server.address.as_ref());
        Choice {
            server,
            identity: identity.cloned(),
            reason: Reason::Pinned,
        }
    }

    fn by_key<'p>(
        &self,
        candidates: &[&'p ServerRule],
        keys: &[(Key, &Address)],
    ) -> Option<Choice<'p>> {
        for &(key, address) in keys {
            if let Some(server) = candidates.iter().find(|server| server.has_address(address)) {
                let reason = Reason::Address(key, address.clone());
                return Some(Choice {
                    server,
                    identity: Some(address.clone()),
                    reason,
                });
            }
        }
        for &(key, address) in keys {
            if let Some(server) = candidates.iter().find(|server| server.has_domain(address)) {
                let admitted = self
                    .default_from
                    .as_ref()
                    .filter(|from| server.admits(from));
                let identity = Some(admitted.unwrap_or(address).clone());
                return Some(Choice {
                    server,
                    identity,
                    reason: Reason::Domain(key, address.clone()),
                });
            }
        }
        None
    }

    fn by_default<'p>(&self, candidates: &[&'p ServerRule]) -> Option<Choice<'p>> {
        let from = self.default_from.as_ref()?;
        let by_address = candidates.iter().find(|server| server.has_address(from));
        let server =
            by_address.or_else(|| candidates.iter().find(|server| server.has_domain(from)))?;
        Some(Choice {
            server,
            identity: Some(from.clone()),
            reason: Reason::DefaultFrom(from.clone()),
        })
    }

    fn unfiltered<'p>(
        &self,
        candidates: &[&'p ServerRule],
        keys: &[(Key, &Address)],
    ) -> Option<Choice<'p>> {
        let server = candidates.iter().find(|server| server.filter.is_none())?;
        let key = keys.first().map(|(_, address)| *address);
        let identity = self
            .default_from
            .as_ref()
            .or(key)
            .or(server.address.as_ref());
        Some(Choice {
            server,
            identity: identity.cloned(),
            reason: Reason::Unfiltered,
        })
    }

    fn last_resort<'p>(&self, candidates: &[&'p ServerRule]) -> Option<Choice<'p>> {
        let server = candidates.first().filter(|_| self.last_resort)?;
        let identity = self.default_from.as_ref().or(server.address.as_ref());
        Some(Choice {
            server,
            identity: identity.cloned(),
            reason: Reason::LastResort,
        })
    }

    /// The From that takes the place of the present one; none where it stays.
    fn rewritten_from(&self, choice: &Choice, author: &Author) -> Result<Option<Mailbox>, Refusal> {
        let Choice {
            server,
            identity,
            reason,
        } = choice;
        let is_pinned_free = *reason == Reason::Pinned && server.filter.is_none();
        let by_filter = matches!(
            reason,
            Reason::Pinned | Reason::Address(..) | Reason::Domain(..)
        );
        let address = author.mailbox().map(|mailbox| &mailbox.address);
        let stays = match author {
            Author::Missing => false,
            _ if is_pinned_free => true,
            Author::Malformed if by_filter && self.on_mismatch == OnMismatch::Reject => {
                return Err(mismatch(server, address));
            }
            Author::Malformed => false,
            _ if by_filter => match (address.is_some_and(|a| server.admits(a)), self.on_mismatch) {
                (true, _) | (false, OnMismatch::Keep) => true,
                (false, OnMismatch::Rewrite) => false,
                (false, OnMismatch::Reject) => return Err(mismatch(server, address)),
            },
            _ if *reason == Reason::LastResort && self.on_mismatch == OnMismatch::Keep => true,
            _ if *reason == Reason::Unfiltered && self.default_from.is_none() => true,
            _ => address.is_some() && address == identity.as_ref(),
        };
        if stays {
            return Ok(None);
        }
        match identity {
            Some(identity) => Ok(Some(encapsulated(author, identity))),
            None => Err(Refusal {
                reply: Reply::no_identity(&server.name),
                reason: Reason::NoIdentity,
            }),
        }
    }

    fn rewritten_sender(
        &self,
        choice: &Choice,
        sender: &ReversePath,
        author: &Author,
        from: Option<&Mailbox>,
    ) -> ReversePath {
        let Some(address) = sender.address() else {
            return match (self.null_sender, &choice.identity) {
                (NullSender::Identity, Some(identity)) => ReversePath::Mailbox(identity.clone()),
                _ => ReversePath::Null,
            };
        };
        let old_author = author.mailbox().map(|mailbox| &mailbox.address);
        let left_with_from = from.is_some() && old_author == Some(address);
        let speaks_as = from
            .map(|mailbox| &mailbox.address)
            .or(old_author)
            .or(choice.identity.as_ref());
        match speaks_as {
            Some(new) if left_with_from || !choice.server.admits(address) => {
                ReversePath::Mailbox(new.clone())
            }
            _ => sender.clone(),
        }
    }

    fn not_admitted(&self, sender: &ReversePath, author: &Author) -> Reply {
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
        Reply::not_admitted(&named)
    }
}

fn refused(reply: Reply, reason: Reason) -> Decision {
    Decision::Refused(Refusal { reply, reason })
}

fn mismatch(server: &ServerRule, author: Option<&Address>) -> Refusal {
    let reply = Reply::from_not_admitted(author, &server.name);
    Refusal {
        reply,
        reason: Reason::FromNotAdmitted,
    }
}

/// The author's name (else the local part) around the identity.
fn encapsulated(author: &Author, identity: &Address) -> Mailbox {
    let first = match author {
        Author::One(mailbox) | Author::Several(Some(mailbox)) => Some(mailbox),
        Author::Missing | Author::Malformed | Author::Several(None) => None,
    };
    let name = first.map(|mailbox| match &mailbox.name {
        Some(name) => name.as_str(),
        None => mailbox.address.local_part(),
    });
    Mailbox::new(name, identity.clone())
}

/// In words, to stand after the server's name.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pinned => f.write_str("the user is pinned to this server"),
            Self::Address(key, address) => write!(f, "its from_filter has the address of the {key}, {address}"),
            Self::Domain(key, address) => {
                write!(f, "its from_filter has the domain of the {key}, {}", address.domain())
            }
            Self::DefaultFrom(address) => {
                write!(f, "no from_filter admits the sender; this one admits the default from, {address}")
            }
            Self::Unfiltered => f.write_str("no from_filter admits the sender; this is the first server without one"),
            Self::LastResort => f.write_str("no from_filter admits the sender; the first server is the last resort"),
            Self::NotAdmitted => f.write_str("no server's from_filter admits the sender, and no default from is set that one admits"),
            Self::FromNotAdmitted => f.write_str("the server's from_filter does not admit the header From, and on_mismatch is \"reject\""),
            Self::NoIdentity => f.write_str("the server has no address to speak as"),
            Self::Report => f.write_str("a report goes through the default server"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::filter::Filter;
    use super::*;
    use proptest::prelude::*;

    const N: &str = "notifications@example.com";

    /// Servers as `name: filter; ...`, `-` for none; each signs in as `name@servers.test`.
    fn policy(servers: &str, default_from: Option<&str>, keys: &[Key]) -> Policy {
        let rule = |text: &str| {
            let (name, filter) = text.split_once(':').unwrap();
            let filter = filter.trim().replace('N', N).replace("Notifications", "N");
            ServerRule {
                name: name.trim().into(),
                address: Some(Address::parse(&format!("{}@servers.test", name.trim())).unwrap()),
                filter: Filter::parse(if filter == "-" { "" } else { &filter }).unwrap(),
            }
        };
        Policy {
            servers: servers
                .split(';')
                .filter(|s| s.contains(':'))
                .map(rule)
                .collect(),
            default_from: default_from.map(|text| Address::parse(text).unwrap()),
            keys: keys.to_vec(),
            reply_to: true,
            ..Policy::default()
        }
    }

    fn route(policy: &Policy, sender: &str, from: &str, caller: Caller) -> Decision {
        let sender = ReversePath::parse(sender).unwrap();
        policy.decide(&sender, &Author::of_value(from.as_bytes()), caller)
    }

    /// `server | envelope | From`, with `same` where nothing changes.
    fn shown(decision: Decision, sender: &str) -> String {
        match decision {
            Decision::Refused(refusal) => format!("refused {}", refusal.reply.code),
            Decision::Route(route) => {
                let envelope = route.plan.envelope_sender.to_string();
                let envelope = if envelope == sender {
                    "same".to_owned()
                } else {
                    envelope
                };
                let from = route
                    .plan
                    .from
                    .map_or("same".to_owned(), |from| from.to_string());
                format!("{} | {envelope} | {from}", route.server)
            }
        }
    }

    #[test]
    fn the_cases_of_the_specification() {
        let header = &[Key::Header][..];
        let both = &[Key::Envelope, Key::Header][..];
        let three = "d: example.com; u: ann@example.com; x: -";
        let cases = [
            (
                three,
                None,
                header,
                "ann@example.com",
                "ann@example.com",
                "u | same | same",
            ),
            (
                three,
                None,
                header,
                "bob@example.com",
                "bob@example.com",
                "d | same | same",
            ),
            (
                three,
                None,
                header,
                "q@elsewhere.org",
                "\"Q\" <q@elsewhere.org>",
                "x | same | same",
            ),
            (
                three,
                None,
                header,
                "a@sub.example.com",
                "a@sub.example.com",
                "x | same | same",
            ),
            (
                "u: one.org, ann@example.com, two.org; n: N",
                Some(N),
                header,
                "bounce@example.com",
                "\"T\" <t@two.org>",
                "u | t@two.org | same",
            ),
            (
                "d: example.com; n: N; x: -",
                Some(N),
                header,
                "bounce@example.com",
                "\"T\" <t@elsewhere.org>",
                "n | notifications@example.com | \"T\" <notifications@example.com>",
            ),
            (
                "d: example.com",
                Some(N),
                header,
                "bounce@example.com",
                "\"T\" <t@elsewhere.org>",
                "d | same | \"T\" <notifications@example.com>",
            ),
            (
                "d: example.com",
                Some(N),
                header,
                "bounce@other.org",
                "\"J\" <j@example.com>",
                "d | j@example.com | same",
            ),
            (
                "x: -",
                Some(N),
                header,
                "bounce@example.com",
                "\"J\" <j@elsewhere.org>",
                "x | same | \"J\" <notifications@example.com>",
            ),
            (
                "x: -",
                Some(N),
                header,
                "j@elsewhere.org",
                "\"J\" <j@elsewhere.org>",
                "x | notifications@example.com | \"J\" <notifications@example.com>",
            ),
            (
                "a: ann@one.org",
                None,
                header,
                "q@two.org",
                "q@two.org",
                "refused 550",
            ),
            (
                "n: N",
                Some(N),
                header,
                N,
                "NOTIFICATIONS@Example.com",
                "n | same | same",
            ),
            (
                "i: éxample.com; x: -",
                Some(N),
                header,
                "a@xn--xample-9ua.com",
                "a@xn--xample-9ua.com",
                "i | same | same",
            ),
            (
                "f: \"Ann\" <ann@example.com>; x: -",
                Some(N),
                header,
                "ann@example.com",
                "ann@example.com",
                "f | same | same",
            ),
            (
                "n: N",
                Some(N),
                both,
                "root@localhost",
                "Cron <root@localhost>",
                "n | notifications@example.com | \"Cron\" <notifications@example.com>",
            ),
            (
                "j: john@example.com; d: example.com",
                Some(N),
                both,
                "bounce@example.com",
                "john@example.com",
                "j | john@example.com | same",
            ),
        ];
        for (servers, default_from, keys, sender, from, expected) in cases {
            let policy = policy(servers, default_from, keys);
            let got = shown(route(&policy, sender, from, Caller::default()), sender);
            assert_eq!(got, expected, "{servers} / {sender} / {from}");
        }
        let mut semicolon = policy("x: -", Some("one.org@x.com"), header);
        semicolon.default_from = None;
        semicolon.servers.insert(
            0,
            ServerRule {
                name: "s".into(),
                address: None,
                filter: Filter::parse("one.org;two.org").unwrap(),
            },
        );
        assert_eq!(
            shown(
                route(&semicolon, "a@two.org", "a@two.org", Caller::default()),
                "a@two.org"
            ),
            "x | same | same"
        );
        let mut last = policy("a: ann@one.org", None, header);
        last.last_resort = true;
        assert_eq!(
            shown(
                route(&last, "q@two.org", "q@two.org", Caller::default()),
                "q@two.org"
            ),
            "a | a@servers.test | \"q\" <a@servers.test>"
        );
        last.on_mismatch = OnMismatch::Keep;
        assert_eq!(
            shown(
                route(&last, "q@two.org", "q@two.org", Caller::default()),
                "q@two.org"
            ),
            "a | q@two.org | same".replace("q@two.org", "same")
        );
    }

    #[test]
    fn the_table_of_encapsulation() {
        let policy = policy("n: N", Some(N), &[Key::Header]);
        let cases = [
            ("John Doe <john@x.com>", "\"John Doe\" <N>"),
            ("John.Doe+tag@X.com", "\"John.Doe+tag\" <N>"),
            ("\"\" <john@x.com>", "\"john\" <N>"),
            ("\" \" <john@x.com>", "\"john\" <N>"),
            ("john@x.com (John Doe)", "\"john\" <N>"),
            ("\"Doe, John\" <john@x.com>", "\"Doe, John\" <N>"),
            (
                "\"John \\\"JD\\\" Doe\" <j@x.com>",
                "\"John \\\"JD\\\" Doe\" <N>",
            ),
            ("\"a\\\\b\" <j@x.com>", "\"a\\\\b\" <N>"),
            ("José <jose@x.com>", "=?utf-8?B?Sm9zw6k=?= <N>"),
            ("a@x.com, b@y.com", "\"a\" <N>"),
            ("Team: a@x.com, b@y.com;", "\"a\" <N>"),
            ("@x.com", "N"),
            ("nobody:;", "N"),
        ];
        for (from, expected) in cases {
            let Decision::Route(route) =
                route(&policy, "bounce@other.org", from, Caller::default())
            else {
                panic!("{from} is refused");
            };
            assert_eq!(
                route.plan.from.unwrap().to_string(),
                expected.replace('N', N),
                "{from}"
            );
        }
    }

    #[test]
    fn pins_and_restrictions() {
        let policy = policy(
            "n: N; campaigns: -; d: example.com",
            Some(N),
            &[Key::Envelope, Key::Header],
        );
        let pinned = Caller {
            pinned: Some("campaigns"),
            ..Caller::default()
        };
        let decision = route(&policy, "any@where.org", "\"C\" <any@where.org>", pinned);
        assert_eq!(shown(decision, "any@where.org"), "campaigns | same | same");
        let pinned = Caller {
            pinned: Some("d"),
            ..Caller::default()
        };
        let decision = route(&policy, "any@where.org", "\"C\" <any@where.org>", pinned);
        assert_eq!(
            shown(decision, "any@where.org"),
            format!("d | {N} | \"C\" <{N}>")
        );
        let only = ["d".to_owned()];
        let restricted = Caller {
            servers: Some(&only),
            ..Caller::default()
        };
        let decision = route(&policy, "any@where.org", "x@where.org", restricted);
        assert_eq!(
            shown(decision, "any@where.org"),
            format!("d | {N} | \"x\" <{N}>")
        );
    }

    #[test]
    fn mismatches_are_kept_or_rejected_when_said_so() {
        let mut policy = policy("d: example.com", Some(N), &[Key::Envelope]);
        let decide = |policy: &Policy, from| {
            shown(
                route(policy, "b@example.com", from, Caller::default()),
                "b@example.com",
            )
        };
        assert_eq!(
            decide(&policy, "t@two.org"),
            format!("d | same | \"t\" <{N}>")
        );
        policy.on_mismatch = OnMismatch::Keep;
        assert_eq!(decide(&policy, "t@two.org"), "d | same | same");
        assert_eq!(decide(&policy, "not an address"), format!("d | same | {N}"));
        policy.on_mismatch = OnMismatch::Reject;
        assert_eq!(decide(&policy, "t@two.org"), "refused 550");
        assert_eq!(decide(&policy, "j@example.com"), "d | same | same");
    }

    #[test]
    fn the_null_sender_stays_or_becomes_the_identity() {
        let mut policy = policy("n: N", Some(N), &[Key::Envelope, Key::Header]);
        assert_eq!(
            shown(route(&policy, "", "x@y.z", Caller::default()), ""),
            format!("n | same | \"x\" <{N}>")
        );
        policy.null_sender = NullSender::Identity;
        assert_eq!(
            shown(route(&policy, "", "x@y.z", Caller::default()), ""),
            format!("n | {N} | \"x\" <{N}>")
        );
    }

    #[test]
    fn mail_is_refused_early_only_where_no_header_can_help() {
        let sender = ReversePath::parse("q@two.org").unwrap();
        let refuses = |keys: &[Key]| {
            policy("a: ann@one.org", None, keys).refuses_at_mail(&sender, Caller::default())
        };
        assert_eq!(refuses(&[Key::Envelope]).unwrap().code, 550);
        assert!(
            refuses(&[Key::Envelope])
                .unwrap()
                .text
                .contains("q@two.org")
        );
        assert!(refuses(&[Key::Envelope, Key::Header]).is_none());
    }

    #[test]
    fn reports_go_through_the_default_server() {
        let (route, from) = policy("d: other.org; n: N", Some(N), &[Key::Header])
            .report_route()
            .unwrap();
        assert_eq!((route.server.as_str(), from.as_str()), ("n", N));
        let (route, from) = policy("d: other.org", None, &[Key::Header])
            .report_route()
            .unwrap();
        assert_eq!(
            (route.server.as_str(), from.as_str()),
            ("d", "d@servers.test")
        );
    }

    proptest! {
        /// Whatever comes in, what leaves speaks as somebody that the chosen server admits, unless
        /// the server is a pinned one or the last resort.
        #[test]
        fn what_leaves_is_admitted(
            servers in prop::sample::select(vec!["d: example.com; n: N", "u: a@one.org; n: N; d: two.org", "n: N; x: -"]),
            sender in prop::sample::select(vec!["", "a@one.org", "b@two.org", "c@example.com", "d@else.net"]),
            from in prop::sample::select(vec!["a@one.org", "B <b@two.org>", "c@example.com", "d@else.net, a@one.org", "junk", "g:;"]),
            envelope_first in any::<bool>(),
        ) {
            let keys = if envelope_first { [Key::Envelope, Key::Header] } else { [Key::Header, Key::Envelope] };
            let policy = policy(servers, Some(N), &keys);
            if let Decision::Route(route) = route(&policy, sender, from, Caller::default()) {
                let server = policy.servers.iter().find(|server| server.name == route.server).unwrap();
                if let Some(address) = route.plan.envelope_sender.address() {
                    prop_assert!(server.admits(address));
                }
                let author = Author::of_value(from.as_bytes());
                let from = route.plan.from.as_ref().or(author.mailbox()).expect("somebody is the author");
                prop_assert!(server.admits(&from.address));
            }
        }
    }
}
