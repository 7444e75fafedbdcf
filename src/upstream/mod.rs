//! Connections out: one signed-in session with a server, over which messages are sent in turn.
//!
//! mail-send lives here only, for what it does well: connecting, and the TLS handshake on the same
//! stream. The rest of the client's side is ours: replies kept to the letter, XOAUTH2 in two steps,
//! MAIL and its RCPTs in one write, a timeout for each phase, and content stuffed as it streams.

pub mod auth;
mod command;
pub mod link;
pub mod outgoing;
pub mod reply;
pub mod session;
pub mod stuff;

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::base::Secret;
pub use crate::base::Service;
use crate::base::secret::ExposeSecret;
use crate::session::{Reply, Stage};
pub use link::{Dial, Link, Network};
pub use outgoing::{Body, Outgoing};
pub use session::{Session, Transcript};

/// A server as it is reached and signed in to.
#[derive(Clone)]
pub struct Settings {
    /// Host name, or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: Tls,
    /// The client's side of TLS, with the roots that this server is trusted by.
    pub tls_config: Arc<ClientConfig>,
    /// The roots that the configuration adds to the system's.
    pub roots: Vec<CertificateDer<'static>>,
    /// Whose server it is.
    pub service: Service,
    /// What this host calls itself in EHLO.
    pub hello: String,
    /// How it signs in.
    pub auth: Auth,
}

impl Settings {
    /// Whether nothing differs.
    pub fn is_same(&self, other: &Self) -> bool {
        self.host == other.host
            && self.port == other.port
            && self.tls == other.tls
            && self.roots == other.roots
            && self.hello == other.hello
            && self.auth.is_same(&other.auth)
    }
}

/// How a connection is protected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// STARTTLS (RFC 3207), required.
    #[default]
    Starttls,
    /// TLS from the first byte (RFC 8314 §3.3).
    Implicit,
    /// None; on loopback only.
    None,
}

/// How a server is signed in to.
#[derive(Debug, Clone)]
pub enum Auth {
    /// Not at all.
    None,
    /// SASL PLAIN (RFC 4616).
    Plain {
        /// Name.
        username: String,
        /// Password.
        password: Secret,
    },
    /// LOGIN.
    Login {
        /// Name.
        username: String,
        /// Password.
        password: Secret,
    },
    /// XOAUTH2, with a token that each session is given.
    XOAuth2 {
        /// The mailbox.
        username: String,
    },
}

impl Auth {
    /// Whether it signs in the same way, with the same name and password.
    fn is_same(&self, other: &Self) -> bool {
        let parts = |auth: &Self| match auth {
            Self::None => (0, None),
            Self::Plain { password, .. } => (1, Some(password.expose_secret().to_owned())),
            Self::Login { password, .. } => (2, Some(password.expose_secret().to_owned())),
            Self::XOAuth2 { .. } => (3, None),
        };
        let [(kind, password), (its_kind, its_password)] = [self, other].map(|auth| {
            let (kind, password) = parts(auth);
            (kind, password.map(Zeroizing::new))
        });
        kind == its_kind && password == its_password && self.username() == other.username()
    }

    /// Who signs in.
    pub fn username(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Plain { username, .. }
            | Self::Login { username, .. }
            | Self::XOAuth2 { username } => Some(username),
        }
    }
}

/// Why a session could not begin, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No connection.
    #[error("{host}:{port} was not reached: {reason}")]
    Unreachable {
        /// Host.
        host: String,
        /// Port.
        port: u16,
        /// What happened.
        reason: String,
    },
    /// The handshake failed.
    #[error("TLS with {host} failed: {reason}")]
    Tls {
        /// Host.
        host: String,
        /// What happened.
        reason: String,
    },
    /// The server said no to the session itself.
    #[error("{host} answered {reply} at {stage}{}", detail.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused {
        /// Host.
        host: String,
        /// Where.
        stage: Stage,
        /// Its words.
        reply: Reply,
        /// What came before them: the JSON of XOAUTH2's error challenge.
        detail: Option<String>,
    },
    /// The connection ended.
    #[error("connection to {host} lost at {stage}: {reason}")]
    Lost {
        /// Host.
        host: String,
        /// Where.
        stage: Stage,
        /// What happened.
        reason: String,
    },
    /// The content could not be read.
    #[error("{0}")]
    Content(String),
}

impl Failure {
    /// Where in the conversation it was.
    pub fn stage(&self) -> Stage {
        match self {
            Self::Unreachable { .. } => Stage::Connect,
            Self::Tls { .. } => Stage::Tls,
            Self::Refused { stage, .. } | Self::Lost { stage, .. } => *stage,
            Self::Content(_) => Stage::Content,
        }
    }

    /// The server's words, where it said any.
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Refused { reply, .. } => Some(reply),
            _ => None,
        }
    }
}
