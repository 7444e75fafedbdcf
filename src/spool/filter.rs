//! The messages that an operator selects, and the actions on them. Pure.

use serde::{Deserialize, Serialize};

use super::{Entry, EventKind, State, Story};
use crate::base::{MessageId, Timestamp};
use crate::routing::lane;

/// The messages that an operator looks for. A field that is not set admits any value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueFilter {
    /// The server that the message waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The envelope sender: an address, or `@domain`; empty for the null sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// One of the recipients: an address, or `@domain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// The state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<StateFilter>,
    /// Only messages received before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Timestamp>,
    /// Only messages received at this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// A state to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StateFilter {
    /// The message waits until it is due.
    Queued,
    /// The message waits for an operator.
    Held,
    /// The message is being sent at the moment.
    Active,
    /// The message may have arrived already.
    Uncertain,
}

/// The stories that somebody looks for. A field that is not set admits any story.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoryFilter {
    /// The sender or a recipient: an address, or `@domain`; or the Message-ID in angle brackets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// The user of the app that sent the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The result for at least one recipient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<StoryResult>,
    /// Only messages received at this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Only messages received before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Timestamp>,
    /// Only messages with a lower id, to continue a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<MessageId>,
}

/// What became of a message, for at least one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoryResult {
    /// A server accepted the message.
    Delivered,
    /// The message failed.
    Failed,
    /// A server accepted the message, but a report says that it did not arrive.
    Bounced,
    /// The message was refused when the app sent it.
    Refused,
    /// The message is in the queue.
    Waiting,
    /// The message is in the queue, and waits for an operator.
    Held,
    /// The message is in the queue, and may have arrived already.
    Uncertain,
}

/// A part of the queue, oldest first.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Page {
    /// Only messages after this one.
    pub after: Option<MessageId>,
    /// The maximum number of messages.
    pub limit: usize,
    /// Only messages that this filter admits.
    #[serde(default)]
    pub filter: QueueFilter,
}

/// The messages that an operator selects.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Selection {
    /// The messages that a filter admits.
    Matching(QueueFilter),
    /// The messages with these ids.
    Ids(Vec<MessageId>),
}

/// An operator's action on messages that nobody has claimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperatorAction {
    /// Makes the messages due at once, to be routed again; held ones too.
    Retry,
    /// Like `Retry`, but only for held messages.
    Release,
    /// Holds the messages, for this reason, until they are released.
    Hold(String),
    /// Removes the messages; nobody is notified.
    Delete,
}

impl QueueFilter {
    /// True if the filter admits a message.
    pub fn admits(&self, Entry { record, lease }: &Entry) -> bool {
        let envelope = &record.envelope;
        let sender = envelope.sender.address().map_or("", |a| a.as_str());
        let is_server = |name: &String| *name == record.lane || name == lane::server(&record.lane);
        let is_sender = |wanted: &String| is(wanted, sender);
        let is_recipient = |wanted: &String| {
            let mut all = envelope.recipients.iter();
            all.any(|recipient| is(wanted, recipient.address.as_str()))
        };
        let is_state = |wanted: StateFilter| match wanted {
            StateFilter::Queued => lease.is_none() && record.state == State::Queued,
            StateFilter::Held => record.state == State::Held,
            StateFilter::Active => lease.is_some(),
            StateFilter::Uncertain => record.uncertain,
        };
        self.server.as_ref().is_none_or(is_server)
            && self.sender.as_ref().is_none_or(is_sender)
            && self.recipient.as_ref().is_none_or(is_recipient)
            && self.state.is_none_or(is_state)
            && self.before.is_none_or(|before| record.received < before)
            && self.since.is_none_or(|since| record.received >= since)
    }
}

impl StoryFilter {
    /// Returns a filter for an address, `@domain` or Message-ID.
    pub fn about(about: impl Into<String>) -> Self {
        let about = Some(about.into());
        Self {
            about,
            ..Self::default()
        }
    }

    /// True if the filter admits only messages of the queue.
    pub fn is_of_queue(&self) -> bool {
        use StoryResult::{Held, Uncertain, Waiting};
        matches!(self.result, Some(Waiting | Held | Uncertain))
    }

    /// True if the filter admits a story. Does not compare ids.
    pub fn admits(&self, story: &Story) -> bool {
        let record = &story.record;
        let user = match &record.origin {
            super::Origin::Client { user, .. } => user.as_str(),
            _ => "",
        };
        self.about
            .as_ref()
            .is_none_or(|about| mentions(about, story))
            && self
                .user
                .as_ref()
                .is_none_or(|wanted| wanted.eq_ignore_ascii_case(user))
            && self.result.is_none_or(|result| result.is_of(story))
            && self.since.is_none_or(|since| record.received >= since)
            && self.before.is_none_or(|before| record.received < before)
    }
}

impl StoryResult {
    fn is_of(self, story: &Story) -> bool {
        let mut events = story.events.iter().map(|event| &event.what);
        match self {
            Self::Delivered => events.any(|event| matches!(event, EventKind::Delivered { .. })),
            Self::Failed => events.any(|event| matches!(event, EventKind::Failed { .. })),
            Self::Bounced => events.any(|event| matches!(event, EventKind::Bounced { .. })),
            Self::Refused => events.any(|event| matches!(event, EventKind::Refused { .. })),
            Self::Waiting => story.ended.is_none(),
            Self::Held => story.ended.is_none() && story.record.state == State::Held,
            Self::Uncertain => story.ended.is_none() && story.record.uncertain,
        }
    }
}

/// True if a story contains this address, an address at this domain, or this Message-ID.
fn mentions(wanted: &str, story: &Story) -> bool {
    let bare = |text: &str| text.trim_matches(['<', '>']).to_lowercase();
    let bare_wanted = bare(wanted);
    let is_id = |id: &String| bare(id) == bare_wanted;
    let mut sent = story.events.iter().filter_map(|event| match &event.what {
        EventKind::Delivered { message_id, .. } => Some(message_id),
        _ => None,
    });
    if sent.any(is_id) || story.record.message_id.as_ref().is_some_and(is_id) {
        return true;
    }
    let sender = story.record.envelope.sender.address();
    let mut all = sender.into_iter().chain(story.recipients());
    all.any(|address| is(wanted, address.as_str()))
}

/// True if `address` equals `wanted`, or if `wanted` is `@domain` and `address` is at that domain. Ignores
/// case, and angle brackets around `wanted`.
pub(crate) fn is(wanted: &str, address: &str) -> bool {
    let wanted = wanted.trim_matches(['<', '>']).to_lowercase();
    let address = address.to_lowercase();
    if wanted.starts_with('@') {
        address.ends_with(&wanted)
    } else {
        address == wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_domains_are_found_in_any_case() {
        assert!(is("Jane@X.com", "jane@x.com"));
        assert!(is("@x.COM", "jane@x.com"));
        assert!(!is("ane@x.com", "jane@x.com"));
        assert!(!is("@x.com", "jane@yx.com.net"));
        assert!(is("<jane@x.com>", "jane@x.com"));
        assert!(is("<>", "") && is("", "") && !is("", "jane@x.com"));
    }
}
