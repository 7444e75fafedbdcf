//! `mailferry route`.

use std::process::ExitCode;

use serde_json::json;

use super::common::{ConfigFile, NO, misused};
use crate::config::{Config, ListenerConfig, Secrets};
use crate::door::User;
use crate::message::{Author, ReplyTo, ReversePath, Rewriting};
use crate::routing::{Caller, Decision, Policy, Route};
use crate::smtp::Reply;
use crate::submission::permission::{self, NotAllowed};
use crate::submission::wording;

/// The arguments of `mailferry route`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// The user who sends the message; without it, a user with no rules of their own
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The listener that accepts the message; without it, a listener with no rules of its own
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// The envelope sender, the address of MAIL FROM; "" or "<>" is the null sender
    #[arg(long, value_name = "ADDRESS")]
    from: String,
    /// The value of the From header; without it, the envelope sender's address
    #[arg(long, value_name = "VALUE")]
    header_from: Option<String>,
    /// Print JSON, for scripts
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let config = match arguments.config.load(Secrets::Left) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let question = match RouteQuestion::of(arguments, &config) {
        Ok(question) => question,
        Err(error) => return misused(&error),
    };
    let decision = question.decide(&config.live.policy);
    let RouteQuestion { sender, header, .. } = &question;
    match (&decision, arguments.json) {
        (Ok(route), true) => {
            println!("{}", route_json(route, sender, header.as_deref()))
        }
        (Ok(route), false) => {
            print!("{}", explained(route, sender, header.as_deref()))
        }
        (Err(refused), true) => println!("{}", refused.json()),
        (Err(RefusedMail { reply, reason }), false) => {
            println!("refused:   {reply}\nbecause:   {reason}");
        }
    }
    match decision {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(NO),
    }
}

/// The reply that the app receives, and the reason for it.
struct RefusedMail {
    reply: Reply,
    reason: String,
}

/// A message to decide about: its user, its listener and its sender addresses.
struct RouteQuestion<'a> {
    user: Option<&'a User>,
    listener: Option<&'a ListenerConfig>,
    sender: ReversePath,
    header: Option<String>,
}

impl<'a> RouteQuestion<'a> {
    fn of(arguments: &Arguments, config: &'a Config) -> Result<Self, String> {
        let user = arguments.user.as_ref().map(|name| {
            let user = config.live.users.iter().find(|user| user.name == *name);
            let path = config.path.display();
            user.ok_or_else(|| format!("--user: there is no [[user]] named {name:?} in {path}"))
        });
        let listener = arguments.listener.as_ref().map(|name| {
            let listener = config
                .live
                .listeners
                .iter()
                .find(|it| it.endpoint.name == *name);
            listener.ok_or_else(|| {
                let names = config
                    .live
                    .listeners
                    .iter()
                    .map(|it| it.endpoint.name.as_str());
                let names = names.collect::<Vec<_>>().join(", ");
                format!("--listener: there is no [[listener]] named {name:?}; there are: {names}")
            })
        });
        let (user, listener) = (user.transpose()?, listener.transpose()?);
        let of_user = user.and_then(|user| user.assume_from.as_ref());
        let assumed = of_user.or(listener.and_then(|it| it.submission()?.assume_from.as_ref()));
        let sender = match (ReversePath::parse(&arguments.from), assumed) {
            (Ok(ReversePath::Null) | Err(_), Some(assumed)) => {
                ReversePath::Mailbox(assumed.clone())
            }
            (sender, _) => sender.map_err(|error| format!("--from: {error}"))?,
        };
        let header = arguments.header_from.clone();
        let header = header.or(sender.address().map(ToString::to_string));
        Ok(Self {
            user,
            listener,
            sender,
            header,
        })
    }

    fn decide(&self, policy: &Policy) -> Result<Route, RefusedMail> {
        if let (Some(user), Some(listener)) = (self.user, self.listener)
            && !listener.endpoint.lets_in(user)
        {
            return Err(RefusedMail {
                reply: Reply::bad_credentials(),
                reason: "the listener's `users` or `auth` do not admit this user".to_owned(),
            });
        }
        let caller = policy.caller(
            self.user.map_or("", |user| &user.name),
            self.listener.map_or("", |listener| &listener.endpoint.name),
        );
        let decision = decide(policy, caller, &self.sender, self.header.as_deref());
        if let Some(Err(why)) = self.user.map(|user| self.allowed(user, &decision)) {
            return Err(RefusedMail {
                reply: wording::not_allowed(&why),
                reason: "the user's `senders` do not include this address".to_owned(),
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
        let author = author(self.header.as_deref());
        permission::author(user, &author, decision.replaces_from())
    }
}

/// Decides about a message with this sender and this From header.
pub(super) fn decide(
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
pub(super) fn explained(route: &Route, sender: &ReversePath, header: Option<&str>) -> String {
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

fn route_json(route: &Route, sender: &ReversePath, header: Option<&str>) -> serde_json::Value {
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
    fn json(&self) -> serde_json::Value {
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
