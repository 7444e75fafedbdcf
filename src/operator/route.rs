//! Explains which server a message would take, and what would be rewritten. Pure.

use serde_json::json;

use crate::door::{Endpoint, User};
use crate::message::{Address, Author, ReplyTo, ReversePath, Rewriting};
use crate::routing::{Caller, Decision, Policy, Route};
use crate::smtp::Reply;
use crate::submission::permission::{self, NotAllowed};
use crate::submission::wording;

/// The reply that the app receives, and the reason for it.
pub(crate) struct RefusedMail {
    pub(crate) reply: Reply,
    pub(crate) reason: String,
}

/// The part of the configuration that decides which server a message takes.
#[derive(Clone)]
pub(crate) struct RouteSettings {
    /// The path of the configuration file.
    pub(crate) path: String,
    /// The routing policy.
    pub(crate) policy: Policy,
    /// The users.
    pub(crate) users: Vec<User>,
    /// The listeners.
    pub(crate) listeners: Vec<RouteListener>,
}

/// A listener, as far as routing is concerned.
#[derive(Clone)]
pub(crate) struct RouteListener {
    /// The socket, and the clients that it admits.
    pub(crate) endpoint: Endpoint,
    /// The sender of messages that have no sender address.
    pub(crate) assume_from: Option<Address>,
}

/// A message to ask about, as a person describes it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    /// The user who sends it; `None` for a user with no rules of their own.
    pub(crate) user: Option<String>,
    /// The listener that accepts it; `None` for a listener with no rules of its own.
    pub(crate) listener: Option<String>,
    /// The envelope sender; empty or `<>` for the null sender.
    pub(crate) from: String,
    /// The value of the From header; `None` for the envelope sender's address.
    pub(crate) header_from: Option<String>,
    /// A recipient; `None` for one that every server takes mail to.
    pub(crate) to: Option<String>,
}

/// A message to decide about: its user, its listener and its sender addresses.
pub(crate) struct RouteQuestion<'a> {
    user: Option<&'a User>,
    listener: Option<&'a RouteListener>,
    pub(crate) sender: ReversePath,
    pub(crate) header: Option<String>,
    recipient: Option<Address>,
}

impl<'a> RouteQuestion<'a> {
    /// Looks up the user and the listener. The error names a wrong one.
    pub(crate) fn of(asked: &Asked, settings: &'a RouteSettings) -> Result<Self, String> {
        let user = asked.user.as_ref().map(|name| {
            let user = settings.users.iter().find(|user| user.name == *name);
            let path = &settings.path;
            user.ok_or_else(|| format!("user: there is no [[user]] named {name:?} in {path}"))
        });
        let listener = asked.listener.as_ref().map(|name| {
            let listeners = &settings.listeners;
            let listener = listeners.iter().find(|it| it.endpoint.name == *name);
            listener.ok_or_else(|| {
                let names = listeners.iter().map(|it| it.endpoint.name.as_str());
                let names = names.collect::<Vec<_>>().join(", ");
                format!("listener: there is no [[listener]] named {name:?}; there are: {names}")
            })
        });
        let (user, listener) = (user.transpose()?, listener.transpose()?);
        let of_user = user.and_then(|user| user.assume_from.as_ref());
        let assumed = of_user.or(listener.and_then(|it| it.assume_from.as_ref()));
        let sender = match (ReversePath::parse(&asked.from), assumed) {
            (Ok(ReversePath::Null) | Err(_), Some(assumed)) => {
                ReversePath::Mailbox(assumed.clone())
            }
            (sender, _) => sender.map_err(|error| format!("from: {error}"))?,
        };
        let recipient = asked.to.as_deref().map(Address::parse).transpose();
        let header = asked.header_from.clone();
        let header = header.or(sender.address().map(ToString::to_string));
        Ok(Self {
            user,
            listener,
            sender,
            header,
            recipient: recipient.map_err(|error| format!("to: {error}"))?,
        })
    }

    /// Decides about the message.
    pub(crate) fn decide(&self, policy: &Policy) -> Result<Route, RefusedMail> {
        if let (Some(user), Some(listener)) = (self.user, self.listener)
            && !listener.endpoint.lets_in(user)
        {
            return Err(RefusedMail {
                reply: Reply::bad_credentials(),
                reason: "the listener's `users` or `auth` do not admit this user".to_owned(),
            });
        }
        let caller = Caller {
            recipient: self.recipient.as_ref(),
            ..policy.caller(
                self.user.map_or("", |user| &user.name),
                self.listener.map_or("", |listener| &listener.endpoint.name),
            )
        };
        let decision = decide(policy, caller, &self.sender, self.header.as_deref());
        if let Some(Err(why)) = self.user.map(|user| self.allowed(user, &decision)) {
            return Err(RefusedMail {
                reply: wording::not_allowed(&why),
                reason: "the user's `senders` or `recipients` do not include this address"
                    .to_owned(),
            });
        }
        match decision {
            Decision::Route(route) => Ok(route),
            Decision::Refused(refusal) => Err(RefusedMail {
                reply: wording::not_routed(&refusal.why),
                reason: refusal.reason.to_string(),
            }),
        }
    }

    /// Checks that the user may send as both the envelope sender and the author.
    fn allowed(&self, user: &User, decision: &Decision) -> Result<(), NotAllowed> {
        permission::sender(user, &self.sender)?;
        if let Some(recipient) = &self.recipient {
            permission::recipient(user, recipient)?;
        }
        let author = author(self.header.as_deref());
        permission::author(user, &author, decision.replaces_from())
    }
}

/// Decides about a message with this sender and this From header.
pub(crate) fn decide(
    policy: &Policy,
    caller: Caller,
    sender: &ReversePath,
    header: Option<&str>,
) -> Decision {
    policy.decide(sender, &author(header), caller)
}

fn author(header: Option<&str>) -> Author {
    header.map_or(Author::Missing, |value| Author::of_value(value.as_bytes()))
}

/// Describes the decision in words, one line per field.
pub(crate) fn explained(route: &Route, sender: &ReversePath, header: Option<&str>) -> String {
    let Route {
        server,
        plan,
        reason,
    } = route;
    let same = |text: &str| format!("{text} (unchanged)");
    let envelope = if plan.envelope_sender == *sender {
        same(&format!("<{sender}>"))
    } else {
        format!("<{}>", plan.envelope_sender)
    };
    let from = match &plan.from {
        Some(from) => from.to_string(),
        None => same(header.unwrap_or_default()),
    };
    let mut text = format!(
        "server:    {server}\nbecause:   {reason}\nenvelope:  {envelope}\nFrom:      {from}\n"
    );
    if let Some(reply_to) = reply_to(plan, header) {
        text.push_str(&format!(
            "Reply-To:  {reply_to} (added if the message has none)\n"
        ));
    }
    text
}

/// Returns the Reply-To that is added, if any.
fn reply_to(plan: &Rewriting, header: Option<&str>) -> Option<String> {
    match plan.reply_to.as_ref()? {
        ReplyTo::AsItCame => header.map(str::to_owned),
        ReplyTo::Address(address) => Some(address.to_string()),
    }
}

/// Describes the decision as JSON.
pub(crate) fn route_json(
    route: &Route,
    sender: &ReversePath,
    header: Option<&str>,
) -> serde_json::Value {
    let plan = &route.plan;
    let envelope = (plan.envelope_sender != *sender).then(|| plan.envelope_sender.to_string());
    json!({
        "server": route.server,
        "envelope_from": envelope,
        "header_from": plan.from.as_ref().map(ToString::to_string),
        "reply_to": reply_to(plan, header),
        "reason": route.reason.to_string(),
    })
}

impl RefusedMail {
    /// Describes the refusal as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        json!({
            "server": null,
            "envelope_from": null,
            "header_from": null,
            "reply_to": null,
            "reason": self.reason,
            "reply": self.reply.to_string(),
        })
    }
}
