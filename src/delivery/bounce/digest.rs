//! One message that tells a sender of many. Pure.

use crate::base::{MessageId, Timestamp};
use crate::message::Address;

/// One recipient of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The message.
    pub about: MessageId,
    /// When it was taken.
    pub received: Timestamp,
    /// For whom.
    pub recipient: Address,
    /// What became of it, in words.
    pub said: String,
}

/// The digest as a message, line ends CRLF.
pub fn content(
    from: &Address,
    to: &Address,
    id: MessageId,
    host: &str,
    now: Timestamp,
    lines: &[Line],
) -> Vec<u8> {
    let subject = format!("Mail reports: {} more recipients", lines.len());
    let mut text = super::fields(from, to, &subject, id, host, now);
    text.push_str(
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n",
    );
    text.push_str(
        "To spare you one report for each, several more of your messages are\r\nlisted here together.\r\n",
    );
    for Line {
        about,
        received,
        recipient,
        said,
    } in lines
    {
        text.push_str(&format!(
            "\r\n  {recipient}\r\n    {said}\r\n    The message of {}, known to {host} as {about}.\r\n",
            received.rfc5322()
        ));
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_of_each() {
        let line = Line {
            about: MessageId::from_i64(5),
            received: Timestamp(0),
            recipient: Address::parse("to@y.com").unwrap(),
            said: "smtp.example said: 550 5.1.1 no such user".into(),
        };
        let from = Address::parse("n@x.com").unwrap();
        let id = MessageId::from_i64(6);
        let text = content(&from, &from, id, "relay.example", Timestamp(1), &[line]);
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("Subject: Mail reports: 1 more recipients\r\n"));
        assert!(text.contains(
            "\r\n\r\n  to@y.com\r\n    smtp.example said: 550 5.1.1 no such user\r\n    The message of Thu, 1 Jan"
        ));
        assert!(!text.replace("\r\n", "").contains(['\r', '\n']));
    }
}
