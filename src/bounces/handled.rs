//! The action for a matched report. Pure.

use std::fmt;

use base64::Engine;
use base64::alphabet::IMAP_MUTF7;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::NO_PAD;

/// The keyword that marks a report (RFC 9051 §2.3.2).
pub(super) const KEYWORD: &str = "MailferryBounce";

/// The action for a report after the bounce was recorded and, if necessary, the app's sender was notified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handled {
    /// The report gets a keyword, if the mail server stores keywords, and stays in INBOX.
    Marked,
    /// The report is moved to this folder.
    Moved(Folder),
    /// The report is deleted.
    Deleted,
}

/// The name of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder(String);

/// The reason why a text cannot be the name of a folder.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The name is empty.
    #[error("the folder name is empty; choose one, for example \"Bounces\"")]
    Empty,
    /// The name has a control character.
    #[error("a folder name must not contain control characters")]
    Control,
    /// The name has a wildcard of IMAP (RFC 9051 §6.3.9), or begins or ends with `/`.
    #[error("a folder name must not contain * or %, or begin or end with /")]
    Wildcard,
    /// The folder is INBOX, where reports arrive.
    #[error("INBOX is the folder where reports arrive; choose another folder")]
    Inbox,
}

impl Folder {
    /// Checks a name.
    pub fn parse(name: &str) -> Result<Self, FolderError> {
        if name.trim().is_empty() {
            Err(FolderError::Empty)
        } else if name.chars().any(char::is_control) {
            Err(FolderError::Control)
        } else if name.contains(['*', '%']) || name.starts_with('/') || name.ends_with('/') {
            Err(FolderError::Wildcard)
        } else if name.eq_ignore_ascii_case("INBOX") {
            Err(FolderError::Inbox)
        } else {
            Ok(Self(name.to_owned()))
        }
    }

    /// Returns the name as a quoted string in modified UTF-7 (RFC 3501 §5.1.3).
    pub(super) fn quoted(&self) -> String {
        let mut name = String::from("\"");
        let mut other = String::new();
        for character in self.0.chars() {
            if !matches!(character, ' '..='~') {
                other.push(character);
                continue;
            }
            flush(&mut other, &mut name);
            match character {
                '&' => name.push_str("&-"),
                '"' | '\\' => name.extend(['\\', character]),
                _ => name.push(character),
            }
        }
        flush(&mut other, &mut name);
        name + "\""
    }
}

/// Moves characters that are not ASCII to a name, in the base64 of UTF-16.
fn flush(other: &mut String, name: &mut String) {
    if other.is_empty() {
        return;
    }
    let octets: Vec<u8> = other.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let base64 = GeneralPurpose::new(&IMAP_MUTF7, NO_PAD).encode(octets);
    name.push_str(&format!("&{base64}-"));
    other.clear();
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Handled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Marked => write!(f, "marked with the keyword {KEYWORD}"),
            Self::Moved(folder) => write!(f, "moved to the folder {folder}"),
            Self::Deleted => f.write_str("deleted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_folders_are_written_in_modified_utf_7() {
        for (name, expected) in [
            ("Bounces", r#""Bounces""#),
            ("R & D", r#""R &- D""#),
            (r#"a"b\c"#, r#""a\"b\\c""#),
            // The example of RFC 3501 §5.1.3.
            (
                "~peter/mail/台北/日本語",
                r#""~peter/mail/&U,BTFw-/&ZeVnLIqe-""#,
            ),
            ("Zurückgekommen", r#""Zur&APw-ckgekommen""#),
            ("📭", r#""&2D3c7Q-""#),
        ] {
            assert_eq!(Folder::parse(name).unwrap().quoted(), expected);
        }
        for name in ["", " ", "inbox", "a\r\nb", "*", "x%", "/x", "x/"] {
            assert!(Folder::parse(name).is_err(), "{name:?}");
        }
    }
}
