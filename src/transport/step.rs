//! The steps of a connection test, as a person sees them.

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// One step of a connection test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The step's name: DNS, TCP, TLS, EHLO, token, AUTH, message.
    pub name: String,
    /// True if the step succeeded.
    pub well: bool,
    /// A description of the result or the error.
    pub text: String,
    /// The remedy, if one is known and the text does not contain it.
    pub remedy: Option<String>,
}

/// The channel that receives each step as soon as it is done. If the receiver has been dropped, the test
/// continues.
pub type Steps = mpsc::Sender<Step>;

impl Step {
    /// Creates a step that succeeded.
    pub fn well(name: &str, text: impl ToString) -> Self {
        Self {
            name: name.to_owned(),
            well: true,
            text: text.to_string(),
            remedy: None,
        }
    }

    /// Creates a step that failed.
    pub fn wrong(name: &str, text: impl ToString, remedy: Option<String>) -> Self {
        Self {
            well: false,
            remedy,
            ..Self::well(name, text)
        }
    }
}
