//! The report to a sender whose message failed (RFC 3464), in words that a person understands. Pure.

use crate::base::{MessageId, Timestamp};
use crate::message::{Address, Envelope, Parameters, Recipient, ReversePath};
use crate::session::Reply;

/// One recipient that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// As the app gave it.
    pub recipient: Recipient,
    /// Why: the upstream's own words, or ours where it was given up.
    pub reply: Reply,
    /// Whether `reply` is the upstream's.
    pub by_upstream: bool,
}

/// What a report is made of.
pub struct Report<'a> {
    /// The message that it is about.
    pub about: MessageId,
    /// When that was taken.
    pub received: Timestamp,
    /// The parameters of its MAIL.
    pub parameters: &'a Parameters,
    /// Its header section, as the app sent it.
    pub head: &'a [u8],
    /// The recipients that failed; none of them with NOTIFY=NEVER.
    pub failed: &'a [Failed],
    /// The server's host that answered, or the configured server's name.
    pub upstream: &'a str,
    /// This host.
    pub host: &'a str,
    /// Whom the report is from.
    pub from: &'a Address,
    /// Whom it goes to.
    pub to: &'a Address,
    /// The report's own name.
    pub id: MessageId,
    /// Now.
    pub now: Timestamp,
}

/// Whether a failure is to be reported (RFC 3461 §4.1): yes, unless NOTIFY says otherwise.
pub fn is_wanted(recipient: &Recipient) -> bool {
    match recipient.parameters.get("NOTIFY") {
        None => true,
        Some(when) => when
            .split(',')
            .any(|when| when.eq_ignore_ascii_case("FAILURE")),
    }
}

impl Report<'_> {
    /// The report's own envelope: its sender is null, so that it is never reported itself.
    pub fn envelope(&self) -> Envelope {
        let parameters = if self.head.is_ascii() {
            ""
        } else {
            "BODY=8BITMIME"
        };
        let recipient = Recipient {
            address: self.to.clone(),
            parameters: Parameters::default(),
        };
        Envelope {
            sender: ReversePath::Null,
            parameters: Parameters::parse(parameters).unwrap_or_default(),
            recipients: vec![recipient],
        }
    }

    /// The report, a multipart/report of three parts, line ends CRLF.
    pub fn content(&self) -> Vec<u8> {
        let boundary = format!("={}=", self.id);
        let mut out = self.headers(&boundary);
        out.push_str(&format!("--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"));
        out.push_str(&self.explanation());
        out.push_str(&format!(
            "\r\n--{boundary}\r\nContent-Type: message/delivery-status\r\n\r\n"
        ));
        out.push_str(&self.status());
        out.push_str(&format!(
            "\r\n--{boundary}\r\nContent-Type: text/rfc822-headers\r\n"
        ));
        if !self.head.is_ascii() {
            out.push_str("Content-Transfer-Encoding: 8bit\r\n");
        }
        out.push_str("\r\n");
        let mut bytes = out.into_bytes();
        bytes.extend_from_slice(self.head);
        bytes.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        bytes
    }

    fn headers(&self, boundary: &str) -> String {
        let Report {
            from,
            to,
            id,
            host,
            now,
            ..
        } = self;
        format!(
            "From: \"Mail Delivery System\" <{from}>\r\nTo: <{to}>\r\nSubject: Undelivered mail: your message could not be delivered\r\n\
             Date: {}\r\nMessage-ID: <{id}@{host}>\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"{boundary}\"\r\n\r\n",
            now.rfc5322()
        )
    }

    fn explanation(&self) -> String {
        let received = self.received;
        let mut text = format!(
            "Your message of {} could not be delivered\r\nto the recipients below. It will not be tried again.\r\n",
            received.rfc5322()
        );
        for Failed {
            recipient,
            reply,
            by_upstream,
        } in self.failed
        {
            let who = if *by_upstream {
                self.upstream
            } else {
                self.host
            };
            text.push_str(&format!(
                "\r\n  {}\r\n    {who} said: {reply}\r\n",
                recipient.address
            ));
        }
        text.push_str(&format!(
            "\r\nThe message is known to {} as {}.\r\n",
            self.host, self.about
        ));
        text
    }

    /// RFC 3464 §2.2 and §2.3.
    fn status(&self) -> String {
        let mut text = String::new();
        if let Some(id) = self.parameters.get("ENVID") {
            text.push_str(&format!("Original-Envelope-Id: {id}\r\n"));
        }
        text.push_str(&format!(
            "Reporting-MTA: dns; {}\r\nArrival-Date: {}\r\n",
            self.host,
            self.received.rfc5322()
        ));
        for Failed {
            recipient,
            reply,
            by_upstream,
        } in self.failed
        {
            text.push_str("\r\n");
            if let Some(original) = recipient.parameters.get("ORCPT") {
                text.push_str(&format!("Original-Recipient: {original}\r\n"));
            }
            let kind = if recipient.address.as_str().is_ascii() {
                "rfc822"
            } else {
                "utf-8"
            };
            let status = if reply.enhanced.is_empty() {
                "5.0.0"
            } else {
                &reply.enhanced
            };
            text.push_str(&format!(
                "Final-Recipient: {kind}; {}\r\nAction: failed\r\nStatus: {status}\r\n",
                recipient.address
            ));
            if *by_upstream {
                text.push_str(&format!("Remote-MTA: dns; {}\r\n", self.upstream));
            }
            text.push_str(&format!("Diagnostic-Code: smtp; {reply}\r\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipient(parameters: &str) -> Recipient {
        Recipient {
            address: Address::parse("to@y.com").unwrap(),
            parameters: Parameters::parse(parameters).unwrap(),
        }
    }

    #[test]
    fn notify_decides_whether_a_failure_is_reported() {
        assert!(is_wanted(&recipient("")));
        assert!(is_wanted(&recipient("NOTIFY=SUCCESS,failure")));
        assert!(!is_wanted(&recipient("NOTIFY=NEVER")));
        assert!(!is_wanted(&recipient("NOTIFY=DELAY")));
    }

    #[test]
    fn the_report_says_who_said_what() {
        let sender = Address::parse("app@x.com").unwrap();
        let from = Address::parse("n@x.com").unwrap();
        let parameters = Parameters::parse("ENVID=42").unwrap();
        let failed = [Failed {
            recipient: recipient("ORCPT=rfc822;old@y.com"),
            reply: Reply::new(550, "5.1.1", "no such\nuser"),
            by_upstream: true,
        }];
        let report = Report {
            about: MessageId::from_i64(5),
            received: Timestamp(0),
            parameters: &parameters,
            head: b"Subject: hi\r\n",
            failed: &failed,
            upstream: "smtp.example",
            host: "relay.example",
            from: &from,
            to: &sender,
            id: MessageId::from_i64(6),
            now: Timestamp(1),
        };
        let text = String::from_utf8(report.content()).unwrap();
        for part in [
            "Original-Envelope-Id: 42\r\n",
            "Original-Recipient: rfc822;old@y.com\r\nFinal-Recipient: rfc822; to@y.com\r\nAction: failed\r\nStatus: 5.1.1\r\nRemote-MTA: dns; smtp.example\r\nDiagnostic-Code: smtp; 550 5.1.1 no such user\r\n",
            "smtp.example said: 550 5.1.1 no such user",
            "text/rfc822-headers\r\n\r\nSubject: hi\r\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(!text.replace("\r\n", "").contains(['\r', '\n']));
        assert_eq!(report.envelope().sender, ReversePath::Null);
    }
}
