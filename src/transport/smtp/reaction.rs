//! How we react to an answer. Pure.

use std::time::Duration;

use crate::transport::finding::{Patience, Until};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// The command was carried out.
    Delivered,
    /// The message is tried again by the schedule.
    Deferred,
    /// The message is tried again soon, uncounted; the mailbox gets fewer sessions at once.
    Crowded,
    /// The message is tried again soon, uncounted; the mailbox pauses.
    TooFast,
    /// The recipient goes into another transaction, at once.
    NextTransaction,
    /// The message is tried again, and the mailbox pauses, longer each time.
    Slowed(Patience),
    /// The message is tried again late, and may have arrived already.
    Uncertain,
    /// The message has failed, for this recipient or, past RCPT, for all that were accepted.
    Failed,
    /// As [`Reaction::Failed`], and the mailbox pauses: repeated, such failures get it blocked.
    FailedAndSlowed,
    /// As [`Reaction::Failed`], and further mail of this sender fails early for a while: asking again
    /// would get the mailbox blocked.
    SenderRefused,
    /// The token was refused: a fresh one, once, then as held until a probe.
    FreshToken,
    /// The mailbox is not used; its mail stays queued, uncounted.
    Held(Until),
    /// The tenant's mail to external recipients waits this long, uncounted; other mail goes on.
    ExternalHeld(Duration),
}
