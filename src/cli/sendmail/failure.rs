//! Why a message was not accepted, with an exit code of sysexits.h. Pure.

/// Try again later.
const TRY_AGAIN: u8 = 75;

/// The reason why a message was not accepted.
pub(super) struct Failure {
    /// The exit code (sysexits.h).
    pub(super) code: u8,
    /// The reason in words.
    pub(super) text: String,
}

impl Failure {
    /// Something that may work later.
    pub(super) fn again(text: String) -> Self {
        Self {
            code: TRY_AGAIN,
            text,
        }
    }
}
