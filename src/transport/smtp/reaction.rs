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
    /// The message fails: for one recipient if this is the reply to RCPT, otherwise for every recipient that
    /// has not been refused.
    Failed,
    /// Like [`Reaction::Failed`]; in addition, the mailbox pauses, because repeated failures of this kind
    /// would get the mailbox blocked.
    FailedAndSlowed,
    /// Like [`Reaction::Failed`]; in addition, further mail from this sender fails early for a while, because
    /// more attempts would get the mailbox blocked.
    SenderRefused,
    /// The token was refused: one attempt is made with a fresh token. If that is refused too, the mailbox is
    /// held until a probe succeeds.
    FreshToken,
    /// The mailbox is not used; its mail stays queued, and the attempt does not count.
    Held(Until),
    /// The tenant's mail to external recipients waits this long, and the attempt does not count; other mail
    /// continues.
    ExternalHeld(Duration),
}
