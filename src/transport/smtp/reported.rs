//! A delivery report's words about a recipient, as a reply with its remedy. Pure.

use super::remedy::remedy;
use super::stage::Stage;
use super::table;
use crate::base::Service;
use crate::message::{Address, BouncedRecipient};
use crate::transport::answer::Answer;
use crate::transport::upstream::Upstream;

/// The words with which Exchange introduces the reply of another server.
const REMOTE: &str = "Remote server returned an error -> ";

/// The code of a report without one.
const CODE: u16 = 550;

/// Returns what a report says of a recipient as a reply, and the remedy; empty if none is known. `upstream`
/// is the server that had accepted the message, if it is still configured, and `sender` the address that the
/// message was sent as.
pub fn reported(
    upstream: Option<&Upstream>,
    sender: Option<&Address>,
    recipient: &BouncedRecipient,
) -> (Answer, String) {
    let answer = answer(recipient);
    let Some(upstream) = upstream else {
        return (answer, String::new());
    };
    // What another server says does not concern our mailbox at Microsoft.
    let is_remote = recipient.remote.is_some() || recipient.diagnostic.contains(REMOTE);
    let service = if is_remote {
        Service::Other
    } else {
        upstream.smtp.service
    };
    let row = table::row(service, Stage::Report, &answer);
    let remedy = remedy(upstream, row, sender);
    (answer, remedy)
}

/// Reads a reply such as `550-5.1.1 No such user 550 5.1.1 here`.
fn answer(recipient: &BouncedRecipient) -> Answer {
    let said = recipient.diagnostic.as_str();
    let said = said.rsplit_once(REMOTE).map_or(said, |(_, inner)| inner);
    let (code, rest) = match said.get(..3).and_then(|code| code.parse().ok()) {
        Some(code @ 400..600) => (code, said[3..].trim_start_matches(['-', ' ', '#'])),
        _ => (CODE, said),
    };
    let word = rest.split(' ').next().unwrap_or_default();
    let (enhanced, text) = match is_status(word) {
        true => (word, rest[word.len()..].trim_start()),
        false => (recipient.status.as_str(), rest),
    };
    let text = if text.is_empty() {
        "no reason is stated"
    } else {
        text
    };
    Answer::new(code, enhanced.to_owned(), text.to_owned())
}

/// True for a status such as `5.1.10` (RFC 3463 §2).
fn is_status(word: &str) -> bool {
    let mut parts = word.split('.');
    let is_number = |part: &str| {
        !part.is_empty() && part.len() <= 3 && part.bytes().all(|it| it.is_ascii_digit())
    };
    matches!(parts.next(), Some("4" | "5")) && parts.clone().count() == 2 && parts.all(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: &str, diagnostic: &str) -> String {
        let recipient = BouncedRecipient {
            addresses: Vec::new(),
            status: status.into(),
            diagnostic: diagnostic.into(),
            remote: None,
        };
        answer(&recipient).to_string()
    }

    #[test]
    fn a_reply_is_read_from_what_reports_say() {
        for (status, diagnostic, expected) in [
            (
                "5.1.10",
                "550 5.1.10 RESOLVER.ADR.RecipientNotFound; x",
                "550 5.1.10 RESOLVER.ADR.RecipientNotFound; x",
            ),
            (
                "5.1.1",
                "550-5.1.1 No such 550 5.1.1 user",
                "550 5.1.1 No such 550 5.1.1 user",
            ),
            (
                "5.0.350",
                "550 5.0.350 Remote server returned an error -> 550 #5.7.1 Rejected",
                "550 5.7.1 Rejected",
            ),
            (
                "5.0.0",
                "550 No such user here",
                "550 5.0.0 No such user here",
            ),
            ("5.4.4", "Host not found", "550 5.4.4 Host not found"),
            ("5.0.0", "", "550 5.0.0 no reason is stated"),
            ("", "550", "550 no reason is stated"),
            ("5.1.1", "ünbekannt", "550 5.1.1 ünbekannt"),
        ] {
            assert_eq!(said(status, diagnostic), expected);
        }
    }
}
