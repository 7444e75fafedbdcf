//! Reports from mail servers about messages that could not be delivered (RFC 3464), as they are found in a
//! mailbox: "bounces", which Microsoft calls non-delivery reports. Pure.
//!
//! Exchange's reports are in the reader's language, and their text has no fixed form. Only the part
//! message/delivery-status, the returned header section, and the header fields of the report are read. Any of
//! this may come from an attacker: all values have a maximum length, and all except the returned header section are
//! stripped of control characters.

use mail_parser::{DateTime, Message, MessageParser, MessagePart, MimeHeaders, PartType};

use super::{Address, Headers};
use crate::base::Timestamp;
use crate::base::limits::HEADER_SECTION;

/// The fields of the original message that contain its Message-ID. Exchange keeps an ID that it has replaced
/// in the second one.
const ID_FIELDS: [&str; 2] = ["Message-ID", "X-Microsoft-Original-Message-ID"];

/// The maximum number of Message-IDs that the original may have had; References can be long.
const MOST_IDS: usize = 8;

/// The maximum number of octets of a Message-ID: it fits into a line (RFC 5322 §2.1.1).
const ID: usize = 998;

/// The maximum number of failed recipients that are read, as many as one message has (base/limits.rs).
const MOST_RECIPIENTS: usize = 1_000;

/// The maximum number of octets of a reply or explanation.
const DIAGNOSTIC: usize = 1_000;

/// The maximum number of octets of a host's name (RFC 5321 §4.5.3.1.2).
const HOST: usize = 255;

/// The maximum number of messages inside messages. The parser has no limit of its own, and its results are
/// dropped by recursion. A real report contains one message.
const MOST_MESSAGES: usize = 100;

/// A report about a message that could not be delivered to some recipients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryReport {
    /// The report's own Message-ID with its angle brackets; empty if it has none.
    pub message_id: String,
    /// Message-IDs that the original message may have had, with angle brackets, the most certain one first.
    pub original_ids: Vec<String>,
    /// The original message's envelope ID (RFC 3464 §2.2.1).
    pub envelope_id: Option<String>,
    /// The host that wrote the report (RFC 3464 §2.2.2); empty if it is not named.
    pub reporter: String,
    /// The time at which that host received the original message (RFC 3464 §2.2.5).
    pub arrival: Option<Timestamp>,
    /// The recipients that did not receive the message; at least one.
    pub failed: Vec<BouncedRecipient>,
    /// The original message's header section, if the report returns it.
    pub head: Vec<u8>,
}

/// A recipient that did not receive the message (RFC 3464 §2.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BouncedRecipient {
    /// The address as the sender gave it, if it is stated, and the address that failed. At least one.
    pub addresses: Vec<Address>,
    /// The status, such as `5.1.1` (RFC 3463).
    pub status: String,
    /// The mail server's reply or explanation; empty if the report states none.
    pub diagnostic: String,
    /// The host that refused the message, if it is not the one that wrote the report.
    pub remote: Option<String>,
}

/// True if a message with this header section may be a report about failed delivery, so that the whole
/// message is worth reading.
pub fn may_be_report(head: &[u8]) -> bool {
    let headers = Headers::parse(head);
    let from = lower(&headers, "From");
    let senders = ["mailer-daemon", "postmaster", "microsoftexchange"];
    is_automatic(&headers) || senders.iter().any(|sender| from.contains(sender))
}

/// True if the header says that a program wrote the message. Mail from people is excluded, because they may attach
/// a report to a reply.
fn is_automatic(headers: &Headers) -> bool {
    let submitted = lower(headers, "Auto-Submitted");
    lower(headers, "Content-Type").contains("multipart/report")
        || !matches!(submitted.trim(), "" | "no")
        || headers.value("X-Failed-Recipients").is_some()
        || headers.value("X-MS-Exchange-Message-Is-Ndr").is_some()
}

fn lower(headers: &Headers, name: &str) -> String {
    let value = headers.value(name).unwrap_or_default();
    String::from_utf8_lossy(value).to_ascii_lowercase()
}

impl DeliveryReport {
    /// Reads a message. Returns `None` if it does not report that delivery failed: for example other mail,
    /// reports of success or delay, read receipts, and reports that are attached to a message.
    pub fn parse(octets: &[u8]) -> Option<Self> {
        if has_many_messages(octets) || !is_automatic(&Headers::parse(octets)) {
            return None;
        }
        let message = MessageParser::default().parse(octets)?;
        let is_status = |kind: &str| {
            ["message/delivery-status", "message/global-delivery-status"].contains(&kind)
        };
        let status = message.parts.iter().find(|part| is_status(&kind(part)))?;
        let text = with_crlf(status.contents());
        let mut groups = groups(&text).into_iter();
        let general = groups.next()?;
        let failed = groups.filter_map(|group| failed(&group));
        let failed: Vec<BouncedRecipient> = failed.take(MOST_RECIPIENTS).collect();
        if failed.is_empty() {
            return None;
        }
        let head = returned(&message).unwrap_or_default();
        Some(Self {
            message_id: message.message_id().and_then(bracketed).unwrap_or_default(),
            original_ids: original_ids(&message, &head),
            envelope_id: value(&general, "Original-Envelope-Id", ID),
            reporter: value(&general, "Reporting-MTA", HOST)
                .map(after_type)
                .unwrap_or_default(),
            arrival: value(&general, "Arrival-Date", ID)
                .as_deref()
                .and_then(time),
            failed,
            head,
        })
    }
}

/// True if there may be too many messages inside messages. Each needs a Content-Type of its own or, in a digest,
/// of its multipart (RFC 2046 §5.1.5).
fn has_many_messages(octets: &[u8]) -> bool {
    let (mut count, mut is_type) = (0, false);
    for line in octets.split(|octet| *octet == b'\n') {
        if !line.starts_with(b" ") && !line.starts_with(b"\t") {
            let name = line.get(..12).unwrap_or_default();
            is_type = name.eq_ignore_ascii_case(b"content-type");
        }
        let line = if is_type {
            line.to_ascii_lowercase()
        } else {
            continue;
        };
        let has = |word: &&str| memchr::memmem::find(&line, word.as_bytes()).is_some();
        count += usize::from(["rfc822", "global", "digest"].iter().any(has));
    }
    count > MOST_MESSAGES
}

/// Returns a part's type and subtype in lower case.
fn kind(part: &MessagePart) -> String {
    part.content_type().map_or_else(String::new, |kind| {
        format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or_default()).to_ascii_lowercase()
    })
}

/// Returns the original message's header section, if the report returns it.
fn returned(report: &Message) -> Option<Vec<u8>> {
    let octets = report
        .parts
        .iter()
        .find_map(|part| match (&part.body, kind(part).as_str()) {
            (PartType::Message(original), _) => Some(original.raw_message()),
            (_, "text/rfc822-headers" | "message/rfc822-headers" | "message/global-headers") => {
                Some(part.contents())
            }
            _ => None,
        })?;
    let octets = with_crlf(octets.get(..HEADER_SECTION).unwrap_or(octets));
    let end = Headers::parse(&octets).end;
    Some(octets[..end].to_vec())
}

/// Converts line ends to CRLF; text that was decoded from base64 may have others.
fn with_crlf(octets: &[u8]) -> Vec<u8> {
    let lines = octets.split(|octet| *octet == b'\n');
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.collect::<Vec<_>>().join(&b"\r\n"[..])
}

/// Returns the Message-IDs in the original's header section. If there are none, returns those that the report
/// refers to, the last one first: earlier ones are of the same conversation.
fn original_ids(report: &Message, head: &[u8]) -> Vec<String> {
    let headers = Headers::parse(head);
    let own = ID_FIELDS
        .iter()
        .filter_map(|name| value(&headers, name, ID));
    let own = own.filter_map(|id| bracketed(&id));
    let mut ids: Vec<String> = own.collect();
    if ids.is_empty() {
        let references = [report.in_reply_to(), report.references()];
        for list in references.map(|ids| ids.as_text_list().unwrap_or_default()) {
            ids.extend(list.iter().rev().filter_map(|id| bracketed(id)));
        }
    }
    let mut seen = std::collections::HashSet::new();
    ids.retain(|id| seen.insert(id.clone()));
    ids.truncate(MOST_IDS);
    ids
}

/// Returns a Message-ID in angle brackets, or `None` if the text is not a valid one.
fn bracketed(id: &str) -> Option<String> {
    let id = id.trim().trim_matches(['<', '>']);
    let is_one = !id.is_empty() && id.len() <= ID && !id.chars().any(char::is_control);
    is_one.then(|| format!("<{id}>"))
}

/// Splits the status part into its groups of fields, which empty lines separate (RFC 3464 §2.1).
fn groups(text: &[u8]) -> Vec<Headers<'_>> {
    let (mut groups, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let group = Headers::parse(rest);
        // Lines that are not fields are skipped.
        let line = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
        rest = &rest[if group.body > 0 { group.body } else { line }..];
        if !group.fields.is_empty() {
            groups.push(group);
        }
    }
    groups
}

/// Returns at most `most` octets of a field's value, unfolded and without control characters.
fn value(group: &Headers, name: &str, most: usize) -> Option<String> {
    let text = String::from_utf8_lossy(group.value(name)?);
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let mut text = words.join(" ");
    text.truncate(text.floor_char_boundary(most));
    Some(text).filter(|text| !text.is_empty())
}

/// Reads a recipient's fields. Returns `None` if delivery did not fail for the recipient, or if no address can
/// be read.
fn failed(group: &Headers) -> Option<BouncedRecipient> {
    // A comment may follow a status or an action.
    let word = |name| {
        let text = value(group, name, DIAGNOSTIC)?;
        Some(text.split([' ', '(']).next().unwrap_or_default().to_owned())
    };
    let status = word("Status").unwrap_or_default();
    let is_failed = match word("Action") {
        Some(action) => action.eq_ignore_ascii_case("failed"),
        None => status.starts_with('5'),
    };
    let mut addresses: Vec<Address> = Vec::new();
    for name in ["Original-Recipient", "Final-Recipient"] {
        let text = value(group, name, DIAGNOSTIC).map(after_type);
        let address = text.and_then(|it| Address::parse(it.trim_matches(['<', '>'])).ok());
        addresses.extend(address.filter(|address| !addresses.contains(address)));
    }
    if !is_failed || addresses.is_empty() {
        return None;
    }
    Some(BouncedRecipient {
        addresses,
        status,
        diagnostic: value(group, "Diagnostic-Code", DIAGNOSTIC)
            .map(after_type)
            .unwrap_or_default(),
        remote: value(group, "Remote-MTA", HOST).map(after_type),
    })
}

/// Removes the type in front of a value, as in `dns;mx.example.com` or `smtp;550 ...` (RFC 3464 §2.1.2).
fn after_type(value: String) -> String {
    match value.split_once(';') {
        Some((kind, rest)) if !kind.contains(' ') => rest.trim().to_owned(),
        _ => value,
    }
}

fn time(value: &str) -> Option<Timestamp> {
    let date = DateTime::parse_rfc822(value).filter(DateTime::is_valid)?;
    Some(Timestamp(date.to_timestamp().checked_mul(1_000)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;
    use std::sync::LazyLock;

    /// Returns the files of `tests/reports/`, with CRLF line ends as over IMAP.
    fn corpus() -> &'static [(String, Vec<u8>)] {
        static CORPUS: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(read_corpus);
        &CORPUS
    }

    fn read_corpus() -> Vec<(String, Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reports");
        let files = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().path());
        let mails = files.filter(|file| file.extension().is_some_and(|it| it == "eml"));
        let read = mails.map(|file| {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            (name, with_crlf(&std::fs::read(file).unwrap()))
        });
        let mut corpus: Vec<_> = read.collect();
        corpus.sort();
        corpus
    }

    fn shown(name: &str, report: &DeliveryReport) -> String {
        let failed = report.failed.iter().map(|failed| {
            let addresses: Vec<&str> = failed.addresses.iter().map(Address::as_str).collect();
            let remote = failed.remote.as_deref().unwrap_or("-");
            let diagnostic: String = failed.diagnostic.chars().take(40).collect();
            format!(
                "  {} | {} | {remote} | {diagnostic}\n",
                addresses.join(" "),
                failed.status
            )
        });
        format!(
            "{name} | {} | {} | {} octets of header\n{}",
            report.original_ids.join(" "),
            report.envelope_id.as_deref().unwrap_or("-"),
            report.head.len(),
            failed.collect::<String>()
        )
    }

    #[test]
    fn each_report_of_the_corpus_is_read_and_nothing_else() {
        let mut read = String::new();
        for (name, octets) in corpus() {
            let report = DeliveryReport::parse(octets);
            assert_eq!(report.is_none(), name.contains(".none."), "{name}");
            if let Some(report) = report {
                assert!(
                    may_be_report(octets),
                    "{name}: its header is not recognised"
                );
                assert!(
                    report
                        .arrival
                        .is_none_or(|at| at == Timestamp(1_795_684_442_000)),
                    "{name}"
                );
                read.push_str(&shown(name, &report));
            }
        }
        let expected = include_str!("../../tests/reports/expected.txt");
        assert_eq!(
            read, expected,
            "expected.txt states what each report says:\n{read}"
        );
    }

    #[test]
    fn mail_from_people_is_not_a_possible_report() {
        for name in ["invoice", "quoted", "forwarded"] {
            let (_, octets) = corpus()
                .iter()
                .find(|(its, _)| its.starts_with(name))
                .unwrap();
            assert!(!may_be_report(octets), "{name}");
        }
    }

    #[test]
    fn messages_within_messages_end_at_a_limit() {
        for part in [
            "Content-Type:message/rfc822\r\n\r\n",
            "Content-Type: MESSAGE/global\r\n\r\n",
            "Content-Type: message / (comment) rfc822\r\n\r\n",
            "content-type:\r\n message/\r\n\trfc822\r\n\r\n",
            "Content-Type : message/rfc822\r\n\r\n",
            "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\n",
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n",
        ] {
            let report = format!(
                "Auto-Submitted: auto-replied\r\n{}",
                part.repeat(1024 * 1024 / part.len())
            );
            // The program's threads have a stack of 2 MiB.
            let parsed = std::thread::Builder::new()
                .stack_size(2 * 1024 * 1024)
                .spawn(move || DeliveryReport::parse(report.as_bytes()));
            assert_eq!(parsed.unwrap().join().unwrap(), None, "{part}");
        }
    }

    #[test]
    fn what_a_stranger_writes_has_limits_and_no_control_characters() {
        let long = "x".repeat(2_000);
        let recipients = (0..2_000).map(|number| format!("\r\nFinal-Recipient: rfc822; {number}@x.com\r\nAction: failed (really)\r\nDiagnostic-Code: smtp; 550 a\rb\x00c {long}\r\n"));
        let report = format!(
            "Auto-Submitted: auto-replied\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; {long}\r\n{}",
            recipients.collect::<String>()
        );
        let report = DeliveryReport::parse(report.as_bytes()).unwrap();
        assert_eq!(report.failed.len(), MOST_RECIPIENTS);
        assert!(report.reporter.len() <= HOST);
        let said = &report.failed[0].diagnostic;
        assert!(said.starts_with("550 a b c xxx") && said.len() <= DIAGNOSTIC);
    }

    proptest! {
        #[test]
        fn damaged_reports_do_no_harm(which in 0usize..30, at in 0usize..4_000, octets in prop::collection::vec(any::<u8>(), 0..20)) {
            let corpus = corpus();
            let (_, mut report) = corpus[which % corpus.len()].clone();
            let at = at.min(report.len());
            let end = (at + octets.len()).min(report.len());
            report.splice(at..end, octets);
            if let Some(report) = DeliveryReport::parse(&report) {
                prop_assert!(report.failed.iter().all(|it| !it.addresses.is_empty()));
                prop_assert!(report.original_ids.len() <= MOST_IDS);
            }
        }
    }
}
