//! Scripted faults: what goes wrong, where, and how often.

use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The stage at which a fault occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultStage {
    /// A token request.
    Token,
    /// The start of a connection.
    Connect,
    /// EHLO.
    Ehlo,
    /// The end of AUTH.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// After the final dot.
    FinalDot,
    /// The start of a connection by IMAP or POP3.
    ReadingConnect,
    /// The end of a sign-in by IMAP or POP3. A reply is the answer without IMAP's tag.
    ReadingAuth,
    /// The first command after a sign-in by IMAP or POP3.
    ReadingFirst,
}

/// The effect of a fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultAction {
    /// A reply with this text, such as `451 4.7.0 Temporary server error`; for a token request, an HTTP
    /// status and a body.
    Reply(String),
    /// The connection is closed. After the final dot the message is not kept; after a token request no
    /// token is issued.
    Drop,
    /// The message is accepted, or the token is issued, but the connection is closed without a reply. At
    /// other stages this is the same as `Drop`.
    DropAfter,
    /// Silence for this many milliseconds; then everything continues normally.
    Stall(u64),
    /// A change to the answer to a token request; no effect at other stages.
    Answer(FaultAnswer),
}

/// A change to the answer to a token request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultAnswer {
    /// HTTP 429 is sent instead of the answer, with a Retry-After of this many seconds.
    Throttle(u64),
    /// Half of the answer is sent, then the connection is closed.
    Cut,
    /// The second half is sent this many milliseconds after the first.
    Trickle(u64),
    /// The answer contains this value as `expires_in`; null for an answer that states no lifetime.
    Life(Value),
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The stage at which the fault occurs.
    pub stage: FaultStage,
    /// The effect of the fault.
    pub action: FaultAction,
    /// How often the fault occurs; then it ends.
    #[serde(default = "once")]
    pub times: u32,
    /// If set, the fault occurs only if this text is found: after the final dot, in the mailbox's address;
    /// for a token request, in the grant type; otherwise, in the command.
    #[serde(default)]
    pub matches: Option<String>,
}

fn once() -> u32 {
    1
}

/// The faults that are still to occur.
#[derive(Debug, Default)]
pub struct Script {
    faults: Mutex<Vec<Fault>>,
}

impl Script {
    /// Adds faults to the script.
    pub fn add(&self, faults: impl IntoIterator<Item = Fault>) {
        if let Ok(mut list) = self.faults.lock() {
            list.extend(faults);
        }
    }

    /// True if every fault has occurred as often as it should.
    pub fn is_over(&self) -> bool {
        self.faults.lock().is_ok_and(|list| list.is_empty())
    }

    /// Removes all faults.
    pub fn clear(&self) {
        if let Ok(mut list) = self.faults.lock() {
            list.clear();
        }
    }

    /// Returns the fault that applies to `text` at `stage`, if any, and counts it as having occurred once.
    pub fn strike(&self, stage: FaultStage, text: &str) -> Option<FaultAction> {
        let mut faults = self.faults.lock().ok()?;
        let matches = |fault: &Fault| {
            fault.stage == stage
                && fault
                    .matches
                    .as_ref()
                    .is_none_or(|part| text.contains(part.as_str()))
        };
        let place = faults.iter().position(matches)?;
        let fault = &mut faults[place];
        let action = fault.action.clone();
        fault.times = fault.times.saturating_sub(1);
        if fault.times == 0 {
            faults.remove(place);
        }
        Some(action)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_as_often_as_it_says_and_where_it_matches() {
        let script = Script::default();
        let fault =
            r#"{"stage":"rcpt","action":{"reply":"550 5.1.1 no"},"times":2,"matches":"bad@"}"#;
        script.add([serde_json::from_str(fault).unwrap()]);
        assert_eq!(script.strike(FaultStage::Rcpt, "good@x"), None);
        assert_eq!(script.strike(FaultStage::Mail, "bad@x"), None);
        let reply = Some(FaultAction::Reply("550 5.1.1 no".into()));
        assert_eq!(script.strike(FaultStage::Rcpt, "bad@x"), reply);
        assert_eq!(script.strike(FaultStage::Rcpt, "bad@x"), reply);
        assert_eq!(script.strike(FaultStage::Rcpt, "bad@x"), None);
    }
}
