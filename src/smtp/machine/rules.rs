//! The order in which commands are allowed, and the parameters that are offered.

use super::{Machine, Protection};
use crate::message::Parameters;
use crate::smtp::command::Command;
use crate::smtp::reply::Reply;

impl Machine {
    /// Checks that the command is allowed now and that its parameters are offered.
    pub(super) fn check(&self, command: &Command) -> Result<(), Reply> {
        let Protection {
            offers_tls,
            tls,
            plaintext,
            plaintext_auth,
        } = self.protection;
        match command {
            Command::Ehlo(_) | Command::Helo(_) | Command::Quit | Command::Noop | Command::Help => {
                Ok(())
            }
            Command::StartTls if tls || !offers_tls => Err(Reply::tls_unavailable()),
            // An attacker may have injected the sign-in, because it arrived in clear (RFC 3207 §4.2).
            Command::StartTls if self.signed_in => Err(Reply::tls_too_late()),
            Command::StartTls => Ok(()),
            _ if !tls && !plaintext => Err(Reply::tls_required()),
            Command::Rset | Command::Vrfy => Ok(()),
            _ if self.helo.is_none() => Err(Reply::bad_sequence("EHLO")),
            Command::Auth { .. } if self.signed_in => Err(Reply::authenticated_already()),
            Command::Auth { .. } if self.transaction.is_some() => Err(Reply::bad_sequence("RSET")),
            Command::Auth { .. } if !self.settings.offers_auth => {
                Err(Reply::auth_unavailable_here())
            }
            Command::Auth { .. } if !tls && !plaintext_auth => Err(Reply::encryption_required()),
            Command::Auth { .. } => Ok(()),
            _ if self.user.is_none() && !self.settings.offers_auth => Err(Reply::unknown_client()),
            _ if self.user.is_none() => Err(Reply::auth_required()),
            Command::Mail(..) if self.transaction.is_some() => {
                Err(Reply::bad_sequence("RSET or DATA"))
            }
            Command::Mail(_, parameters) => self.check_mail_parameters(parameters),
            Command::Rcpt(_, parameters) => {
                let transaction = self
                    .transaction
                    .as_ref()
                    .ok_or(Reply::bad_sequence("MAIL"))?;
                if transaction.envelope.recipients.len() >= self.settings.recipients {
                    return Err(Reply::too_many_recipients());
                }
                check_each(parameters, is_rcpt_parameter)
            }
            Command::Data => match &self.transaction {
                None => Err(Reply::bad_sequence("MAIL")),
                Some(t) if !t.envelope.recipients.is_empty() => Ok(()),
                Some(t) if t.refused_recipients > 0 => Err(Reply::no_valid_recipients()),
                Some(_) => Err(Reply::bad_sequence("RCPT")),
            },
        }
    }

    fn check_mail_parameters(&self, parameters: &Parameters) -> Result<(), Reply> {
        check_each(parameters, is_mail_parameter)?;
        let declared = parameters
            .get("SIZE")
            .map(|size| size.parse::<u64>().unwrap_or(u64::MAX));
        match declared {
            Some(size) if size > self.settings.message_size => {
                Err(Reply::too_large(self.settings.message_size))
            }
            _ => Ok(()),
        }
    }
}

fn check_each(parameters: &Parameters, known: fn(&str, &str) -> bool) -> Result<(), Reply> {
    match parameters.iter().find(|(keyword, value)| {
        !known(
            &keyword.to_ascii_uppercase(),
            &value.unwrap_or_default().to_ascii_uppercase(),
        )
    }) {
        Some((keyword, _)) => Err(Reply::unknown_parameter(keyword)),
        None => Ok(()),
    }
}

/// True for a valid parameter of MAIL: SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8 (RFC 6531), RET and ENVID
/// (RFC 3461), AUTH (RFC 4954).
fn is_mail_parameter(keyword: &str, value: &str) -> bool {
    match keyword {
        "SIZE" => (1..=20).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit()),
        "BODY" => matches!(value, "7BIT" | "8BITMIME"),
        "SMTPUTF8" => value.is_empty(),
        "RET" => matches!(value, "FULL" | "HDRS"),
        "ENVID" => (1..=100).contains(&value.len()),
        "AUTH" => (1..=500).contains(&value.len()),
        _ => false,
    }
}

/// True for a valid parameter of RCPT: NOTIFY and ORCPT (RFC 3461 §4.1 and §4.2).
fn is_rcpt_parameter(keyword: &str, value: &str) -> bool {
    match keyword {
        "NOTIFY" => value == "NEVER" || is_notify_list(value),
        "ORCPT" => {
            value.len() <= 500
                && value
                    .split_once(';')
                    .is_some_and(|(kind, _)| !kind.is_empty())
        }
        _ => false,
    }
}

/// True for a list of SUCCESS, FAILURE and DELAY, each at most once.
fn is_notify_list(value: &str) -> bool {
    let mut left = vec!["SUCCESS", "FAILURE", "DELAY"];
    value.split(',').all(|when| {
        let place = left.iter().position(|word| *word == when);
        place.map(|place| left.remove(place)).is_some()
    })
}
