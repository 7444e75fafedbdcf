//! Faults by script: what goes wrong, where, and how often.

use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultStage {
    /// A token request.
    Token,
    /// On connection.
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
}

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultAction {
    /// This reply, such as `451 4.7.0 Temporary server error`; for a token request an HTTP status
    /// and a body.
    Reply(String),
    /// The connection is closed; after the final dot the message is not kept, nor a token issued.
    Drop,
    /// After the final dot, or a token request: it is done, and the connection closed without a reply.
    DropAfter,
    /// Silence, for so many milliseconds, then on as if nothing had been.
    Stall(u64),
    /// What a token request is answered with; elsewhere nothing happens.
    Answer(FaultAnswer),
}

/// What happens to the answer to a token request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultAnswer {
    /// HTTP 429 instead, with Retry-After of so many seconds.
    Throttle(u64),
    /// Half of it comes, then the connection is closed.
    Cut,
    /// The second half comes so many milliseconds after the first.
    Trickle(u64),
    /// `expires_in` is this; null for an answer that does not say.
    Life(Value),
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Where.
    pub stage: FaultStage,
    /// What.
    pub action: FaultAction,
    /// How often; then it is over.
    #[serde(default = "once")]
    pub times: u32,
    /// Only where the command, or the mailbox, has this in it.
    #[serde(default)]
    pub matches: Option<String>,
}

fn once() -> u32 {
    1
}

/// The faults still to come.
#[derive(Debug, Default)]
pub struct Script {
    faults: Mutex<Vec<Fault>>,
}

impl Script {
    /// Adds faults to those there are.
    pub fn add(&self, faults: impl IntoIterator<Item = Fault>) {
        if let Ok(mut list) = self.faults.lock() {
            list.extend(faults);
        }
    }

    /// Whether every fault has struck as often as it was to.
    pub fn is_over(&self) -> bool {
        self.faults.lock().is_ok_and(|list| list.is_empty())
    }

    /// From now on all goes well.
    pub fn clear(&self) {
        if let Ok(mut list) = self.faults.lock() {
            list.clear();
        }
    }

    /// What is to go wrong now at `stage`, where `text` is said; used up once by this.
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
