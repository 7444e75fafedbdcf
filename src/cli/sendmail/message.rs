//! The message that a program gives to sendmail: its recipients, and how it is passed on. Pure.

use super::aliases::Machine;
use crate::message::{Address, Headers, Mailbox, mailbox};

/// The header fields that name recipients; those of a message that is sent again take precedence (RFC 5322 §3.6.6).
const FIELDS: [&str; 3] = ["To", "Cc", "Bcc"];
const RESENT: [&str; 3] = ["Resent-To", "Resent-Cc", "Resent-Bcc"];

/// Returns the message with CRLF line ends. If `ignores_dots` is false, the message ends at a line with a single dot.
pub(super) fn lines(input: &[u8], ignores_dots: bool) -> Vec<u8> {
    let mut message = Vec::with_capacity(input.len() + input.len() / 32);
    for line in without_mbox_line(input).split_inclusive(|octet| *octet == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !ignores_dots && line == b"." {
            break;
        }
        message.extend_from_slice(line);
        message.extend_from_slice(b"\r\n");
    }
    message
}

/// Removes the line of an mbox file before a message (`From jo@x.com Mon Jan 1 ...`), which is no header field.
fn without_mbox_line(input: &[u8]) -> &[u8] {
    let is_mbox = input.starts_with(b"From ") || input.starts_with(b">From ");
    match input.iter().position(|octet| *octet == b'\n') {
        Some(end) if is_mbox => &input[end + 1..],
        _ => input,
    }
}

/// Returns the recipients that the header names. A name without a domain is a user of this machine. The error names a
/// field without any address that can be read.
pub(super) fn recipients(headers: &Headers, machine: &Machine) -> Result<Vec<Address>, String> {
    let is_resent = RESENT.iter().any(|name| headers.value(name).is_some());
    let names = if is_resent { RESENT } else { FIELDS };
    let mut all = Vec::new();
    for field in &headers.fields {
        let Some(name) = names.iter().find(|name| headers.is(field, name)) else {
            continue;
        };
        let value = String::from_utf8_lossy(headers.slice(&field.value));
        if value.trim().is_empty() {
            continue;
        }
        let found = addresses(&value, machine);
        if found.is_empty() && !value.contains(';') {
            let value = value.trim();
            return Err(format!(
                "the field {name} has no address that can be read: {value}"
            ));
        }
        all.extend(
            found
                .into_iter()
                .filter(|it| !all.contains(it))
                .collect::<Vec<_>>(),
        );
    }
    Ok(all)
}

/// Reads a list of addresses as people write it: by the grammar, or else each part between commas and semicolons for
/// itself.
pub(super) fn addresses(value: &str, machine: &Machine) -> Vec<Address> {
    if let Some(list) = mailbox::parse_list(value) {
        return list.mailboxes.into_iter().map(|it| it.address).collect();
    }
    let parts = value.split([',', ';']).map(str::trim);
    parts.flat_map(|part| machine.addresses(part)).collect()
}

/// Adds `From` to a message that has none, so that its author is known.
pub(super) fn with_author(message: Vec<u8>, name: Option<&str>, sender: &Address) -> Vec<u8> {
    if Headers::parse(&message).value("From").is_some() {
        return message;
    }
    let author = Mailbox::new(name, sender.clone());
    let mut all = b"From: ".to_vec();
    all.extend_from_slice(&author.to_header_value("From: ".len()));
    all.extend_from_slice(b"\r\n");
    // A message that begins with its text has no header section yet.
    let headers = Headers::parse(&message);
    if headers.fields.is_empty() && !message.starts_with(b"\r\n") {
        all.extend_from_slice(b"\r\n");
    }
    all.extend_from_slice(&message);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_in_crlf_and_a_dot_ends_the_message() {
        assert_eq!(lines(b"a\n.b\r\n.\nc", false), b"a\r\n.b\r\n");
        assert_eq!(lines(b"a\n.\nc", true), b"a\r\n.\r\nc\r\n");
        assert_eq!(lines(b"", false), b"");
        assert_eq!(
            lines(b"From jo@x.com Mon Jan 1\nTo: x\n", true),
            b"To: x\r\n"
        );
    }

    fn found(header: &str) -> Result<Vec<String>, String> {
        let message = lines(format!("{header}\n\nText\n").as_bytes(), true);
        let machine = Machine::new("host.test".to_owned(), "");
        let found = recipients(&Headers::parse(&message), &machine)?;
        Ok(found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_header_names_recipients() {
        let all =
            found("To: Ann <a@x.com>, b@x.com\nCc: a@x.com\nBcc:\n secret@x.com\nSubject: Hi")
                .unwrap();
        assert_eq!(all, ["a@x.com", "b@x.com", "secret@x.com"]);
        assert_eq!(
            found("To: a@x.com\nResent-To: b@x.com").unwrap(),
            ["b@x.com"]
        );
        assert_eq!(found("Subject: Hi"), Ok(Vec::new()));
        assert_eq!(found("To: root").unwrap(), ["root@host.test"]);
        assert_eq!(
            found("To: a@x.com; b@x.com").unwrap(),
            ["a@x.com", "b@x.com"]
        );
        assert_eq!(
            found("To: Smith, John (x) <a@x.com>").unwrap(),
            ["Smith@host.test", "a@x.com"]
        );
        assert_eq!(
            found("To: undisclosed-recipients:;\nCc: a@x.com").unwrap(),
            ["a@x.com"]
        );
        assert!(found("To: a b c").unwrap_err().contains("field To"));
    }

    #[test]
    fn a_message_without_author_gets_one() {
        let sender = Address::parse("root@host.test").unwrap();
        let text = |message: &[u8]| {
            String::from_utf8(with_author(message.to_vec(), Some("Cron"), &sender)).unwrap()
        };
        assert_eq!(
            text(b"Subject: x\r\n\r\nText\r\n"),
            "From: \"Cron\" <root@host.test>\r\nSubject: x\r\n\r\nText\r\n"
        );
        assert_eq!(text(b"From: a@b.c\r\n\r\n"), "From: a@b.c\r\n\r\n");
        assert_eq!(
            text(b"just text\r\n"),
            "From: \"Cron\" <root@host.test>\r\n\r\njust text\r\n"
        );
    }
}
