//! How far a mailbox has been read. Pure.

use std::fmt;

use super::client::Selected;

/// All messages up to the UID `last` have been handled completely. UIDs are valid only together with the folder's UIDVALIDITY (RFC 9051
/// §2.3.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) validity: u32,
    pub(super) last: u32,
}

impl Progress {
    /// True if the progress can belong to this folder. UIDVALIDITY alone proves little, because Exchange gives many
    /// mailboxes the same value, so the next UID must also be greater than `last`.
    pub(super) fn fits(&self, selected: &Selected) -> bool {
        let is_before_next = selected.next.is_none_or(|next| self.last < next);
        self.validity == selected.validity && is_before_next
    }

    /// Reads what [`Display`](fmt::Display) wrote.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (validity, last) = text.split_once(' ')?;
        Some(Self {
            validity: validity.parse().ok()?,
            last: last.parse().ok()?,
        })
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.validity, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_parsed_and_compared_with_the_folder() {
        let progress = Progress {
            validity: 14,
            last: u32::MAX,
        };
        assert_eq!(Progress::parse(&progress.to_string()), Some(progress));
        assert_eq!(Progress::parse("14"), None);
        let mailbox = |validity, next| Selected {
            validity,
            next,
            stores_keywords: false,
        };
        let progress = Progress {
            validity: 14,
            last: 50,
        };
        assert!(progress.fits(&mailbox(14, Some(51))) && progress.fits(&mailbox(14, None)));
        assert!(!progress.fits(&mailbox(14, Some(50))) && !progress.fits(&mailbox(15, Some(51))));
    }
}
