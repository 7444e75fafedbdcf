//! The use of a mailbox's limits by a message, for spools in which several nodes use the same mailbox. Pure.

use crate::base::Timestamp;
use crate::delivery::usage::MailboxLimits;

/// The amount that a message is about to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spending {
    /// The mailbox, as delivery names it.
    pub mailbox: String,
    /// The mailbox's limits, over all nodes.
    pub limits: MailboxLimits,
    /// The number of recipients.
    pub recipients: u64,
}

/// The answer to a request to send a message now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// The message may be sent, and is marked as being sent.
    Granted,
    /// The claim is lost: the message must not be sent.
    Lost,
    /// The mailbox's limit per minute or per day is used up until this time, by all nodes together.
    UsedUp(Timestamp),
}

/// The answer to a request for the right to one more session at a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionLease {
    /// This node may open one more session.
    Granted,
    /// The nodes together have all sessions that the mailbox's limit allows.
    None,
}
