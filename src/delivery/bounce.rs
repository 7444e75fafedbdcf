//! The report to a sender about a message that failed, is late, or was passed to a server that does not
//! confirm delivery (RFC 3464), with an explanation in plain words. Pure.

pub(crate) mod digest;
pub(crate) mod storm;

use crate::base::{MessageId, Timestamp};
use crate::message::{Address, Envelope, Parameters, Recipient, ReversePath};
use crate::transport::Answer;

/// Maximum octets in a line of a server's text; a single word may be longer.
const LINE: usize = 400;

/// Maximum octets of server text in one report, shared among its recipients: the replies for a thousand
/// recipients must not make the report too large to be accepted.
const WORDS: usize = 256 * 1024;

/// Octets of server text that are reserved for one recipient, however many recipients there are.
const FEWEST_WORDS: usize = 200;

/// The event that a report is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReportKind {
    /// The message failed permanently.
    Failed,
    /// The message is late, and is retried until the given time.
    Delayed(Timestamp),
    /// The server accepted the message, but does not confirm delivery (RFC 3461 §5.2.2).
    Relayed,
}

/// One recipient, and the result for this recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed {
    /// The recipient as the app gave it.
    pub recipient: Recipient,
    /// The upstream's reply, or our own.
    pub answer: Answer,
    /// True if `answer` is the upstream's.
    pub by_upstream: bool,
    /// The remedy; empty if none is known.
    pub remedy: String,
}

/// The contents of a report.
pub(crate) struct Report<'a> {
    /// The kind of report.
    pub kind: ReportKind,
    /// The message that the report is about.
    pub about: MessageId,
    /// The time at which that message was accepted.
    pub received: Timestamp,
    /// The parameters of its MAIL command.
    pub parameters: &'a Parameters,
    /// Its header section, as the app sent it.
    pub head: &'a [u8],
    /// The whole message, if its sender requests it back (RET=FULL, RFC 3461 §4.3).
    pub whole: Option<&'a [u8]>,
    /// The recipients in the report.
    pub failed: &'a [Failed],
    /// The host of the server that replied, or the configured server's name.
    pub upstream: &'a str,
    /// The name of this host.
    pub host: &'a str,
    /// The address that the report is from.
    pub from: &'a Address,
    /// The address that the report goes to.
    pub to: &'a Address,
    /// The report's own ID.
    pub id: MessageId,
    /// The current time.
    pub now: Timestamp,
}

impl ReportKind {
    /// True if a recipient's NOTIFY requests this report (RFC 3461 §4.1). Without NOTIFY, a failure and a
    /// delay are reported, a success is not.
    pub(crate) fn is_wanted(self, recipient: &Recipient) -> bool {
        let word = match self {
            Self::Failed => "FAILURE",
            Self::Delayed(_) => "DELAY",
            Self::Relayed => "SUCCESS",
        };
        match recipient.parameters.get("NOTIFY") {
            None => self != Self::Relayed,
            Some(when) => when.split(',').any(|when| when.eq_ignore_ascii_case(word)),
        }
    }

    fn subject(self) -> &'static str {
        match self {
            Self::Failed => "Undelivered mail: your message could not be delivered",
            Self::Delayed(_) => "Delayed mail: your message has not been delivered yet",
            Self::Relayed => "Relayed mail: your message was passed on",
        }
    }

    /// The value of the `Action` field (RFC 3464 §2.3.3).
    pub(crate) fn action(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed(_) => "delayed",
            Self::Relayed => "relayed",
        }
    }
}

/// Returns the envelope of a message from this program to `to`. The envelope's sender is null, so that no
/// report is ever sent about the message.
pub(crate) fn envelope(to: &Address, content: &[u8]) -> Envelope {
    let parameters = if content.is_ascii() {
        ""
    } else {
        "BODY=8BITMIME"
    };
    let recipient = Recipient {
        address: to.clone(),
        parameters: Parameters::default(),
    };
    Envelope {
        sender: ReversePath::Null,
        parameters: Parameters::parse(parameters).unwrap_or_default(),
        recipients: vec![recipient],
    }
}

/// True if the sender requests the whole message back (RFC 3461 §4.3).
pub(crate) fn wants_whole(parameters: &Parameters) -> bool {
    parameters
        .get("RET")
        .is_some_and(|ret| ret.eq_ignore_ascii_case("FULL"))
}

impl Report<'_> {
    /// Writes the report as a multipart/report of three parts, with CRLF line ends.
    pub(crate) fn content(&self) -> Vec<u8> {
        let boundary = format!("={}=", self.id);
        let mut out = self.headers(&boundary);
        out.push_str(&format!("--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"));
        out.push_str(&self.explanation());
        let status = self.status();
        // RFC 3464 §2.1.2: message/delivery-status is ASCII; RFC 6533 §3 defines the type for other text.
        let kind = if status.is_ascii() {
            "message/delivery-status"
        } else {
            "message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit"
        };
        out.push_str(&format!(
            "\r\n--{boundary}\r\nContent-Type: {kind}\r\n\r\n{status}"
        ));
        let kind = match self.whole {
            Some(_) => "message/rfc822",
            None => "text/rfc822-headers",
        };
        out.push_str(&format!("\r\n--{boundary}\r\nContent-Type: {kind}\r\n"));
        if !self.returned().is_ascii() {
            out.push_str("Content-Transfer-Encoding: 8bit\r\n");
        }
        out.push_str("\r\n");
        let mut bytes = out.into_bytes();
        bytes.extend_from_slice(self.returned());
        bytes.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        bytes
    }

    fn returned(&self) -> &[u8] {
        self.whole.unwrap_or(self.head)
    }

    fn headers(&self, boundary: &str) -> String {
        let fields = fields(
            self.from,
            self.to,
            self.kind.subject(),
            &self.id.to_string(),
            self.host,
            self.now,
        );
        format!(
            "{fields}Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"{boundary}\"\r\n\r\n"
        )
    }

    fn explanation(&self) -> String {
        let received = self.received.rfc5322();
        let mut text = match self.kind {
            ReportKind::Failed => format!(
                "Your message of {received} could not be delivered\r\nto the recipients below. It will not be tried again.\r\n"
            ),
            ReportKind::Delayed(until) => format!(
                "Your message of {received} has not been delivered yet\r\nto the recipients below. You need not do anything: mailferry tries again\r\nuntil {}.\r\n",
                until.rfc5322()
            ),
            ReportKind::Relayed => format!(
                "Your message of {received} was passed on for the\r\nrecipients below, to a server that does not confirm delivery.\r\n"
            ),
        };
        for failed in self.failed {
            text.push_str(&format!(
                "\r\n  {}\r\n    {}\r\n",
                failed.recipient.address,
                failed.said(self.upstream, self.host, self.words())
            ));
            if !failed.remedy.is_empty() {
                text.push_str(&format!("    {}\r\n", folded(&failed.remedy, WORDS)));
            }
        }
        text.push_str(&format!(
            "\r\nThe ID of the message at {} is {}.\r\n",
            self.host, self.about
        ));
        text
    }

    /// Returns the maximum octets of server text for each recipient. The report contains the text twice, so
    /// all recipients share half of [`WORDS`].
    fn words(&self) -> usize {
        (WORDS / 2 / self.failed.len().max(1)).max(FEWEST_WORDS)
    }

    /// Writes the status part (RFC 3464 §2.2 and §2.3).
    fn status(&self) -> String {
        let mut text = String::new();
        if let Some(id) = self.parameters.get_xtext("ENVID") {
            text.push_str(&format!("Original-Envelope-Id: {id}\r\n"));
        }
        text.push_str(&format!(
            "Reporting-MTA: dns; {}\r\nArrival-Date: {}\r\n",
            self.host,
            self.received.rfc5322()
        ));
        for failed in self.failed {
            text.push_str(&self.status_of(failed));
        }
        text
    }

    fn status_of(&self, failed: &Failed) -> String {
        let Failed {
            recipient, answer, ..
        } = failed;
        let mut text = String::from("\r\n");
        if let Some(original) = recipient.parameters.get_xtext("ORCPT") {
            text.push_str(&format!("Original-Recipient: {original}\r\n"));
        }
        let kind = if recipient.address.as_str().is_ascii() {
            "rfc822"
        } else {
            "utf-8"
        };
        text.push_str(&format!(
            "Final-Recipient: {kind}; {}\r\nAction: {}\r\nStatus: {}\r\n",
            recipient.address,
            self.kind.action(),
            self.status_code(answer)
        ));
        if failed.by_upstream {
            text.push_str(&format!("Remote-MTA: dns; {}\r\n", self.upstream));
        }
        let said = folded(&answer.to_string(), self.words());
        text.push_str(&format!("Diagnostic-Code: smtp; {said}\r\n"));
        if let ReportKind::Delayed(until) = self.kind {
            text.push_str(&format!("Will-Retry-Until: {}\r\n", until.rfc5322()));
        }
        text
    }

    /// The status code. Its class follows from the action (RFC 3464 §2.3.4), whatever class the upstream
    /// sent.
    fn status_code(&self, answer: &Answer) -> String {
        let class = match self.kind {
            ReportKind::Failed => '5',
            ReportKind::Delayed(_) => '4',
            ReportKind::Relayed => '2',
        };
        let detail = answer.enhanced.get(1..).filter(|detail| !detail.is_empty());
        format!("{class}{}", detail.unwrap_or(".0.0"))
    }
}

impl Failed {
    /// Returns the source of the reply, and at most `most` octets of the reply.
    pub(crate) fn said(&self, upstream: &str, host: &str, most: usize) -> String {
        let who = if self.by_upstream { upstream } else { host };
        format!("{who} said: {}", folded(&self.answer.to_string(), most))
    }
}

/// Folds the first `most` octets of a server's text into lines of a permitted length (RFC 5322 §2.1.1).
fn folded(text: &str, most: usize) -> String {
    let text = &text[..text.floor_char_boundary(most)];
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is one");
        match last.is_empty() || last.len() + 1 + word.len() <= LINE {
            true if last.is_empty() => last.push_str(word),
            true => last.extend([" ", word]),
            false => lines.push(word.to_owned()),
        }
    }
    lines.join("\r\n      ")
}

/// Writes the header fields that every message from this program to a sender has.
fn fields(
    from: &Address,
    to: &Address,
    subject: &str,
    name: &str,
    host: &str,
    now: Timestamp,
) -> String {
    format!(
        "From: \"Mail Delivery System\" <{from}>\r\nTo: <{to}>\r\nSubject: {subject}\r\n\
         Date: {}\r\nMessage-ID: <{name}@{host}>\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n",
        now.rfc5322()
    )
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
    fn notify_decides_what_is_reported() {
        let asks = |notify: &str| {
            let kinds = [
                ReportKind::Failed,
                ReportKind::Delayed(Timestamp(0)),
                ReportKind::Relayed,
            ];
            kinds.map(|kind| kind.is_wanted(&recipient(notify)))
        };
        assert_eq!(asks(""), [true, true, false]);
        assert_eq!(asks("NOTIFY=SUCCESS,failure"), [true, false, true]);
        assert_eq!(asks("NOTIFY=NEVER"), [false, false, false]);
        assert_eq!(asks("NOTIFY=DELAY"), [false, true, false]);
    }

    #[test]
    fn the_report_says_who_said_what() {
        let sender = Address::parse("app@x.com").unwrap();
        let from = Address::parse("n@x.com").unwrap();
        let parameters = Parameters::parse("ENVID=4+2B2").unwrap();
        let failed = [Failed {
            recipient: recipient("ORCPT=rfc822;old+2Bx@y.com"),
            answer: Answer::new(550, "5.1.1", "no such\nuser"),
            by_upstream: true,
            remedy: "correct the address".into(),
        }];
        let report = Report {
            kind: ReportKind::Failed,
            whole: None,
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
            "Original-Envelope-Id: 4+2\r\n",
            "Original-Recipient: rfc822;old+x@y.com\r\nFinal-Recipient: rfc822; to@y.com\r\nAction: failed\r\nStatus: 5.1.1\r\nRemote-MTA: dns; smtp.example\r\nDiagnostic-Code: smtp; 550 5.1.1 no such user\r\n",
            "smtp.example said: 550 5.1.1 no such user\r\n    correct the address\r\n",
            "text/rfc822-headers\r\n\r\nSubject: hi\r\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(!text.replace("\r\n", "").contains(['\r', '\n']));
        let plain = envelope(&sender, text.as_bytes());
        assert_eq!(plain.sender, ReversePath::Null);
        assert!(plain.parameters.is_empty());
        let unknown = [Failed {
            answer: Answer::new(550, "", "Empf\u{e4}nger unbekannt"),
            ..failed[0].clone()
        }];
        let foreign = Report {
            failed: &unknown,
            ..report
        };
        let text = String::from_utf8(foreign.content()).unwrap();
        assert!(text.contains("Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"), "{text}");
        let eight_bit = envelope(&sender, text.as_bytes());
        assert_eq!(eight_bit.parameters.get("BODY"), Some("8BITMIME"));
        let many = vec![
            Failed {
                answer: Answer::new(550, "5.1.1", "no such user ".repeat(300)),
                ..failed[0].clone()
            };
            1_000
        ];
        let loud = Report {
            failed: &many,
            ..foreign
        };
        assert!(loud.content().len() < 1024 * 1024);
        let late = Report {
            kind: ReportKind::Delayed(Timestamp(432_000_000)),
            whole: Some(b"Subject: hi\r\n\r\nText\r\n"),
            failed: &failed,
            ..loud
        };
        let text = String::from_utf8(late.content()).unwrap();
        for part in [
            "Action: delayed\r\nStatus: 4.1.1\r\n",
            "Will-Retry-Until: Tue, 6 Jan 1970 00:00:00 +0000\r\n",
            "until Tue, 6 Jan 1970",
            "message/rfc822\r\n\r\nSubject: hi\r\n\r\nText\r\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }
}
