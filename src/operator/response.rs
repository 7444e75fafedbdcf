//! What a person is told.

use serde::{Deserialize, Serialize};

use super::accounts::{Disconnected, SignInAttempt, SignInProgress};
use super::error::OperatorError;
use super::row::TokenRow;
use crate::delivery::ServerState;
use crate::spool::{Entry, Story};
use crate::transport::Step;

/// See the module.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Response {
    /// It is done.
    Done,
    /// Whether it was so before.
    Was(bool),
    /// How many.
    Count(usize),
    /// Servers.
    Servers(Vec<ServerState>),
    /// A step of a test.
    Step(Step),
    /// Messages of the queue.
    Entries(Vec<Entry>),
    /// A message of the queue.
    Entry(Box<Entry>),
    /// A piece of a message's content.
    #[serde(with = "piece")]
    Piece(Vec<u8>),
    /// A story.
    Story(Box<Story>),
    /// Stories.
    Stories(Vec<Story>),
    /// The state of tokens.
    Tokens(Vec<TokenRow>),
    /// The names of accounts.
    Accounts(Vec<String>),
    /// A sign-in that has begun.
    Attempt(Box<SignInAttempt>),
    /// How far a sign-in is.
    Progress(SignInProgress),
    /// What a disconnect has done.
    Disconnected(Disconnected),
    /// An address, if there is one.
    Link(Option<String>),
}

/// What one kind of response holds.
pub(crate) trait FromResponse: Sized {
    /// The content of a response; an error if it is another kind of response, as from another version of
    /// the program.
    fn from_response(response: Response) -> Result<Self, OperatorError>;
}

macro_rules! holds {
    ($($kind:pat => $of:ty { $value:expr }),* $(,)?) => {
        $(impl FromResponse for $of {
            fn from_response(response: Response) -> Result<Self, OperatorError> {
                match response {
                    $kind => Ok($value),
                    _ => Err(OperatorError::other_version()),
                }
            }
        })*
    };
}

holds! {
    Response::Done => () { () },
    Response::Was(it) => bool { it },
    Response::Count(it) => usize { it },
    Response::Servers(it) => Vec<ServerState> { it },
    Response::Step(it) => Step { it },
    Response::Entries(it) => Vec<Entry> { it },
    Response::Entry(it) => Entry { *it },
    Response::Piece(it) => Vec<u8> { it },
    Response::Story(it) => Story { *it },
    Response::Stories(it) => Vec<Story> { it },
    Response::Tokens(it) => Vec<TokenRow> { it },
    Response::Accounts(it) => Vec<String> { it },
    Response::Attempt(it) => SignInAttempt { *it },
    Response::Progress(it) => SignInProgress { it },
    Response::Disconnected(it) => Disconnected { it },
    Response::Link(it) => Option<String> { it },
}

/// Octets as base64, which JSON can carry.
mod piece {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        octets: &[u8],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(octets))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text).map_err(D::Error::custom)
    }
}
