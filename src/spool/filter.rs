//! The messages that an operator selects, and the actions on them. Pure.

use serde::{Deserialize, Serialize};

use super::{Entry, State};
use crate::base::{MessageId, Timestamp};

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
        let is_server = |name: &String| *name == record.lane;
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
