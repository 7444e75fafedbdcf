//! The settings of a submission server.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::base::secret::ExposeSecret;
use crate::base::{Secret, Service};

/// A submission server: how to reach it, and how to sign in to it.
#[derive(Clone)]
pub struct SmtpServer {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: Tls,
    /// The TLS client settings, with the root certificates that verify this server.
    pub tls_config: Arc<ClientConfig>,
    /// The root certificates that the configuration adds to those of the system.
    pub roots: Vec<CertificateDer<'static>>,
    /// The service to which the server belongs.
    pub service: Service,
    /// The name of our own host, as sent in EHLO.
    pub hello: String,
    /// How to sign in to the server.
    pub auth: Auth,
}

impl SmtpServer {
    /// True if `self` and `other` have the same settings.
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
    /// No TLS; on loopback only.
    None,
}

/// How to sign in to a server.
#[derive(Debug, Clone)]
pub enum Auth {
    /// No sign-in.
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
    /// XOAUTH2; each session receives its token when it is opened.
    XOAuth2 {
        /// The mailbox, or the person who signs in for it.
        username: String,
    },
}

impl Auth {
    /// True if `self` and `other` use the same mechanism, name and password.
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

    /// Returns the name used for the sign-in; `None` if there is no sign-in.
    pub fn username(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Plain { username, .. }
            | Self::Login { username, .. }
            | Self::XOAuth2 { username } => Some(username),
        }
    }
}
