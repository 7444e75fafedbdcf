//! The roles of people.

use serde::{Deserialize, Serialize};

/// The rights of a person who does not run the program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// May read everything except the content of messages, and change nothing.
    #[default]
    ReadOnly,
    /// May do everything.
    Administrator,
}

impl Role {
    /// Returns the name, as in the configuration.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::Administrator => "administrator",
        }
    }
}
