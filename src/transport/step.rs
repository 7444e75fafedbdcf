//! The steps of a connection test, as a person sees them.

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its name: DNS, TCP, TLS, EHLO, token, AUTH, message.
    pub name: String,
    /// Whether it went well.
    pub well: bool,
    /// What was found, or what went wrong.
    pub text: String,
    /// What mends it, if it went wrong and the text does not say.
    pub remedy: Option<String>,
}

/// Receives each step when it is done. A receiver that has gone away stops nothing.
pub type Steps = mpsc::Sender<Step>;

impl Step {
    /// A step that went well.
    pub fn well(name: &str, text: impl ToString) -> Self {
        Self {
            name: name.to_owned(),
            well: true,
            text: text.to_string(),
            remedy: None,
        }
    }

    /// A step that went wrong.
    pub fn wrong(name: &str, text: impl ToString, remedy: Option<String>) -> Self {
        Self {
            well: false,
            remedy,
            ..Self::well(name, text)
        }
    }
}
