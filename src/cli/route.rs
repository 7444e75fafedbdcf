//! `mailferry route`.

use std::process::ExitCode;

use serde_json::json;

use super::{ConfigFile, NO, misused};
use crate::config::Secrets;
use crate::listener::{Endpoint, User, permission};
use crate::message::{Author, ReversePath};
use crate::routing::{Caller, Decision, Policy, Reason, Refusal, Route};
use crate::session::Reply;

/// Answers from the configuration alone; nothing is sent. Ends with 1 where the sender is refused.
///
/// With --json: `server`, `envelope_from`, `header_from`, `reply_to` (each null where it stays as it
/// is, or is absent), `reason`; where the message is refused `server` is null and `reply` says what
/// the app hears.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// The user that sends; without one, somebody with no rules of their own
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The listener that it comes in by; without one, any with no rules of its own
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// The envelope sender, the address of MAIL FROM; "" or "<>" is the null sender
    #[arg(long, value_name = "ADDRESS")]
    from: String,
    /// The value of the header From; without it, the envelope sender's address
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
    if let Some(user) = &arguments.user
        && !config.policy.users.contains_key(user)
    {
        return misused(&format!(
            "--user: there is no [[user]] named {user:?} in {}",
            config.path.display()
        ));
    }
    if let Some(name) = &arguments.listener
        && !config
            .endpoints
            .iter()
            .any(|endpoint| endpoint.name == *name)
    {
        let names: Vec<&str> = config.endpoints.iter().map(|it| it.name.as_str()).collect();
        return misused(&format!(
            "--listener: there is no [[listener]] named {name:?}; there are: {}",
            names.join(", ")
        ));
    }
    let named = |endpoint: &&Endpoint| Some(&endpoint.name) == arguments.listener.as_ref();
    let endpoint = config.endpoints.iter().find(named);
    let named = |user: &&User| Some(&user.name) == arguments.user.as_ref();
    let user = config.users.iter().find(named);
    let of_user = user.and_then(|user| user.assume_from.as_ref());
    let assumed = of_user.or(endpoint.and_then(|endpoint| endpoint.assume_from.as_ref()));
    let sender = match (ReversePath::parse(&arguments.from), assumed) {
        (Ok(ReversePath::Null) | Err(_), Some(assumed)) => ReversePath::Mailbox(assumed.clone()),
        (Ok(sender), _) => sender,
        (Err(error), None) => return misused(&format!("--from: {error}")),
    };
    let header = arguments
        .header_from
        .clone()
        .or(sender.address().map(|a| a.to_string()));
    let caller = config.policy.caller(
        arguments.user.as_deref().unwrap_or_default(),
        arguments.listener.as_deref().unwrap_or_default(),
    );
    let decision = decide(&config.policy, caller, &sender, header.as_deref());
    let allowed = user.map(|user| allowed(user, &sender, header.as_deref(), &decision));
    let comes = user
        .zip(endpoint)
        .is_none_or(|(user, here)| here.lets_in(user));
    let decision = match allowed {
        _ if !comes => Decision::Refused(Refusal {
            reply: Reply::bad_credentials(),
            reason: Reason::NotHere,
        }),
        Some(Err(reply)) => Decision::Refused(Refusal {
            reply,
            reason: Reason::NotAllowed,
        }),
        _ => decision,
    };
    match (&decision, arguments.json) {
        (Decision::Route(route), true) => {
            println!("{}", route_json(route, &sender, header.as_deref()))
        }
        (Decision::Route(route), false) => {
            print!("{}", explained(route, &sender, header.as_deref()))
        }
        (Decision::Refused(refusal), true) => println!("{}", refusal_json(refusal)),
        (Decision::Refused(Refusal { reply, reason }), false) => {
            println!("refused:   {reply}\nbecause:   {reason}");
        }
    }
    match decision {
        Decision::Route(_) => ExitCode::SUCCESS,
        Decision::Refused(_) => ExitCode::from(NO),
    }
}

/// Whether the user may send as both.
fn allowed(
    user: &User,
    sender: &ReversePath,
    header: Option<&str>,
    decision: &Decision,
) -> Result<(), Reply> {
    permission::sender(user, sender)?;
    permission::author(user, &author(header), decision.replaces_from())
}

/// The decision about a message of this sender with this From.
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

/// The decision in words, a line each.
pub(super) fn explained(route: &Route, sender: &ReversePath, header: Option<&str>) -> String {
    let Route {
        server,
        plan,
        reason,
    } = route;
    let same = |text: &str| format!("{text} (unchanged)");
    let envelope = match plan.envelope_sender == *sender {
        true => same(&format!("<{sender}>")),
        false => format!("<{}>", plan.envelope_sender),
    };
    let from = match &plan.from {
        Some(from) => from.to_string(),
        None => same(header.unwrap_or_default()),
    };
    let mut text = format!(
        "server:    {server}\nbecause:   {reason}\nenvelope:  {envelope}\nFrom:      {from}\n"
    );
    if plan.reply_to {
        text.push_str(&format!(
            "Reply-To:  {} (added, unless there is one)\n",
            header.unwrap_or_default()
        ));
    }
    text
}

fn route_json(route: &Route, sender: &ReversePath, header: Option<&str>) -> serde_json::Value {
    let plan = &route.plan;
    let envelope = (plan.envelope_sender != *sender).then(|| plan.envelope_sender.to_string());
    json!({
        "server": route.server,
        "envelope_from": envelope,
        "header_from": plan.from.as_ref().map(ToString::to_string),
        "reply_to": header.filter(|_| plan.reply_to),
        "reason": route.reason.to_string(),
    })
}

fn refusal_json(refusal: &Refusal) -> serde_json::Value {
    json!({
        "server": null,
        "envelope_from": null,
        "header_from": null,
        "reply_to": null,
        "reason": refusal.reason.to_string(),
        "reply": refusal.reply.to_string(),
    })
}
