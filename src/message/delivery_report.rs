//! Reports from mail servers about messages that could not be delivered (RFC 3464), as they are found in a
//! mailbox: "bounces", which Microsoft calls non-delivery reports. Pure.
//!
//! Exchange's reports are in the reader's language, and their text has no fixed form. Only the part
//! message/delivery-status, the returned header section, and the header fields of the report are read.

use mail_parser::{DateTime, Message, MessageParser, MessagePart, MimeHeaders, PartType};

use super::{Address, Headers};
use crate::base::Timestamp;

/// The fields of the original message that contain its Message-ID. Exchange keeps an ID that it has replaced
/// in the second one.
const ID_FIELDS: [&str; 2] = ["Message-ID", "X-Microsoft-Original-Message-ID"];

/// The maximum number of Message-IDs that the original may have had; References can be long.
const MOST_IDS: usize = 8;

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
    let has = |name: &str, words: &[&str]| {
        let value = headers.value(name).unwrap_or_default();
        let value = String::from_utf8_lossy(value).to_ascii_lowercase();
        words.iter().any(|word| value.contains(word))
    };
    has("Content-Type", &["multipart/report", "delivery-status"])
        || headers.value("X-Failed-Recipients").is_some()
        || headers.value("X-MS-Exchange-Message-Is-Ndr").is_some()
        || has(
            "From",
            &["mailer-daemon", "postmaster", "microsoftexchange"],
        )
}

impl DeliveryReport {
    /// Reads a message. Returns `None` if it does not report that delivery failed: other mail, a report of
    /// success, of delay or of reading, and a report that is attached to a message.
    pub fn parse(octets: &[u8]) -> Option<Self> {
        let message = MessageParser::default().parse(octets)?;
        let is_status = |kind: &str| {
            ["message/delivery-status", "message/global-delivery-status"].contains(&kind)
        };
        let status = message.parts.iter().find(|part| is_status(&kind(part)))?;
        let text = String::from_utf8_lossy(status.contents()).into_owned();
        let mut blocks = blocks(&text).into_iter();
        let general = blocks.next()?;
        let failed: Vec<BouncedRecipient> = blocks.filter_map(|block| failed(&block)).collect();
        if failed.is_empty() {
            return None;
        }
        let head = returned(&message).unwrap_or_default();
        Some(Self {
            message_id: message.message_id().map(bracketed).unwrap_or_default(),
            original_ids: original_ids(&message, &head),
            envelope_id: general.get("Original-Envelope-Id").map(str::to_owned),
            reporter: general
                .get("Reporting-MTA")
                .map(after_type)
                .unwrap_or_default(),
            arrival: general.get("Arrival-Date").and_then(time),
            failed,
            head,
        })
    }
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
            (PartType::Message(original), _) => Some(original.raw_message().to_vec()),
            (_, "text/rfc822-headers" | "message/rfc822-headers" | "message/global-headers") => {
                Some(part.contents().to_vec())
            }
            _ => None,
        })?;
    let octets = with_crlf(&octets);
    let end = Headers::parse(&octets).end;
    Some(octets[..end].to_vec())
}

/// Text that was sent in base64 may have any line ends.
fn with_crlf(octets: &[u8]) -> Vec<u8> {
    let lines = octets.split(|octet| *octet == b'\n');
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.collect::<Vec<_>>().join(&b"\r\n"[..])
}

/// Returns the Message-IDs in the original's header section, then those that the report refers to.
fn original_ids(report: &Message, head: &[u8]) -> Vec<String> {
    let headers = Headers::parse(head);
    let own = ID_FIELDS.iter().filter_map(|name| headers.value(name));
    let own = own.map(|value| bracketed(String::from_utf8_lossy(value).trim()));
    let referred = [report.in_reply_to(), report.references()];
    let referred = referred
        .into_iter()
        .flat_map(|ids| ids.as_text_list().into_iter().flatten());
    let mut ids: Vec<String> = Vec::new();
    for id in own.chain(referred.map(|id| bracketed(id))) {
        if id.len() > 2 && ids.len() < MOST_IDS && !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids
}

fn bracketed(id: &str) -> String {
    format!("<{}>", id.trim_matches(['<', '>']))
}

/// The fields of a part of the report.
struct Block(Vec<(String, String)>);

impl Block {
    fn get(&self, name: &str) -> Option<&str> {
        let found = self
            .0
            .iter()
            .find(|(its, _)| its.eq_ignore_ascii_case(name));
        found
            .map(|(_, value)| value.trim())
            .filter(|value| !value.is_empty())
    }
}

/// Splits the status part into its groups of fields, which empty lines separate (RFC 3464 §2.1).
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_new = true;
    for line in text.lines() {
        if line.trim().is_empty() {
            is_new = true;
            continue;
        }
        if std::mem::take(&mut is_new) {
            blocks.push(Block(Vec::new()));
        }
        let Some(Block(fields)) = blocks.last_mut() else {
            continue;
        };
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    blocks
}

/// Reads a recipient's fields. Returns `None` if the message did not fail for the recipient.
fn failed(block: &Block) -> Option<BouncedRecipient> {
    let status = block.get("Status").unwrap_or_default();
    let is_failed = match block.get("Action") {
        Some(action) => action.eq_ignore_ascii_case("failed"),
        None => status.starts_with('5'),
    };
    let named = ["Original-Recipient", "Final-Recipient"];
    let mut addresses: Vec<Address> = Vec::new();
    for address in named.iter().filter_map(|name| address(block.get(name)?)) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if !is_failed || addresses.is_empty() {
        return None;
    }
    Some(BouncedRecipient {
        addresses,
        // A comment may follow.
        status: status
            .split([' ', '('])
            .next()
            .unwrap_or_default()
            .to_owned(),
        diagnostic: block
            .get("Diagnostic-Code")
            .map(after_type)
            .unwrap_or_default(),
        remote: block.get("Remote-MTA").map(after_type),
    })
}

/// Removes the type in front of a value, as in `dns;mx.example.com` or `smtp;550 ...` (RFC 3464 §2.1.2).
fn after_type(value: &str) -> String {
    match value.split_once(';') {
        Some((kind, rest)) if !kind.contains(' ') => rest.trim().to_owned(),
        _ => value.to_owned(),
    }
}

fn address(value: &str) -> Option<Address> {
    Address::parse(after_type(value).trim_matches(['<', '>'])).ok()
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

    /// Returns the files of `tests/reports/`, with CRLF line ends as over IMAP.
    fn corpus() -> Vec<(String, Vec<u8>)> {
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
            let report = DeliveryReport::parse(&octets);
            assert_eq!(report.is_none(), name.contains(".none."), "{name}");
            if let Some(report) = report {
                assert!(
                    may_be_report(&octets),
                    "{name}: its header is not recognised"
                );
                assert!(
                    report
                        .arrival
                        .is_none_or(|at| at == Timestamp(1_795_684_442_000)),
                    "{name}"
                );
                read.push_str(&shown(&name, &report));
            }
        }
        let expected = include_str!("../../tests/reports/expected.txt");
        assert_eq!(
            read, expected,
            "expected.txt states what each report says:\n{read}"
        );
    }

    #[test]
    fn mail_from_people_is_not_worth_reading() {
        for name in ["invoice", "quoted", "out-of-office", "forwarded"] {
            let mut corpus = corpus().into_iter();
            let (_, octets) = corpus.find(|(its, _)| its.starts_with(name)).unwrap();
            assert!(!may_be_report(&octets), "{name}");
        }
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
