//! What a person can ask and do.

use serde::{Deserialize, Serialize};

use super::accounts::Wish;
use crate::base::MessageId;
use crate::message::Address;
use crate::spool::{Deed, Page, Selection};

/// Messages, or stories, in one response at the most.
pub(crate) const PAGE: usize = 1_000;

/// See the module.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Each server.
    Servers,
    /// Hold a server until it is released.
    Hold {
        /// Its name.
        server: String,
        /// Why, for whoever looks.
        reason: String,
    },
    /// Use a server again; whether it was held.
    Release {
        /// Its name.
        server: String,
    },
    /// Test the way to a server, with a message in the end if there is somebody to send it to. A
    /// [`super::response::Response::Step`] for each step as it is done.
    Test {
        /// Its name.
        server: String,
        /// Whom to send a message to.
        to: Option<Address>,
    },
    /// A part of the queue.
    List(Page),
    /// One message of the queue.
    Show(MessageId),
    /// Do something to messages; to how many it was done.
    Act {
        /// To which.
        which: Selection,
        /// What.
        deed: Deed,
    },
    /// A message as the app sent it, in pieces.
    Content(MessageId),
    /// What became of a message.
    Story(MessageId),
    /// The newest stories of senders and recipients, oldest first.
    Stories {
        /// An address, or `@domain`.
        address: String,
        /// How many at the most.
        limit: usize,
    },
    /// The state of each server's tokens.
    Tokens,
    /// The accounts that tokens are kept of, and that no server has.
    Unused,
    /// Forget the tokens of those; gives the accounts.
    ForgetUnused,
    /// Begin a sign-in for a server.
    Connect {
        /// Its name.
        server: String,
        /// How.
        wish: Wish,
    },
    /// How far a sign-in is. The response waits a while for it to end.
    Progress(String),
    /// Wait for a sign-in no more.
    Cancel(String),
    /// Forget the tokens of a server's account.
    Disconnect {
        /// Its name.
        server: String,
    },
    /// Seal the vault with another key: this one, or a new one in the vault's folder. How many accounts it
    /// has.
    RotateVault {
        /// The key, as `mailferry vault new-key` prints it.
        key: Option<String>,
    },
    /// A link that lets one browser in to the page; none if the configuration has no page.
    PageLink,
}

/// What it takes to carry out a request if the program does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// The spool.
    Queue,
    /// The vault, with the secrets of the configuration.
    Accounts,
    /// The running program.
    Running,
}
