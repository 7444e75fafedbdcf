//! The remedy for an upstream's reply: what a person can do about it. Pure.

use super::failure::Failure;
use super::server::Auth;
use super::table::{self, Row};
use crate::base::Service;
use crate::base::secret::ExposeSecret;
use crate::message::Address;
use crate::token::{Access, Claims};
use crate::transport::upstream::Upstream;

/// Returns the server's words, followed by the remedy if there is one.
pub(super) fn with_remedy(said: &str, remedy: &str) -> String {
    if remedy.is_empty() {
        said.to_owned()
    } else {
        format!("{said}; {remedy}")
    }
}

/// Returns the remedy of a row of the table, for this server; empty if none is known.
pub(super) fn remedy(upstream: &Upstream, row: &Row, sender: Option<&Address>) -> String {
    let is_sign_in = matches!(row.name, "not_authenticated" | "sign_in_refused");
    let mailbox = upstream.limited().unwrap_or_default();
    match &upstream.smtp.auth {
        Auth::None if is_sign_in => {
            "the server requires a sign-in: set `auth`, `username` and `password`".to_owned()
        }
        Auth::Plain { .. } | Auth::Login { .. } if is_sign_in => {
            format!("check the password of {mailbox}")
        }
        _ => {
            let sender = sender.map(Address::to_string).unwrap_or_default();
            let text = row.remedy.replace("{mailbox}", mailbox);
            text.replace("{sender}", &sender)
                .replace("{host}", &upstream.smtp.hello)
        }
    }
}

/// Returns the remedy for a failure. `None` if none is known, or if the server sent no reply.
pub(super) fn of_failure(upstream: &Upstream, failure: &Failure) -> Option<String> {
    let row = table::row(upstream.smtp.service, failure.stage(), failure.answer()?);
    Some(remedy(upstream, row, None)).filter(|remedy| !remedy.is_empty())
}

/// Returns the commands with which an Exchange administrator permits an app to send as the mailbox
/// (`token/entra.md`, Permissions). `None` if the failure is not that the server refused an app's token.
pub(super) fn permit_commands(
    upstream: &Upstream,
    failure: &Failure,
    access: &Access,
) -> Option<String> {
    let service = upstream.smtp.service;
    let row = table::row(service, failure.stage(), failure.answer()?);
    let claims = Claims::of(access.token.expose_secret())?;
    let is_app = !claims.roles.is_empty() && claims.scopes.is_none();
    let is_it = service == Service::ExchangeOnline && row.name == "not_authenticated" && is_app;
    let (app, object, mailbox) = (claims.app?, claims.object?, upstream.limited()?);
    is_it.then(|| {
        format!(
            "if Exchange does not know this app yet, an administrator must run these commands in Exchange Online PowerShell:\n\
             New-ServicePrincipal -AppId {app} -ObjectId {object}\n\
             New-ManagementScope -Name mailferry -RecipientRestrictionFilter \"PrimarySmtpAddress -eq '{mailbox}'\"\n\
             New-ManagementRoleAssignment -App {app} -Role \"Application SMTP.SendAsApp\" -CustomResourceScope mailferry\n\
             Set-CASMailbox {mailbox} -SmtpClientAuthenticationDisabled $false\n\
             Exchange takes up to 2 hours to apply the changes"
        )
    })
}
