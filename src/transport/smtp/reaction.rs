//! How we react to a reply. Pure.

use std::time::Duration;

use crate::transport::finding::{Patience, Until};

/// The reaction to a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// The command succeeded.
    Delivered,
    /// The message is retried on the usual schedule.
    Deferred,
    /// The message is retried soon, and the attempt does not count; the mailbox gets fewer simultaneous
    /// sessions.
    Crowded,
    /// The message is retried soon, and the attempt does not count; the mailbox pauses.
    TooFast,
    /// The recipient goes into another transaction immediately.
    NextTransaction,
    /// The message is retried, and the mailbox pauses, longer each time.
    Slowed(Patience),
    /// The message may have arrived already; it is retried only after a long pause.
    Uncertain,
    /// The message has failed: for this recipient or, after RCPT, for all recipients that were accepted.
    Failed,
    /// As [`Reaction::Failed`], and the mailbox pauses, because repeated failures of this kind get it
    /// blocked.
    FailedAndSlowed,
    /// As [`Reaction::Failed`], and further mail from this sender fails early for a while, because more
    /// attempts would get the mailbox blocked.
    SenderRefused,
    /// The token was refused: one attempt with a fresh token, then the mailbox is held until a probe.
    FreshToken,
    /// The mailbox is not used; its mail stays queued, and the attempt does not count.
    Held(Until),
    /// The tenant's mail to external recipients waits this long, and the attempt does not count; other mail
    /// continues.
    ExternalHeld(Duration),
}
