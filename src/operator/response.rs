//! The responses to a person's requests.

use serde::{Deserialize, Serialize};

use super::accounts::{Disconnected, SignInAttempt, SignInProgress};
use super::clients::ClientRow;
use super::error::OperatorError;
use super::process::Reloaded;
use super::report::Report;
use super::row::TokenRow;
use super::status::Status;
use crate::delivery::ServerState;
use crate::spool::{Entry, Story};
use crate::transport::Step;

/// A response to a request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Response {
    /// The request was carried out.
    Done,
    /// True if the server was held before the request.
    Was(bool),
    /// A number of items.
    Count(usize),
    /// The result of a reload.
    Reloaded(Reloaded),
    /// The state of the whole program.
    Status(Box<Status>),
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
    /// A report about the mail of a period.
    Report(Box<Report>),
    /// The state of tokens.
    Tokens(Vec<TokenRow>),
    /// The names of accounts.
    Accounts(Vec<String>),
    /// A sign-in that has begun.
    Attempt(Box<SignInAttempt>),
    /// The progress of a sign-in.
    Progress(SignInProgress),
    /// The result of a disconnect.
    Disconnected(Disconnected),
    /// Clients that were refused.
    Clients(Vec<ClientRow>),
    /// A link to the page, if the configuration has one.
    Link(Option<String>),
}

/// The content of one kind of response.
pub(crate) trait FromResponse: Sized {
    /// Returns the content of a response, or an error if the response is of another kind, for example from
    /// another version of the program.
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
    Response::Reloaded(it) => Reloaded { it },
    Response::Status(it) => Status { *it },
    Response::Servers(it) => Vec<ServerState> { it },
    Response::Step(it) => Step { it },
    Response::Entries(it) => Vec<Entry> { it },
    Response::Entry(it) => Entry { *it },
    Response::Piece(it) => Vec<u8> { it },
    Response::Story(it) => Story { *it },
    Response::Stories(it) => Vec<Story> { it },
    Response::Report(it) => Report { *it },
    Response::Tokens(it) => Vec<TokenRow> { it },
    Response::Accounts(it) => Vec<String> { it },
    Response::Attempt(it) => SignInAttempt { *it },
    Response::Progress(it) => SignInProgress { it },
    Response::Disconnected(it) => Disconnected { it },
    Response::Clients(it) => Vec<ClientRow> { it },
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
