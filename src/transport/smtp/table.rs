//! The meaning of upstream replies, one row for each kind: `transport/smtp/exchange_online.md`, "Replies
//! and the right reaction". Pure. The first row that matches applies, so specific rows come before general
//! ones.

mod reports;
mod row;

use std::time::Duration;

use super::reaction::Reaction;
use super::stage::Stage;
use crate::base::Service;
use crate::transport::answer::Answer;
use crate::transport::finding::{Patience, Until};
pub use row::Row;
use row::{ANY, EXCHANGE, parts};

const HOUR: Duration = Duration::from_secs(3_600);

/// Stages outside a transaction: the reply is about the server, not about a message.
const SESSION: &[Stage] = &[
    Stage::Connect,
    Stage::Tls,
    Stage::Greeting,
    Stage::Ehlo,
    Stage::End,
];

const MESSAGE: &[Stage] = &[Stage::Data, Stage::Content, Stage::FinalDot];

static TABLE: &[Row] = &[
    Row {
        name: "crowded",
        codes: 400..=499,
        says: &[
            "concurrent connections limit exceeded",
            "sender thread limit exceeded",
        ],
        reaction: Reaction::Crowded,
        ..ANY
    },
    Row {
        name: "crowded",
        codes: 432..=432,
        reaction: Reaction::Crowded,
        ..EXCHANGE
    },
    Row {
        name: "pace",
        codes: 400..=499,
        says: &["submission rate for this client has exceeded"],
        reaction: Reaction::TooFast,
        ..ANY
    },
    Row {
        name: "hello_refused",
        stages: &[Stage::Ehlo],
        codes: 501..=501,
        reaction: Reaction::Slowed(Patience::Minutes),
        remedy: "the server does not accept {host} as a host name: set `host` (at the top of the configuration) to a \
                 name with dots, letters, digits and dashes, such as relay.example.com",
        ..ANY
    },
    Row {
        name: "server_says_no",
        stages: SESSION,
        codes: 400..=599,
        reaction: Reaction::Slowed(Patience::Minutes),
        ..ANY
    },
    Row {
        name: "goodbye",
        codes: 421..=421,
        ..ANY
    },
    Row {
        name: "smtp_auth_off_tenant",
        codes: 535..=535,
        says: &["disabled for the tenant"],
        reaction: Reaction::Held(Until::Probe),
        remedy: "SMTP AUTH is switched off for the tenant: an Exchange administrator must run \
                 Set-TransportConfig -SmtpClientAuthenticationDisabled $false, or, to switch it on for this mailbox only, \
                 Set-CASMailbox -Identity {mailbox} -SmtpClientAuthenticationDisabled $false",
        ..EXCHANGE
    },
    Row {
        name: "smtp_auth_off_mailbox",
        codes: 535..=535,
        says: &["disabled for the mailbox"],
        reaction: Reaction::Held(Until::Probe),
        remedy: "SMTP AUTH is switched off for the mailbox: an Exchange administrator must run \
                 Set-CASMailbox -Identity {mailbox} -SmtpClientAuthenticationDisabled $false",
        ..EXCHANGE
    },
    Row {
        name: "sign_in_forbidden",
        codes: 535..=535,
        enhanced: &[(5, 7, 139..=139)],
        reaction: Reaction::Held(Until::Probe),
        remedy: "a policy forbids the sign-in: check security defaults, Conditional Access and the authentication policy of \
                 {mailbox} (Entra admin center, Sign-in logs), and check that SMTP AUTH is on: \
                 Set-CASMailbox -Identity {mailbox} -SmtpClientAuthenticationDisabled $false",
        ..EXCHANGE
    },
    Row {
        name: "basic_auth_gone",
        codes: 550..=550,
        enhanced: &[(5, 7, 30..=30)],
        reaction: Reaction::Held(Until::Probe),
        remedy: "Exchange Online no longer accepts passwords: give the server `oauth` and a `grant` instead of `auth` and `password`",
        ..EXCHANGE
    },
    Row {
        name: "token_expires_soon",
        stages: &[Stage::Auth],
        codes: 501..=501,
        enhanced: &[(5, 5, 127..=127)],
        reaction: Reaction::FreshToken,
        remedy: "the server requires a token with a longer lifetime: check this machine's clock, and that no token lifetime policy \
                 shortens the tokens of this app",
        ..ANY
    },
    Row {
        name: "not_authenticated",
        stages: &[Stage::Auth],
        codes: 535..=535,
        reaction: Reaction::FreshToken,
        remedy: "check that the token is for {mailbox}, and that the app may send as it (SMTP.Send for the token of a user, \
                 SMTP.SendAsApp and a service principal for the token of an app)",
        ..ANY
    },
    Row {
        name: "not_authenticated",
        codes: 530..=530,
        enhanced: &[(5, 7, 0..=999)],
        reaction: Reaction::FreshToken,
        remedy: "check that the token is for {mailbox}, and that the app may send as it (SMTP.Send for the token of a user, \
                 SMTP.SendAsApp and a service principal for the token of an app)",
        ..ANY
    },
    Row {
        name: "not_authenticated",
        stages: &[Stage::Mail],
        codes: 530..=530,
        reaction: Reaction::FreshToken,
        remedy: "check that the server accepts the sign-in of {mailbox}",
        ..ANY
    },
    Row {
        name: "sign_in_busy",
        stages: &[Stage::Auth],
        codes: 400..=499,
        reaction: Reaction::Slowed(Patience::Minutes),
        ..ANY
    },
    Row {
        name: "sign_in_refused",
        stages: &[Stage::Auth],
        codes: 500..=599,
        reaction: Reaction::Held(Until::Probe),
        remedy: "check `auth` of the server, and the user and password of {mailbox}",
        ..ANY
    },
    Row {
        name: "external_recipients_of_the_day",
        codes: 500..=599,
        enhanced: &[(5, 7, 232..=233)],
        reaction: Reaction::ExternalHeld(HOUR),
        remedy: "the tenant of {mailbox} has reached its limit on external recipients in 24 hours, so more mailboxes do not help: \
                 wait, buy licences, or send mass mail through Azure Communication Services; mail within the tenant continues",
        ..EXCHANGE
    },
    Row {
        name: "invalid_recipients",
        stages: MESSAGE,
        codes: 500..=599,
        says: &["invalidrecipientsexception"],
        reaction: Reaction::FailedAndSlowed,
        remedy: "some recipients of the message do not exist: remove these addresses; if such messages are repeated, Exchange blocks {mailbox}",
        ..EXCHANGE
    },
    Row {
        name: "mailbox_blocked",
        codes: 500..=599,
        enhanced: &[(5, 2, 251..=251), (5, 2, 253..=255)],
        reaction: Reaction::Held(Until::For(HOUR.saturating_mul(4))),
        remedy: "Exchange has blocked {mailbox} for some time because of repeated errors: correct their cause (see the log), then wait",
        ..EXCHANGE
    },
    Row {
        name: "mailbox_blocked",
        codes: 500..=599,
        says: &["throttled due to continuous"],
        reaction: Reaction::Held(Until::For(HOUR.saturating_mul(4))),
        remedy: "Exchange has blocked {mailbox} for some time because of repeated errors: correct their cause (see the log), then wait",
        ..EXCHANGE
    },
    Row {
        name: "banned",
        codes: 500..=599,
        enhanced: &[
            (5, 1, 8..=8),
            (5, 1, 90..=90),
            (5, 7, 501..=503),
            (5, 7, 705..=705),
            (5, 7, 708..=708),
            (5, 7, 750..=750),
        ],
        reaction: Reaction::Held(Until::For(HOUR)),
        remedy: "Microsoft has blocked {mailbox}, or its tenant, from sending: an administrator must look at Restricted entities \
                 (Microsoft Defender portal, Email & collaboration, Review), secure the account, and unblock it",
        ..EXCHANGE
    },
    Row {
        name: "recipients_of_the_day",
        codes: 400..=599,
        says: &[
            "submissionquotaexceeded",
            "recipient rate limit",
            "exceeded the maximum number of recipients",
        ],
        reaction: Reaction::Held(Until::For(HOUR.saturating_mul(2))),
        remedy: "{mailbox} has reached its limit of 10,000 recipients in 24 hours: spread the mail over more mailboxes, or use \
                 High Volume Email or Azure Communication Services for mass mail",
        ..EXCHANGE
    },
    Row {
        name: "send_as_denied",
        codes: 500..=599,
        says: &["sendasdenied", "send as this sender", "sendonbehalfof"],
        reaction: Reaction::SenderRefused,
        remedy: "{mailbox} may not send as {sender}: run Add-RecipientPermission -Identity {sender} -Trustee {mailbox} -AccessRights SendAs, \
                 or leave {sender} out of `from_filter` so that it is rewritten",
        ..EXCHANGE
    },
    Row {
        name: "send_as_denied",
        codes: 500..=599,
        enhanced: &[(5, 2, 252..=252), (5, 7, 60..=60)],
        reaction: Reaction::SenderRefused,
        remedy: "{mailbox} may not send as {sender}: run Add-RecipientPermission -Identity {sender} -Trustee {mailbox} -AccessRights SendAs, \
                 or leave {sender} out of `from_filter` so that it is rewritten",
        ..EXCHANGE
    },
    Row {
        name: "mailbox_full",
        stages: MESSAGE,
        codes: 500..=599,
        enhanced: &[(5, 2, 2..=2)],
        reaction: Reaction::Held(Until::For(HOUR)),
        remedy: "{mailbox} is full, most likely because of Sent Items: delete or archive them; \
                 Set-MailboxMessageConfiguration and retention policies can keep it from filling up again",
        ..EXCHANGE
    },
    Row {
        name: "high_volume_email",
        codes: 500..=599,
        enhanced: &[(5, 5, 105..=105), (5, 7, 62..=62)],
        reaction: Reaction::Failed,
        remedy: "a High Volume Email account sends to recipients within the tenant only: route external mail through \
                 another server",
        ..EXCHANGE
    },
    Row {
        name: "high_volume_email",
        codes: 500..=599,
        enhanced: &[(5, 6, 241..=241), (5, 2, 240..=240)],
        reaction: Reaction::Failed,
        remedy: "a High Volume Email account sends as itself only: set `from_filter` of its server to {mailbox}",
        ..EXCHANGE
    },
    Row {
        name: "direct_send_rejected",
        codes: 500..=599,
        enhanced: &[(5, 7, 68..=68)],
        reaction: Reaction::Failed,
        remedy: "the tenant rejects Direct Send: configure a sign-in for this server (`oauth`, `grant`, `username`)",
        ..EXCHANGE
    },
    Row {
        name: "too_large",
        codes: 500..=599,
        says: &["maxsubmissionexceeded", "message size exceeds"],
        reaction: Reaction::Failed,
        ..ANY
    },
    Row {
        name: "too_large",
        codes: 552..=552,
        enhanced: &[(5, 3, 4..=4)],
        reaction: Reaction::Failed,
        ..ANY
    },
    Row {
        name: "reputation",
        codes: 400..=499,
        enhanced: &[(4, 7, 500..=699)],
        reaction: Reaction::Slowed(Patience::Hours),
        remedy: "Microsoft limits the sender because of its reputation: check what {mailbox} has sent recently, and look at \
                 Restricted entities (Microsoft Defender portal); the limit ends by itself",
        ..EXCHANGE
    },
    Row {
        name: "too_many_recipients",
        stages: &[Stage::Rcpt],
        codes: 452..=452,
        enhanced: &[(4, 5, 3..=3)],
        reaction: Reaction::NextTransaction,
        ..ANY
    },
    // RFC 5321 §4.5.3.1.10: a 552 to RCPT means 452.
    Row {
        name: "too_many_recipients",
        stages: &[Stage::Rcpt],
        codes: 552..=552,
        says: &["too many recipients"],
        reaction: Reaction::NextTransaction,
        ..ANY
    },
    Row {
        name: "too_many_recipients",
        stages: &[Stage::Rcpt],
        codes: 552..=552,
        enhanced: &[(5, 5, 3..=3)],
        reaction: Reaction::NextTransaction,
        ..ANY
    },
    Row {
        name: "mailbox_logon",
        codes: 400..=499,
        says: &["mapiexceptionlogonfailed", "mailbox logon failure"],
        reaction: Reaction::Slowed(Patience::Hours),
        remedy: "Exchange cannot open {mailbox}: most often because the app or user lacks full access \
                 (Add-MailboxPermission -Identity {mailbox} -User ... -AccessRights FullAccess)",
        ..EXCHANGE
    },
    Row {
        name: "transient",
        codes: 400..=499,
        enhanced: &[(4, 4, 0..=999)],
        ..ANY
    },
    Row {
        name: "temporary_server_error",
        codes: 451..=451,
        enhanced: &[(4, 7, 0..=0)],
        says: &["temporary server error"],
        ..EXCHANGE
    },
    Row {
        name: "recipient_refused",
        stages: &[Stage::Rcpt],
        codes: 500..=599,
        reaction: Reaction::Failed,
        ..ANY
    },
];

/// The row for all 2yz replies, the most frequent ones; no other row applies to them.
static DONE: Row = Row {
    name: "done",
    codes: 200..=299,
    reaction: Reaction::Delivered,
    ..ANY
};

/// The safe choices for replies that no row of the table matches. These replies are counted, so that rows
/// can be added for them.
static UNKNOWN: &[Row] = &[
    Row {
        name: "unclassified_temporary",
        codes: 0..=499,
        ..ANY
    },
    Row {
        name: "unclassified_permanent",
        reaction: Reaction::Failed,
        ..ANY
    },
];

/// Returns the row for a service's reply at a stage.
pub fn row(service: Service, stage: Stage, answer: &Answer) -> &'static Row {
    if DONE.codes.contains(&answer.code) {
        return &DONE;
    }
    let text = answer.text.to_lowercase();
    let enhanced = parts(&answer.enhanced);
    let matches = |row: &&Row| {
        row.service.is_none_or(|its| its == service)
            && row.matches(stage, answer.code, enhanced, &text)
    };
    if stage == Stage::Report {
        // Other servers say nothing of our mailbox.
        let own = if service == Service::Other {
            &[]
        } else {
            TABLE
        };
        let mut rows = reports::ROWS.iter().chain(own);
        return rows.find(matches).unwrap_or(&reports::OTHER);
    }
    let mut rows = TABLE.iter().chain(UNKNOWN);
    rows.find(matches).unwrap_or(&UNKNOWN[1])
}

/// True if this is one of the rows for replies that no row of the table matches.
pub fn is_unclassified(row: &Row) -> bool {
    UNKNOWN.iter().any(|it| std::ptr::eq(it, row))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn stage(name: &str) -> Stage {
        match name {
            "connect" => Stage::Connect,
            "greeting" => Stage::Greeting,
            "ehlo" => Stage::Ehlo,
            "auth" => Stage::Auth,
            "mail" => Stage::Mail,
            "rcpt" => Stage::Rcpt,
            "final_dot" => Stage::FinalDot,
            "report" => Stage::Report,
            name => panic!("no stage {name}"),
        }
    }

    fn answer(line: &str) -> Answer {
        let (code, text) = line.split_once(' ').unwrap();
        let word = text.split(' ').next().unwrap();
        let enhanced = if parts(word).is_some() { word } else { "" };
        let text = text[enhanced.len()..].trim_start();
        Answer::new(code.parse().unwrap(), enhanced.to_owned(), text.to_owned())
    }

    #[test]
    fn each_wording_meets_its_row_and_each_row_is_met() {
        let mut met = HashSet::new();
        let lines = include_str!("../../../tests/replies.txt").lines();
        for line in lines.filter(|line| !line.starts_with('#')) {
            let [at, said, expected] = line.splitn(3, " | ").collect::<Vec<_>>()[..] else {
                panic!("{line}");
            };
            let (service, at) = match at.strip_prefix("smarthost ") {
                Some(at) => (Service::Other, at),
                None => (Service::ExchangeOnline, at),
            };
            let row = row(service, stage(at), &answer(said));
            assert_eq!(row.name, expected, "{line}");
            met.insert(std::ptr::from_ref(row));
        }
        let never = TABLE
            .iter()
            .chain(UNKNOWN)
            .chain(reports::ROWS)
            .filter(|row| !met.contains(&std::ptr::from_ref(*row)));
        let never: Vec<_> = never.map(|row| (row.name, row.codes.clone())).collect();
        assert!(
            never.is_empty(),
            "no line of tests/replies.txt meets {never:?}"
        );
    }
}
