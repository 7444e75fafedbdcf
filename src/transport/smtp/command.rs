//! The extensions that EHLO offered, and the commands of a transaction, which depend on them. Pure.

use crate::message::{Address, Parameters};
use crate::transport::outgoing::{Body, Outgoing};

/// The extensions that EHLO offered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Extensions {
    pub(super) pipelining: bool,
    pub(super) eight_bit: bool,
    pub(super) utf8: bool,
    pub(super) dsn: bool,
    pub(super) size: bool,
    pub(super) chunking: bool,
    pub(super) starttls: bool,
}

/// Reads the reply to EHLO: the lines after the first are keywords (RFC 5321 §4.1.1.1).
pub(super) fn extensions(text: &str) -> Extensions {
    let mut offered = Extensions::default();
    for line in text.lines().skip(1) {
        match line
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_ascii_uppercase()
            .as_str()
        {
            "PIPELINING" => offered.pipelining = true,
            "8BITMIME" => offered.eight_bit = true,
            "SMTPUTF8" => offered.utf8 = true,
            "DSN" => offered.dsn = true,
            "SIZE" => offered.size = true,
            "CHUNKING" => offered.chunking = true,
            "STARTTLS" => offered.starttls = true,
            _ => {}
        }
    }
    offered
}

/// Returns the MAIL command. It contains SIZE and the app's BODY, RET and ENVID if the server supports them,
/// and SMTPUTF8 only if the message needs it.
pub(super) fn mail_command(message: &Outgoing, offered: &Extensions) -> String {
    let parameters = &message.envelope.parameters;
    let utf8 = declares_utf8(message, offered);
    let sender = message
        .sender
        .address()
        .map_or(String::new(), |a| written(a, utf8));
    let mut command = format!("MAIL FROM:<{sender}>");
    if offered.size {
        let body = match &message.body {
            Body::Memory(bytes) => bytes.len() as u64,
            Body::Stream(_, size) => *size,
        };
        command.push_str(&format!(" SIZE={}", message.head.len() as u64 + body));
    }
    let passes_on = |keyword: &str| match keyword {
        "BODY" => offered.eight_bit,
        "RET" | "ENVID" => offered.dsn,
        _ => false,
    };
    pass_on(&mut command, parameters, passes_on);
    if utf8 {
        command.push_str(" SMTPUTF8");
    }
    command.push_str("\r\n");
    command
}

/// True if the message's MAIL command contains SMTPUTF8.
pub(super) fn declares_utf8(message: &Outgoing, offered: &Extensions) -> bool {
    let is_asked_for = message.envelope.parameters.get("SMTPUTF8").is_some();
    offered.utf8 && (message.utf8_header && is_asked_for || needs_utf8(message))
}

/// True if an address has a local part that only SMTPUTF8 can carry (RFC 6531 §3.3).
pub(super) fn needs_utf8(message: &Outgoing) -> bool {
    let recipients = message
        .envelope
        .recipients
        .iter()
        .map(|recipient| &recipient.address);
    message
        .sender
        .address()
        .into_iter()
        .chain(recipients)
        .any(|address| address.to_ascii().is_none())
}

pub(super) fn rcpt_command(
    address: &Address,
    parameters: &Parameters,
    dsn: bool,
    utf8: bool,
) -> String {
    let mut command = format!("RCPT TO:<{}>", written(address, utf8));
    pass_on(&mut command, parameters, |keyword| {
        dsn && matches!(keyword, "NOTIFY" | "ORCPT")
    });
    command.push_str("\r\n");
    command
}

/// Returns the address as the app wrote it, except that an internationalized domain becomes A-labels if MAIL
/// has no SMTPUTF8 (RFC 6531 §3.2).
fn written(address: &Address, utf8: bool) -> String {
    match (utf8, address.to_ascii()) {
        (false, Some(ascii)) => ascii,
        _ => address.to_string(),
    }
}

fn pass_on(command: &mut String, parameters: &Parameters, passes_on: impl Fn(&str) -> bool) {
    for (keyword, value) in parameters.iter() {
        if passes_on(&keyword.to_ascii_uppercase()) {
            command.push(' ');
            command.push_str(keyword);
            if let Some(value) = value {
                command.push('=');
                command.push_str(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    use crate::message::{Envelope, Recipient, ReversePath};

    fn command(sender: &str, parameters: &str, offered: &Extensions, utf8_header: bool) -> String {
        let envelope = Envelope {
            sender: ReversePath::Null,
            parameters: Parameters::parse(parameters).unwrap(),
            recipients: vec![Recipient {
                address: Address::parse("to@x.com").unwrap(),
                parameters: Parameters::default(),
            }],
        };
        let sender = ReversePath::parse(sender).unwrap();
        let message = Outgoing {
            sender: &sender,
            envelope: &envelope,
            head: b"A: b\r\n\r\n",
            body: Body::Memory(Bytes::new()),
            author: None,
            utf8_header,
            all_or_none: false,
        };
        mail_command(&message, offered).trim_end().to_owned()
    }

    #[test]
    fn parameters_are_passed_on_where_they_are_offered() {
        let all = extensions("mx\nPIPELINING\nSIZE 5\n8bitmime\nSMTPUTF8\nDSN");
        let none = Extensions::default();
        let given = "BODY=8BITMIME RET=HDRS ENVID=a+2Bb SIZE=99 AUTH=<> SMTPUTF8";
        assert_eq!(command("", given, &none, false), "MAIL FROM:<>");
        assert_eq!(
            command("a@b.c", given, &all, false),
            "MAIL FROM:<a@b.c> SIZE=8 BODY=8BITMIME RET=HDRS ENVID=a+2Bb"
        );
        assert_eq!(
            command("a@b.c", "SMTPUTF8", &all, true),
            "MAIL FROM:<a@b.c> SIZE=8 SMTPUTF8"
        );
        assert_eq!(
            command("é@b.c", "", &all, false),
            "MAIL FROM:<é@b.c> SIZE=8 SMTPUTF8"
        );
        assert_eq!(
            command("a@é.c", "", &none, false),
            "MAIL FROM:<a@xn--9ca.c>"
        );
        assert_eq!(
            command("a@é.c", "SMTPUTF8", &all, false),
            "MAIL FROM:<a@xn--9ca.c> SIZE=8"
        );
    }
}
