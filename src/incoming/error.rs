//! The reason why a mailbox cannot be reached.

use std::time::Duration;

use super::upstream::UpstreamError;
use crate::token::TokenError;

/// The reason why a mailbox cannot be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotReached {
    /// The mail server wants no sign-in for this long.
    #[error("the mail server asked for a pause; {} s are left", .0.as_secs())]
    Paused(Duration),
    /// There is no token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The mail server cannot be reached, or refuses the sign-in.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}
