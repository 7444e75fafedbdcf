//! The priority of a message, from its header section and the configuration. Pure functions.

use serde::{Deserialize, Serialize};

use super::header::Headers;

/// The priority of a message among the messages that wait for the same mailbox.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Somebody is waiting for the message.
    High,
    /// Most mail.
    #[default]
    Normal,
    /// Newsletters, campaigns, reports in the thousands.
    Bulk,
}

impl Priority {
    /// Determines the priority of a message. `configured` is the priority of its user or listener. A message
    /// that marks itself as bulk is always bulk. Otherwise the configuration takes precedence over header
    /// fields, because apps set header fields as they like.
    pub fn of(headers: &Headers, configured: Option<Self>) -> Self {
        match Self::hinted(headers) {
            Some(Self::Bulk) => Self::Bulk,
            hinted => configured.or(hinted).unwrap_or_default(),
        }
    }

    /// Reads the priority from the header fields: `Precedence` (RFC 3834 §3.1.8 lists its values),
    /// `List-Unsubscribe` (RFC 2369 §3.2: only mass mail has it), `X-Priority` and `Importance` (RFC 4021
    /// §2.1.54).
    fn hinted(headers: &Headers) -> Option<Self> {
        let word = |name| {
            let value = headers.value(name)?;
            let text = String::from_utf8_lossy(value);
            let word = text.split_whitespace().next()?.to_ascii_lowercase();
            Some(word)
        };
        if matches!(
            word("Precedence").as_deref(),
            Some("bulk" | "list" | "junk")
        ) {
            return Some(Self::Bulk);
        }
        if headers.value("List-Unsubscribe").is_some() {
            return Some(Self::Bulk);
        }
        if let Some(priority) = word("X-Priority") {
            return match priority.as_bytes()[0] {
                b'1' | b'2' => Some(Self::High),
                b'4' | b'5' => Some(Self::Bulk),
                _ => None,
            };
        }
        match word("Importance").as_deref() {
            Some("high") => Some(Self::High),
            Some("low") => Some(Self::Bulk),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(field: &str, configured: Option<Priority>) -> Priority {
        let message = format!("From: a@x\r\n{field}\r\n\r\n");
        Priority::of(&Headers::parse(message.as_bytes()), configured)
    }

    #[test]
    fn headers_hint_and_the_configuration_knows_better() {
        use Priority::{Bulk, High, Normal};
        for (field, alone, configured_high, configured_normal) in [
            ("Subject: x", Normal, High, Normal),
            ("Precedence: Bulk", Bulk, Bulk, Bulk),
            ("precedence: list", Bulk, Bulk, Bulk),
            ("Precedence: first-class", Normal, High, Normal),
            ("List-Unsubscribe: <https://x>", Bulk, Bulk, Bulk),
            ("X-Priority: 1 (Highest)", High, High, Normal),
            ("X-Priority: 3", Normal, High, Normal),
            ("X-Priority: 5", Bulk, Bulk, Bulk),
            ("X-Priority:", Normal, High, Normal),
            ("Importance: High", High, High, Normal),
            ("Importance: low", Bulk, Bulk, Bulk),
        ] {
            assert_eq!(of(field, None), alone, "{field}");
            assert_eq!(of(field, Some(High)), configured_high, "{field}");
            assert_eq!(of(field, Some(Normal)), configured_normal, "{field}");
        }
    }
}
