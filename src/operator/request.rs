//! The requests that a person can make.

use serde::{Deserialize, Serialize};

use super::accounts::SignInOptions;
use super::role::Role;
use crate::base::{MessageId, Timestamp};
use crate::message::Address;
use crate::spool::{OperatorAction, Page, Selection, StoryFilter};

/// The maximum number of messages, or of stories, in one response.
pub(crate) const PAGE: usize = 1_000;

/// A request that a person can make.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Reread the configuration. If it is wrong, the old one stays in force.
    Reload,
    /// Take this node out of service: other nodes get its work. The response comes when that has begun.
    Drain {
        /// The time (seconds) that sessions with apps have to end by themselves.
        wait: u64,
    },
    /// Put this node back into service.
    Undrain,
    /// Get the state of the whole program.
    Status,
    /// List the servers.
    Servers,
    /// Hold a server until it is released.
    Hold {
        /// The server's name.
        server: String,
        /// The reason, shown to people who look at the server. Without one, an earlier person's reason remains.
        reason: Option<String>,
    },
    /// Use a server again. The response is true if the server was held.
    Release {
        /// The server's name.
        server: String,
    },
    /// Test the connection to a server, and then send a message if `to` names a recipient. Each step is
    /// reported by a [`super::response::Response::Step`] as it is done.
    Test {
        /// The server's name.
        server: String,
        /// The recipient of the message.
        to: Option<Address>,
    },
    /// List a part of the queue.
    List(Page),
    /// Show one message of the queue.
    Show(MessageId),
    /// Apply an action to messages. The responses are the number of changed messages so far; the last one is the
    /// number of all.
    Act {
        /// The messages.
        which: Selection,
        /// The action.
        deed: OperatorAction,
    },
    /// Get a message as the app sent it, in pieces.
    Content(MessageId),
    /// Get the story of a message.
    Story(MessageId),
    /// Get the newest stories that a filter admits, newest first.
    Stories {
        /// The filter.
        filter: StoryFilter,
        /// The maximum number of stories to return.
        limit: usize,
    },
    /// Get a report about the mail of a period.
    Report {
        /// The beginning of the period.
        since: Timestamp,
        /// The end of the period.
        until: Timestamp,
    },
    /// Get the state of each server's tokens.
    Tokens,
    /// List the accounts that have stored tokens but are used by no server.
    Unused,
    /// Forget the tokens of the accounts that no server uses. The response lists the accounts.
    ForgetUnused,
    /// Begin a sign-in for a server.
    Connect {
        /// The server's name.
        server: String,
        /// How to sign in, and who may sign in.
        wish: SignInOptions,
    },
    /// Get the progress of a sign-in. The response waits a while for the end of the sign-in.
    Progress(String),
    /// Stop waiting for a sign-in.
    Cancel(String),
    /// Forget the tokens of a server's account.
    Disconnect {
        /// The server's name.
        server: String,
    },
    /// Encrypt the vault with a different key: `key`, or a new one in the vault's folder. The response is
    /// the number of accounts in the vault.
    RotateVault {
        /// The key, as `mailferry vault new-key` prints it.
        key: Option<String>,
    },
    /// List the clients that were refused since the program started.
    Clients,
    /// Send a test by the alert channel of this name.
    TestAlert(String),
    /// Get a link that admits one browser to the page; `None` if the configuration has no page.
    PageLink(Role),
}

impl Request {
    /// True if the request changes nothing, and does not show the content of messages.
    pub(super) fn only_reads(&self) -> bool {
        match self {
            Self::Status
            | Self::Servers
            | Self::List(_)
            | Self::Show(_)
            | Self::Story(_)
            | Self::Stories { .. }
            | Self::Report { .. }
            | Self::Tokens
            | Self::Unused
            | Self::Clients => true,
            Self::Reload
            | Self::Drain { .. }
            | Self::Undrain
            | Self::Hold { .. }
            | Self::Release { .. }
            | Self::Test { .. }
            | Self::Act { .. }
            | Self::Content(_)
            | Self::ForgetUnused
            | Self::Connect { .. }
            | Self::Progress(_)
            | Self::Cancel(_)
            | Self::Disconnect { .. }
            | Self::RotateVault { .. }
            | Self::TestAlert(_)
            | Self::PageLink(_) => false,
        }
    }
}

/// The way to carry out a command's requests if the program is not running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// With the spool alone.
    Queue,
    /// With the vault and the secrets of the configuration.
    Accounts,
    /// There is no way: only the running program can carry them out.
    Running,
}
