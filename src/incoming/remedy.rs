//! What a mail server's refusal means, and what mends it (`transport/smtp/exchange_online.md`, "IMAP and POP").
//! Pure.

use std::time::Duration;

use super::error::NotReached;
use super::mailbox::Mailbox;
use super::protocol::ReadingProtocol;
use super::upstream::UpstreamError;
use crate::transport::smtp::Auth;

/// The longest pause that is accepted from a mail server.
const LONGEST: Duration = Duration::from_secs(600);

/// The text of Exchange that states a pause in milliseconds.
const BACKOFF: &str = "suggested backoff time:";

/// Returns the pause that an answer asks for: `Request is throttled. Suggested Backoff Time: 5000 milliseconds`.
pub(super) fn pause(answer: &str) -> Option<Duration> {
    let answer = answer.to_ascii_lowercase();
    let (_, after) = answer.split_once(BACKOFF)?;
    let number: String = after
        .trim_start()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    let pause = Duration::from_millis(number.parse().ok()?);
    Some(pause.min(LONGEST))
}

/// True if a new token may help: the refusal is about the sign-in itself, not about a limit.
pub(super) fn is_about_token(answer: &str) -> bool {
    let answer = answer.to_ascii_lowercase();
    !answer.contains("not connected") && !answer.contains("throttled")
}

/// Returns the remedy for a failure, if one is known.
pub(crate) fn of(
    mailbox: &Mailbox,
    protocol: ReadingProtocol,
    error: &NotReached,
) -> Option<String> {
    let NotReached::Upstream(UpstreamError::Refused { host, answer, .. }) = error else {
        return None;
    };
    let is_exchange = host.ends_with(".office365.com") || host.ends_with(".outlook.com");
    let address = &mailbox.address;
    let (key, scope, app_role) = match protocol {
        ReadingProtocol::Imap => ("ImapEnabled", "IMAP.AccessAsUser.All", "IMAP.AccessAsApp"),
        ReadingProtocol::Pop3 => ("PopEnabled", "POP.AccessAsUser.All", "POP.AccessAsApp"),
    };
    let answer = answer.to_ascii_lowercase();
    let switch_on = format!("Set-CASMailbox -Identity {address} -{key} $true");
    Some(match &mailbox.auth {
        _ if answer.contains("throttled") => {
            "the mailbox is used too much at the moment; mailferry signs in again after the pause"
                .to_owned()
        }
        Auth::XOAuth2 { .. } if answer.contains("not connected") => format!(
            "the token is right, but it does not open {address}: switch {protocol} on for the mailbox ({switch_on}); if it is a shared \
             mailbox, or the app signs in by itself, give it the right to read (Add-MailboxPermission -Identity {address} -User \
             PERSON_OR_SERVICE_PRINCIPAL -AccessRights FullAccess); too many connections at once cause this answer too"
        ),
        Auth::XOAuth2 { .. } if is_exchange || answer.contains("authenticate failed") => format!(
            "check that the token may read {address}: the scope {scope} for a person, or the role {app_role} with admin consent, a service \
             principal and Add-MailboxPermission for an app; and that {protocol} is on for the mailbox ({switch_on})"
        ),
        Auth::XOAuth2 { .. } => {
            format!("check that the token may read {address}, and that {protocol} is on for it")
        }
        _ => "check `username` and `password` of the server".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_of_a_throttled_mailbox_is_read() {
        for (answer, expected) in [
            (
                "NO Request is throttled. Suggested Backoff Time: 5000 milliseconds",
                Some(5_000),
            ),
            (
                "BAD Suggested Backoff Time: 99999999 milliseconds",
                Some(600_000),
            ),
            ("NO AUTHENTICATE failed.", None),
            ("Suggested Backoff Time: soon", None),
        ] {
            assert_eq!(
                pause(answer),
                expected.map(Duration::from_millis),
                "{answer}"
            );
        }
    }
}
