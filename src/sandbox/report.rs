//! The non-delivery reports of the stand-in for Exchange.
//!
//! A message to an address such as `bounce-5.1.10@example.net` is accepted, and comes back with that status.

use crate::base::Timestamp;
use crate::message::Headers;

/// The beginning of the addresses whose mail comes back.
const BOUNCE: &str = "bounce-";

/// The host that writes the reports.
const REPORTER: &str = "AM0PR01MB5678.eurprd01.prod.exchangelabs.com";

/// Returns the status with which mail to this address comes back, if it does.
pub(super) fn status(recipient: &str) -> Option<&str> {
    let (local, _) = recipient.rsplit_once('@')?;
    local.strip_prefix(BOUNCE)
}

/// Writes the report about a message, in the shape of Exchange Online's.
pub(super) fn report(
    mailbox: &str,
    recipient: &str,
    status: &str,
    content: &[u8],
    now: Timestamp,
) -> Vec<u8> {
    let headers = Headers::parse(content);
    let value = |name: &str| {
        let value = headers.value(name).unwrap_or_default();
        String::from_utf8_lossy(value.trim_ascii()).into_owned()
    };
    let (id, subject, date) = (value("Message-ID"), value("Subject"), now.rfc5322());
    let text = match status {
        "5.1.10" => format!(
            "RESOLVER.ADR.RecipientNotFound; Recipient {recipient} not found by SMTP address lookup"
        ),
        "5.2.2" => "mailbox full; STOREDRV.Deliver.Exception:QuotaExceededException".to_owned(),
        _ => "The message was not delivered".to_owned(),
    };
    let name = now.0;
    let mut report = format!(
        "MIME-Version: 1.0\r\n\
         From: Microsoft Outlook\r\n <MicrosoftExchange329e71ec88ae4615bbc36ab6ce41109e@contoso.onmicrosoft.com>\r\n\
         To: {mailbox}\r\nDate: {date}\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=\"ndr\"\r\n\
         Message-ID: <{name}.{recipient}>\r\nIn-Reply-To: {id}\r\nReferences: {id}\r\n\
         Subject: Undeliverable: {subject}\r\nAuto-Submitted: auto-replied\r\n\
         X-MS-Exchange-Message-Is-Ndr:\r\n\r\n\
         --ndr\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\
         Delivery has failed to these recipients or groups:\r\n\r\n{recipient}\r\n\
         --ndr\r\nContent-Type: message/delivery-status\r\n\r\n\
         Reporting-MTA: dns;{REPORTER}\r\nArrival-Date: {date}\r\n\r\n\
         Final-Recipient: rfc822;{recipient}\r\nAction: failed\r\nStatus: {status}\r\n\
         Diagnostic-Code: smtp;550 {status} {text}\r\n\r\n\
         --ndr\r\nContent-Type: message/rfc822\r\n\r\n"
    )
    .into_bytes();
    report.extend_from_slice(content);
    report.extend_from_slice(b"\r\n--ndr--\r\n");
    report
}
