//! What stands in the way of a message without being its fault, told with its remedy.

use super::lane::Lane;
use super::outcome::{self, Reaction};
use crate::session::Reply;
use crate::spool::SpoolError;
use crate::token::TokenError;
use crate::upstream::{Auth, Failure};

/// Why nothing was sent, or nothing is known of it.
pub(super) enum Trouble {
    /// It passes: what happened, whether the message may have arrived, and the server's words.
    Passing {
        reason: String,
        uncertain: bool,
        reply: Option<Reply>,
    },
    /// It needs a person.
    Server {
        reason: String,
        reply: Option<Reply>,
    },
    /// The spool cannot give the content.
    Spool(SpoolError),
}

pub(super) fn reaction(failure: &Failure) -> Reaction {
    match failure.reply() {
        Some(reply) => outcome::of_reply(failure.stage(), reply),
        None => outcome::of_loss(failure.stage()),
    }
}

pub(super) fn passing(failure: &Failure) -> Trouble {
    Trouble::Passing {
        reason: failure.to_string(),
        uncertain: reaction(failure) == Reaction::Uncertain,
        reply: failure.reply().cloned(),
    }
}

pub(super) fn signing_in(lane: &Lane, failure: &Failure) -> Trouble {
    match (reaction(failure), failure.reply()) {
        (Reaction::FreshToken | Reaction::HoldServer, Some(reply)) => {
            server_trouble(lane, reply, Some(failure))
        }
        _ => passing(failure),
    }
}

/// The server does not let us in: what it said, and what mends it.
pub(super) fn server_trouble(lane: &Lane, reply: &Reply, failure: Option<&Failure>) -> Trouble {
    let said = failure.map_or_else(|| reply.to_string(), Failure::to_string);
    let remedy = remedy(&lane.server.upstream.auth, reply);
    Trouble::Server {
        reason: format!("{said}; {remedy}"),
        reply: Some(reply.clone()),
    }
}

/// What mends a sign-in that was refused with this reply.
pub(super) fn remedy(auth: &Auth, reply: &Reply) -> String {
    match auth {
        _ if reply.is_transient() => "it passes by itself; it is tried again".to_owned(),
        Auth::XOAuth2 { username } if reply.enhanced == "5.7.139" => format!(
            "SMTP AUTH is switched off: an Exchange administrator runs \
             Set-CASMailbox -Identity {username} -SmtpClientAuthenticationDisabled $false"
        ),
        Auth::XOAuth2 { username } => format!(
            "check that {username} is the mailbox the token is for, and that the app may send as it \
             (SMTP.Send for a user, SMTP.SendAsApp and a service principal for the app)"
        ),
        Auth::None => {
            "the server wants a sign-in: set `auth`, `username` and `password`".to_owned()
        }
        Auth::Plain { username, .. } | Auth::Login { username, .. } => {
            format!("check the password of {username}")
        }
    }
}

pub(super) fn token_trouble(server: &str, error: &TokenError) -> Trouble {
    let reason = format!("no token for {server}: {error}");
    match error.is_transient() {
        true => Trouble::Passing {
            reason,
            uncertain: false,
            reply: None,
        },
        false => Trouble::Server {
            reason,
            reply: None,
        },
    }
}
