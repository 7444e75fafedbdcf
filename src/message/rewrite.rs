//! Composes the header section of an outgoing message: replaces From, adds `Received`, Reply-To and missing
//! fields, and removes fields such as `Bcc`.

use serde::{Deserialize, Serialize};

use super::address::{Address, ReversePath};
use super::envelope::Envelope;
use super::header::{Field, Headers};
use super::mailbox::{self, Mailbox};
use crate::base::{MessageId, Timestamp};

/// The changes that routing decided (`routing/rules.md`, "Rewriting").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewriting {
    /// The reverse-path that is sent to the upstream.
    pub envelope_sender: ReversePath,
    /// The From that replaces all existing From fields. `None` leaves them unchanged.
    pub from: Option<Mailbox>,
    /// True if the address in `from` is not the author's: the message is sent on the author's behalf.
    pub is_for_another: bool,
    /// The new Reply-To. It is used only if no existing Reply-To names a mailbox.
    pub reply_to: Option<ReplyTo>,
}

/// The address for answers to a rewritten message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyTo {
    /// The original From, unchanged.
    AsItCame,
    /// The author's address. Used if the original From was malformed.
    Address(Address),
}

/// How much the `Received` field reveals about the client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shown {
    /// The client's name and its IP address (RFC 5321 §4.4).
    #[default]
    Full,
    /// The client's name.
    Name,
    /// Nothing.
    None,
}

/// The origin of a message, for its `Received` field (RFC 5321 §4.4).
#[derive(Debug, Clone)]
pub struct Trace<'a> {
    /// The message's id.
    pub id: MessageId,
    /// The Message-ID to add if the message has none. `None` makes one from the id and the host.
    pub message_id: Option<&'a str>,
    /// The time when the message was accepted.
    pub received: Timestamp,
    /// The name that the client gave in EHLO.
    pub helo: &'a str,
    /// The client's address as in an address literal, without brackets: `192.0.2.1` or `IPv6:...`.
    pub peer: &'a str,
    /// The protocol according to RFC 3848: ESMTP, ESMTPS, ESMTPA, ESMTPSA, SMTP.
    pub protocol: &'a str,
    /// The name of this host.
    pub host: &'a str,
    /// How much the field reveals about the client.
    pub shown: Shown,
}

/// A message ready to be sent: a new header section, followed by the body of the original message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Composed {
    /// The header section with its empty line.
    pub head: Vec<u8>,
    /// The offset of the body in the original message.
    pub body: usize,
}

/// Writes the header section to be sent. Fields that need no change are copied as they are.
pub fn compose(
    headers: &Headers,
    envelope: &Envelope,
    plan: &Rewriting,
    trace: &Trace,
) -> Composed {
    let mut head = Vec::with_capacity(headers.end + 512);
    received(&mut head, envelope, trace);
    let mut from = plan.from.as_ref();
    let reply_to = plan.reply_to.as_ref().filter(|_| !has_reply_to(headers));
    for field in &headers.fields {
        if plan.from.is_some() && headers.is(field, "From") {
            if let Some(mailbox) = from.take() {
                replaced_from(&mut head, mailbox);
                if let Some(to) = reply_to {
                    write_reply_to(&mut head, headers, field, to);
                }
            }
        } else if reply_to.is_some() && headers.is(field, "Reply-To") {
            // This Reply-To names no mailbox, and a new one replaces it.
        } else if !is_removed(headers, field, plan) {
            head.extend_from_slice(headers.slice(&field.whole));
        }
    }
    if !head.ends_with(b"\r\n") {
        head.extend_from_slice(b"\r\n");
    }
    if let Some(mailbox) = from {
        replaced_from(&mut head, mailbox);
    }
    missing(&mut head, headers, trace);
    head.extend_from_slice(b"\r\n");
    Composed {
        head,
        body: headers.body,
    }
}

/// Composes a message that this program wrote itself. Such a message already has all required fields, so only
/// its From is replaced.
pub(crate) fn written_by(headers: &Headers, from: &Mailbox) -> Composed {
    let mut head = Vec::with_capacity(headers.body);
    for field in &headers.fields {
        if headers.is(field, "From") {
            replaced_from(&mut head, from)
        } else {
            head.extend_from_slice(headers.slice(&field.whole))
        }
    }
    head.extend_from_slice(b"\r\n");
    Composed {
        head,
        body: headers.body,
    }
}

/// True if an existing Reply-To names a mailbox.
fn has_reply_to(headers: &Headers) -> bool {
    let mut fields = headers.fields.iter();
    fields.any(|field| {
        headers.is(field, "Reply-To") && mailbox::names_somebody(headers.slice(&field.value))
    })
}

/// True if the field is removed. `Bcc` and `Resent-Bcc` would reveal the recipients that they should hide.
/// `Return-Path` belongs to final delivery (RFC 5321 §4.4). If From was rewritten, `Sender` names an address
/// that this mailbox may not send as.
fn is_removed(headers: &Headers, field: &Field, plan: &Rewriting) -> bool {
    headers.is(field, "Bcc")
        || headers.is(field, "Resent-Bcc")
        || headers.is(field, "Return-Path")
        || (plan.is_for_another && headers.is(field, "Sender"))
}

fn received(head: &mut Vec<u8>, envelope: &Envelope, trace: &Trace) {
    let recipient = match envelope.recipients.as_slice() {
        // With several recipients, `for` would reveal one to the others (RFC 5321 §7.6).
        [only] if only.address.as_str().is_ascii() => format!("\r\n\tfor <{}>", only.address),
        _ => String::new(),
    };
    let Trace {
        id,
        received,
        helo,
        peer,
        protocol,
        host,
        shown,
        ..
    } = trace;
    // The client's name may be empty or not ASCII, but the field must be ASCII (RFC 5321 §4.4).
    let named = helo.is_ascii() && !helo.is_empty();
    let helo = if named { helo } else { "unknown" };
    let from = match shown {
        Shown::Full => format!("from {helo} ([{peer}])\r\n\t"),
        Shown::Name => format!("from {helo}\r\n\t"),
        Shown::None => String::new(),
    };
    let line = format!(
        "Received: {from}by {host} (mailferry) with {protocol} id {id}{recipient};\r\n\t{}\r\n",
        received.rfc5322()
    );
    head.extend_from_slice(line.as_bytes());
}

fn replaced_from(head: &mut Vec<u8>, mailbox: &Mailbox) {
    head.extend_from_slice(b"From: ");
    head.extend_from_slice(&mailbox.to_header_value("From: ".len()));
    head.extend_from_slice(b"\r\n");
}

/// Writes a Reply-To, so that an answer reaches the author.
fn write_reply_to(head: &mut Vec<u8>, headers: &Headers, from: &Field, to: &ReplyTo) {
    head.extend_from_slice(b"Reply-To:");
    match to {
        ReplyTo::AsItCame => head.extend_from_slice(headers.slice(&from.value)),
        ReplyTo::Address(address) => head.extend_from_slice(format!(" {address}").as_bytes()),
    }
    head.extend_from_slice(b"\r\n");
}

/// Adds Date and Message-ID if they are missing (RFC 6409 §8.2 and §8.3). The added values are the same at
/// every attempt.
fn missing(head: &mut Vec<u8>, headers: &Headers, trace: &Trace) {
    if headers.value("Date").is_none() {
        head.extend_from_slice(format!("Date: {}\r\n", trace.received.rfc5322()).as_bytes());
    }
    if headers.value("Message-ID").is_none() {
        let known = trace.message_id.map(str::to_owned);
        let id = known.unwrap_or_else(|| message_id(headers, trace.id, trace.host));
        head.extend_from_slice(format!("Message-ID: {id}\r\n").as_bytes());
    }
}

/// Returns the Message-ID that recipients see: the message's own, or the one that is added on sending.
pub(crate) fn message_id(headers: &Headers, id: MessageId, host: &str) -> String {
    match headers.value("Message-ID") {
        Some(value) => String::from_utf8_lossy(value.trim_ascii()).into_owned(),
        None => format!("<{id}@{host}>"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Address, Parameters, Recipient};

    fn envelope() -> Envelope {
        Envelope {
            sender: ReversePath::parse("app@x.com").unwrap(),
            parameters: Parameters::default(),
            recipients: vec![Recipient {
                address: Address::parse("to@y.com").unwrap(),
                parameters: Parameters::default(),
            }],
        }
    }

    fn trace() -> Trace<'static> {
        Trace {
            id: MessageId::from_i64(1),
            message_id: None,
            received: Timestamp(0),
            helo: "erp",
            peer: "127.0.0.1",
            protocol: "ESMTPA",
            host: "relay.example",
            shown: Shown::Full,
        }
    }

    fn composed(message: &str, from: Option<&str>, reply_to: bool) -> String {
        let plan = Rewriting {
            envelope_sender: ReversePath::Null,
            from: from.map(|name| Mailbox::new(Some(name), Address::parse("n@x.com").unwrap())),
            is_for_another: from.is_some(),
            reply_to: reply_to.then_some(ReplyTo::AsItCame),
        };
        let headers = Headers::parse(message.as_bytes());
        let out = compose(&headers, &envelope(), &plan, &trace());
        String::from_utf8(out.head).unwrap() + &message[out.body..]
    }

    const RECEIVED: &str = "Received: from erp ([127.0.0.1])\r\n\tby relay.example (mailferry) with \
         ESMTPA id 0000000000001\r\n\tfor <to@y.com>;\r\n\tThu, 1 Jan 1970 00:00:00 +0000\r\n";

    #[test]
    fn a_client_is_shown_as_far_as_is_wanted() {
        let shown = |shown, helo| {
            let trace = Trace {
                shown,
                helo,
                ..trace()
            };
            let mut head = Vec::new();
            received(&mut head, &envelope(), &trace);
            let text = String::from_utf8(head).unwrap();
            text.split("by relay").next().unwrap().to_owned()
        };
        let full = "Received: from erp ([127.0.0.1])\r\n\t";
        assert_eq!(shown(Shown::Full, "erp"), full);
        assert_eq!(shown(Shown::Full, ""), full.replace("erp", "unknown"));
        assert_eq!(shown(Shown::Name, "erp"), "Received: from erp\r\n\t");
        assert_eq!(shown(Shown::None, "erp"), "Received: ");
    }

    #[test]
    fn leaves_everything_else_byte_for_byte() {
        let message = "Subject:  odd\r\n \t folds \r\nFROM : a@x\r\nDate: now\r\nMessage-Id: <1>\r\nX:\r\n\r\n\u{e9}\r\n.\r\n";
        assert_eq!(
            composed(message, None, false),
            format!("{RECEIVED}{message}")
        );
    }

    #[test]
    fn replaces_from_and_answers_reach_the_author() {
        let message = "Sender: s@x\r\nFrom: \"T\"\r\n <t@z>\r\nBcc: secret@x\r\nReturn-Path: <r@x>\r\nDate: d\r\nMessage-ID: <1>\r\n\r\nhi\r\n";
        assert_eq!(
            composed(message, Some("T"), true),
            format!(
                "{RECEIVED}From: \"T\" <n@x.com>\r\nReply-To: \"T\"\r\n <t@z>\r\nDate: d\r\nMessage-ID: <1>\r\n\r\nhi\r\n"
            )
        );
    }

    #[test]
    fn keeps_a_reply_to_and_unites_repeated_froms() {
        let message =
            "From: a@x\r\nReply-To: r@x\r\nFrom: b@x\r\nDate: d\r\nMessage-ID: <1>\r\n\r\n";
        assert_eq!(
            composed(message, Some("N"), true),
            format!(
                "{RECEIVED}From: \"N\" <n@x.com>\r\nReply-To: r@x\r\nDate: d\r\nMessage-ID: <1>\r\n\r\n"
            )
        );
    }

    #[test]
    fn a_reply_to_that_names_nobody_gives_way() {
        for empty in ["Reply-To: <>\r\n", "Reply-To:\r\n"] {
            let message = format!("{empty}From: J <j@x>\r\nDate: d\r\nMessage-ID: <1>\r\n\r\n");
            assert_eq!(
                composed(&message, Some("J"), true),
                format!(
                    "{RECEIVED}From: \"J\" <n@x.com>\r\nReply-To: J <j@x>\r\nDate: d\r\nMessage-ID: <1>\r\n\r\n"
                )
            );
        }
    }

    #[test]
    fn a_line_of_an_mbox_file_is_left_behind() {
        for line in ["From a@x Mon Jan  1 00:00:00 2024\r\n", ">From a@x x\r\n"] {
            let message = "From: a@x\r\nDate: d\r\nMessage-ID: <1>\r\n\r\nhi\r\n";
            let with_line = format!("{line}{message}");
            assert_eq!(
                composed(&with_line, None, false),
                format!("{RECEIVED}{message}")
            );
        }
    }

    #[test]
    fn adds_what_is_missing_even_where_no_header_stood() {
        assert_eq!(
            composed("just text\r\n", Some("N"), true),
            format!(
                "{RECEIVED}From: \"N\" <n@x.com>\r\nDate: Thu, 1 Jan 1970 00:00:00 +0000\r\nMessage-ID: <0000000000001@relay.example>\r\n\r\njust text\r\n"
            )
        );
    }
}
