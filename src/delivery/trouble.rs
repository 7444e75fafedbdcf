//! What stands in the way of a message without being its fault, told with its remedy.

use std::time::Duration;

use super::lane::{Lane, Server};
use super::outcome::{self, Patience, Reaction, Row, Until, table};
use crate::base::Service;
use crate::base::secret::ExposeSecret;
use crate::message::Address;
use crate::session::{Reply, Stage};
use crate::spool::SpoolError;
use crate::token::{Access, Claims, TokenError};
use crate::upstream::{Auth, Failure};

/// Why nothing was sent, or nothing is known of it.
pub(super) enum Trouble {
    /// It passes: what happened, whether the message may have arrived, and the server's words.
    Passing {
        reason: String,
        uncertain: bool,
        reply: Option<Reply>,
    },
    /// It is the mailbox's, and the message goes back as it was.
    Mailbox { word: Word, reply: Option<Reply> },
    /// The spool cannot give the content.
    Spool(SpoolError),
}

/// What an attempt has shown of the mailbox, with the reason in words.
#[derive(Debug)]
pub(super) enum Word {
    /// Nothing.
    Nothing,
    /// It sends.
    Well,
    /// It has too many sessions.
    Crowded(String),
    /// It sends too fast.
    TooFast(String),
    /// The server has trouble, or has it with the mailbox.
    Slowed(Patience, String),
    /// It is not used until then.
    Held(Until, String),
    /// It may not send as this sender.
    Refused(Address, Reply),
    /// Its tenant sends nothing to external recipients for this long.
    ExternalHeld(Duration, String),
}

impl Word {
    /// What a row of the table says of the mailbox by these words; none where it says nothing.
    pub(super) fn of(
        lane: &Lane,
        row: &Row,
        reply: &Reply,
        said: &str,
        sender: Option<&Address>,
    ) -> Option<Self> {
        let reason = with_remedy(said, &remedy(&lane.server, row, sender));
        Some(match row.reaction {
            Reaction::Crowded => Self::Crowded(reason),
            Reaction::TooFast => Self::TooFast(reason),
            Reaction::Slowed(patience) => Self::Slowed(patience, reason),
            Reaction::FailedAndSlowed => Self::Slowed(Patience::Minutes, reason),
            Reaction::ExternalHeld(time) => Self::ExternalHeld(time, reason),
            Reaction::FreshToken => Self::Held(Until::Probe, reason),
            Reaction::Held(until) => Self::Held(until, reason),
            Reaction::SenderRefused => Self::Refused(sender?.clone(), reply.clone()),
            _ => return None,
        })
    }

    /// Why, in words.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Nothing | Self::Well => String::new(),
            Self::Crowded(reason)
            | Self::TooFast(reason)
            | Self::Slowed(_, reason)
            | Self::Held(_, reason)
            | Self::ExternalHeld(_, reason) => reason.clone(),
            Self::Refused(_, reply) => reply.to_string(),
        }
    }
}

/// What a server said, and what mends it, if something does.
pub(super) fn with_remedy(said: &str, remedy: &str) -> String {
    if remedy.is_empty() {
        said.to_owned()
    } else {
        format!("{said}; {remedy}")
    }
}

pub(super) fn reaction(service: Service, failure: &Failure) -> Reaction {
    match failure.reply() {
        Some(reply) => outcome::of_reply(service, failure.stage(), reply),
        None => outcome::of_loss(failure.stage()),
    }
}

/// What mends a failure that the server explained; none if nothing is known to.
pub(super) fn failure_remedy(
    server: &Server,
    failure: &Failure,
    sender: Option<&Address>,
) -> Option<String> {
    let service = server.upstream.service;
    let row = table::row(service, failure.stage(), failure.reply()?);
    Some(remedy(server, row, sender)).filter(|remedy| !remedy.is_empty())
}

/// What an Exchange administrator runs so that an app whose token was refused may send as the mailbox
/// (`exchange-online.md`, "Tokens", Permissions); none if that is not what is wrong.
pub(super) fn permit_commands(
    server: &Server,
    failure: &Failure,
    access: &Access,
) -> Option<String> {
    let service = server.upstream.service;
    let row = table::row(service, failure.stage(), failure.reply()?);
    let claims = Claims::of(access.token.expose_secret())?;
    let is_app = !claims.roles.is_empty() && claims.scopes.is_none();
    let is_it = service == Service::ExchangeOnline && row.name == "not_authenticated" && is_app;
    let (app, object, mailbox) = (claims.app?, claims.object?, server.limited()?);
    is_it.then(|| {
        format!(
            "if Exchange does not know this app yet, an administrator runs in Exchange Online PowerShell:\n\
             New-ServicePrincipal -AppId {app} -ObjectId {object}\n\
             New-ManagementScope -Name mailferry -RecipientRestrictionFilter \"PrimarySmtpAddress -eq '{mailbox}'\"\n\
             New-ManagementRoleAssignment -App {app} -Role \"Application SMTP.SendAsApp\" -CustomResourceScope mailferry\n\
             Set-CASMailbox {mailbox} -SmtpClientAuthenticationDisabled $false\n\
             Exchange takes up to 2 hours to apply it"
        )
    })
}

/// A session that could not begin, or ended.
pub(super) fn of_failure(lane: &Lane, failure: &Failure) -> Trouble {
    let said = failure.to_string();
    let service = lane.server.upstream.service;
    let reaction = reaction(service, failure);
    let word = match (failure.reply(), reaction) {
        (Some(reply), _) => {
            let row = table::row(service, failure.stage(), reply);
            Word::of(lane, row, reply, &said, None)
        }
        (None, Reaction::Slowed(patience)) => Some(Word::Slowed(patience, said.clone())),
        (None, _) => None,
    };
    let reply = failure.reply().cloned();
    match word {
        Some(word) => Trouble::Mailbox { word, reply },
        None => Trouble::Passing {
            reason: said,
            uncertain: reaction == Reaction::Uncertain,
            reply,
        },
    }
}

/// The server does not take us for signed in, whatever we do.
pub(super) fn refused(lane: &Lane, reply: &Reply) -> Trouble {
    let row = table::row(lane.server.upstream.service, Stage::Mail, reply);
    let word = Word::of(lane, row, reply, &reply.to_string(), None);
    Trouble::Mailbox {
        word: word.unwrap_or(Word::Nothing),
        reply: Some(reply.clone()),
    }
}

/// What mends what a row of the table is about, for this server.
pub(super) fn remedy(server: &Server, row: &Row, sender: Option<&Address>) -> String {
    let upstream = &server.upstream;
    let is_sign_in = matches!(row.name, "not_authenticated" | "sign_in_refused");
    let mailbox = server.limited().unwrap_or_default();
    match &upstream.auth {
        Auth::None if is_sign_in => {
            "the server wants a sign-in: set `auth`, `username` and `password`".to_owned()
        }
        Auth::Plain { .. } | Auth::Login { .. } if is_sign_in => {
            format!("check the password of {mailbox}")
        }
        _ => {
            let sender = sender.map(Address::to_string).unwrap_or_default();
            let text = row.remedy.replace("{mailbox}", mailbox);
            text.replace("{sender}", &sender)
                .replace("{host}", &upstream.hello)
        }
    }
}

pub(super) fn token_trouble(server: &str, error: &TokenError) -> Trouble {
    let reason = format!("no token for {server}: {error}");
    let word = match error.is_transient() {
        true => Word::Slowed(Patience::Minutes, reason),
        false => Word::Held(Until::Probe, reason),
    };
    Trouble::Mailbox { word, reply: None }
}
