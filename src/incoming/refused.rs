//! The reasons for refusing a client, and their texts for IMAP and POP3. All such texts are in this file.

use crate::door::TurnedAway;

/// The reason why a client does not get to its mailbox, or why its session ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The user or the password is wrong.
    Wrong,
    /// The door turns the client away.
    TurnedAway(TurnedAway),
    /// The user may read no mailbox.
    NoMailbox {
        /// The user.
        user: String,
    },
    /// The user may read several mailboxes and did not say which.
    WhichMailbox {
        /// The user.
        user: String,
        /// The mailboxes, as servers.
        mailboxes: Vec<String>,
    },
    /// The user may not read this mailbox, or it does not exist.
    NotYours {
        /// The user.
        user: String,
        /// The mailbox as the client wrote it.
        mailbox: String,
    },
    /// The server of the mailbox is not configured for this protocol.
    NotForThis {
        /// The server.
        server: String,
        /// The protocol, as `use` names it.
        protocol: &'static str,
    },
    /// Passwords are accepted only inside TLS.
    NeedsTls {
        /// The command that starts TLS.
        command: &'static str,
    },
    /// The client speaks HTTP.
    Http {
        /// The protocol of this listener.
        protocol: &'static str,
    },
    /// The user may no longer read the mailbox.
    Revoked,
    /// A person must sign in before the mailbox can be read.
    NeedsSignIn {
        /// The server.
        server: String,
    },
    /// The mailbox cannot be reached at the moment.
    Unavailable {
        /// The server.
        server: String,
    },
    /// The password cannot be checked at the moment.
    Busy,
    /// The mail server refuses the sign-in of mailferry.
    UpstreamRefused {
        /// The server.
        server: String,
    },
    /// The client was silent for too long before it signed in.
    Silent,
    /// The program ends.
    ShuttingDown,
    /// The client sent too many commands, or too many that failed.
    TooMany,
    /// A command is too long.
    TooLong,
    /// The connection to the mail server was lost.
    UpstreamLost,
}

/// The kind of a refusal, for the codes of the protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Credentials,
    Permission,
    Privacy,
    Temporary,
    Permanent,
    Limit,
    Other,
}

impl Refused {
    fn kind(&self) -> Kind {
        match self {
            Self::Wrong => Kind::Credentials,
            Self::NoMailbox { .. }
            | Self::WhichMailbox { .. }
            | Self::NotYours { .. }
            | Self::Revoked => Kind::Permission,
            Self::NeedsTls { .. } => Kind::Privacy,
            Self::TurnedAway(TurnedAway::NoAccess(_)) | Self::NotForThis { .. } => Kind::Permanent,
            Self::TurnedAway(_) | Self::TooMany | Self::TooLong => Kind::Limit,
            Self::Unavailable { .. }
            | Self::NeedsSignIn { .. }
            | Self::Busy
            | Self::UpstreamRefused { .. }
            | Self::UpstreamLost
            | Self::ShuttingDown => Kind::Temporary,
            Self::Silent | Self::Http { .. } => Kind::Other,
        }
    }

    /// True if the client's own commands are the reason. The door logs the clients that it turns away.
    pub(super) fn is_by_client(&self) -> bool {
        !matches!(
            self,
            Self::Silent | Self::ShuttingDown | Self::TurnedAway(_)
        )
    }

    /// The response code of IMAP (RFC 5530), with a space after it; empty if there is none.
    pub(super) fn imap_code(&self) -> &'static str {
        match self.kind() {
            Kind::Credentials => "[AUTHENTICATIONFAILED] ",
            Kind::Permission => "[AUTHORIZATIONFAILED] ",
            Kind::Privacy => "[PRIVACYREQUIRED] ",
            Kind::Temporary => "[UNAVAILABLE] ",
            Kind::Permanent => "[CANNOT] ",
            Kind::Limit => "[LIMIT] ",
            Kind::Other => "",
        }
    }

    /// The response code of POP3 (RFC 3206, RFC 2449), with a space after it; empty if there is none.
    pub(super) fn pop3_code(&self) -> &'static str {
        match self.kind() {
            Kind::Credentials | Kind::Permission | Kind::Privacy => "[AUTH] ",
            Kind::Temporary | Kind::Limit => "[SYS/TEMP] ",
            Kind::Permanent => "[SYS/PERM] ",
            Kind::Other => "",
        }
    }
}

/// The text sent to the client, without a response code: one line of ASCII.
impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Wrong => f.write_str("Wrong user name or password"),
            Self::TurnedAway(why) => turned_away(why, f),
            Self::NoMailbox { user } => write!(
                f,
                "User {user} may read no mailbox: set `mailboxes` of this [[user]] in mailferry's configuration"
            ),
            Self::WhichMailbox { user, mailboxes } => write!(
                f,
                "User {user} may read several mailboxes: sign in as {user}/MAILBOX, with one of {}",
                mailboxes.join(", ")
            ),
            Self::NotYours { user, mailbox } => write!(
                f,
                "User {user} may not read the mailbox {mailbox}: see `mailboxes` of this [[user]] in mailferry's \
                 configuration"
            ),
            Self::NotForThis { server, protocol } => write!(
                f,
                "Server {server} is not configured for this protocol: add \"{protocol}\" to its `use` in mailferry's \
                 configuration"
            ),
            Self::NeedsTls { command } => write!(
                f,
                "Passwords are accepted only inside TLS: use {command} first"
            ),
            Self::Http { protocol } => write!(f, "This is {protocol} and not HTTP, closing"),
            Self::Revoked => f.write_str("You may no longer read this mailbox"),
            Self::NeedsSignIn { server } => write!(
                f,
                "Run `mailferry connect {server}` on the mailferry host before this mailbox can be read"
            ),
            Self::Unavailable { server } => write!(
                f,
                "The mailbox of server {server} cannot be reached at the moment; mailferry's log says why"
            ),
            Self::Busy => f.write_str("Too many sign-ins at the moment, try again later"),
            Self::UpstreamRefused { server } => write!(
                f,
                "The mail server rejected mailferry's sign-in to the mailbox of [[server]] {server}; see mailferry's log"
            ),
            Self::Silent => f.write_str("No command arrived in time, closing the connection"),
            Self::ShuttingDown => f.write_str("mailferry is stopping, connect again later"),
            Self::TooMany => f.write_str("Too many commands or errors before the sign-in"),
            Self::TooLong => f.write_str("The command is too long"),
            Self::UpstreamLost => f.write_str("The connection to the mail server was lost"),
        }
    }
}

fn turned_away(why: &TurnedAway, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
    match why {
        TurnedAway::NoAccess(peer) => {
            write!(
                f,
                "{peer} may not connect here (see the listener's `networks`)"
            )
        }
        TurnedAway::ShutOut { peer, seconds } => write!(
            f,
            "Too many failed sign-ins from {peer}, try again in {seconds} seconds (setting `shut_out`)"
        ),
        TurnedAway::TooMany => f.write_str("Too many sessions, try again later"),
        TurnedAway::TooManyOf {
            whose,
            most,
            setting,
        } => write!(
            f,
            "{whose} has too many sessions (setting `{setting}`: {most})"
        ),
        TurnedAway::Draining => {
            f.write_str("This node is being taken out of service, use another one")
        }
        TurnedAway::TalksEarly => f.write_str("Wait for the greeting before you send"),
    }
}
