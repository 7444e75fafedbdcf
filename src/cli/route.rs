//! `mailferry route`.

use std::process::ExitCode;

use super::common::{ConfigFile, NO, misused};
use crate::config::Secrets;
use crate::daemon;
use crate::operator::route::{Asked, RefusedMail, RouteQuestion, explained, route_json};

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
    /// A recipient; without it, servers are chosen as if they had no `to_filter`
    #[arg(long, value_name = "ADDRESS")]
    to: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let config = match arguments.config.load(Secrets::Left) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let (settings, asked) = (daemon::route_settings(&config), asked(arguments));
    let question = match RouteQuestion::of(&asked, &settings) {
        Ok(question) => question,
        Err(error) => return misused(&format!("--{error}")),
    };
    let decision = question.decide(&settings.policy);
    let RouteQuestion { sender, header, .. } = &question;
    match (&decision, arguments.config.json) {
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

fn asked(arguments: &Arguments) -> Asked {
    Asked {
        user: arguments.user.clone(),
        listener: arguments.listener.clone(),
        from: arguments.from.clone(),
        header_from: arguments.header_from.clone(),
        to: arguments.to.clone(),
    }
}
