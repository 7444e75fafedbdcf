//! A digest: one message to a sender about many recipients. Pure.

use crate::base::{MessageId, Timestamp};
use crate::message::Address;

/// A line of a digest: the result of one message for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DigestLine<'a> {
    /// The message.
    pub about: MessageId,
    /// The time at which the message was accepted.
    pub received: Timestamp,
    /// The recipient.
    pub recipient: &'a Address,
    /// The result for this recipient, in words.
    pub said: String,
    /// The name of this host.
    pub host: &'a str,
}

/// Formats the line as a paragraph of a digest, with CRLF line ends.
impl std::fmt::Display for DigestLine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            about,
            received,
            recipient,
            said,
            host,
        } = self;
        write!(
            f,
            "\r\n  {recipient}\r\n    {said}\r\n    Message of {}; its ID at {host} is {about}.\r\n",
            received.rfc5322()
        )
    }
}

/// Writes the digest as a message, with CRLF line ends. `name` is the part of its Message-ID before the `@`.
pub(crate) fn content(
    from: &Address,
    to: &Address,
    name: &str,
    host: &str,
    now: Timestamp,
    lines: &[String],
) -> Vec<u8> {
    let subject = format!("Mail reports: {} more recipients", lines.len());
    let mut text = super::fields(from, to, &subject, name, host, now);
    text.push_str(
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n",
    );
    text.push_str(
        "These are further reports about your messages, listed here together to spare\r\nyou a separate message for each.\r\n",
    );
    lines.iter().for_each(|line| text.push_str(line));
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_of_each() {
        let line = DigestLine {
            about: MessageId::from_i64(5),
            received: Timestamp(0),
            recipient: &Address::parse("to@y.com").unwrap(),
            said: "smtp.example said: 550 5.1.1 no such user".into(),
            host: "relay.example",
        };
        let from = Address::parse("n@x.com").unwrap();
        let lines = [line.to_string()];
        let text = content(&from, &from, "6", "relay.example", Timestamp(1), &lines);
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("Subject: Mail reports: 1 more recipients\r\n"));
        assert!(text.contains(
            "\r\n\r\n  to@y.com\r\n    smtp.example said: 550 5.1.1 no such user\r\n    Message of Thu, 1 Jan"
        ));
        assert!(!text.replace("\r\n", "").contains(['\r', '\n']));
    }
}
