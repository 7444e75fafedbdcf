//! The meaning of what delivery reports say: the rows of the table for [`Stage::Report`]. Pure.
//!
//! The codes are those of Exchange's non-delivery reports, and of RFC 3463. These replies come from the
//! recipient's server, or from Exchange about the recipient. For Exchange, rows without a stage, such as those
//! about the sender's own limits, apply to reports too.

use super::row::{ANY, Row};
use crate::transport::smtp::reaction::Reaction;
use crate::transport::smtp::stage::Stage;

const REPORT: Row = Row {
    stages: &[Stage::Report],
    reaction: Reaction::Failed,
    ..ANY
};

pub(super) static ROWS: &[Row] = &[
    Row {
        name: "recipient_unknown",
        enhanced: &[(5, 1, 1..=1), (5, 1, 3..=3), (5, 1, 6..=6), (5, 1, 10..=10)],
        remedy: "the address does not exist at the recipient's organisation: correct it in the app that sent the message",
        ..REPORT
    },
    // RFC 3463 §3.5 says "no answer from host"; Exchange means an address that its domain does not have.
    Row {
        name: "recipient_unknown",
        enhanced: &[(5, 4, 1..=1)],
        says: &["access denied"],
        remedy: "the address does not exist at the recipient's organisation: correct it in the app that sent the message",
        ..REPORT
    },
    Row {
        name: "recipient_domain_unknown",
        enhanced: &[(5, 1, 2..=2), (5, 4, 4..=4), (5, 4, 310..=312)],
        remedy: "the domain after the @ does not exist, or accepts no mail: correct the address in the app that sent the message",
        ..REPORT
    },
    Row {
        name: "recipient_mailbox_full",
        enhanced: &[(4, 2, 2..=2), (5, 2, 1..=2)],
        remedy: "the recipient's mailbox is full or disabled: ask the recipient to free space or have the mailbox enabled, then send the message again",
        ..REPORT
    },
    Row {
        name: "too_large_for_recipient",
        enhanced: &[(5, 2, 3..=3), (5, 3, 4..=4)],
        remedy: "the message is larger than the recipient's server accepts: send smaller attachments, or a link to the file",
        ..REPORT
    },
    Row {
        name: "recipient_not_reached",
        enhanced: &[
            (4, 4, 0..=999),
            (5, 4, 7..=7),
            (5, 4, 300..=300),
            (5, 4, 316..=318),
        ],
        remedy: "the recipient's server could not be reached for a long time: check the domain after the @, and send the message again later",
        ..REPORT
    },
    Row {
        name: "recipient_restricted",
        enhanced: &[(5, 7, 124..=124), (5, 7, 129..=129), (5, 7, 133..=136)],
        remedy: "the recipient accepts mail from certain senders only: ask the owner of the address to admit {sender}",
        ..REPORT
    },
    Row {
        name: "sender_not_verified",
        enhanced: &[(5, 7, 23..=27), (5, 7, 509..=509), (5, 7, 515..=515)],
        remedy: "the recipient's server could not verify the domain of {sender}: check its SPF, DKIM, DMARC and MX records, and the reverse DNS of the sending server",
        ..REPORT
    },
    Row {
        name: "sender_blocked_by_recipient",
        enhanced: &[(5, 7, 511..=511), (5, 7, 606..=649)],
        remedy: "the recipient's server blocks {sender} or the sending server: the reply says how to have the block removed",
        ..REPORT
    },
];

/// The row for all other reports.
pub(super) static OTHER: Row = Row {
    name: "bounced",
    ..REPORT
};
