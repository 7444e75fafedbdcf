//! The settings of a submission server.

use zeroize::Zeroizing;

use crate::base::secret::ExposeSecret;
use crate::base::{Secret, Service};
use crate::transport::remote::RemoteHost;

/// A submission server: how to reach it, and how to sign in to it.
#[derive(Clone)]
pub struct SmtpServer {
    /// The host.
    pub remote: RemoteHost,
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
        self.remote.is_same(&other.remote)
            && self.hello == other.hello
            && self.auth.is_same(&other.auth)
    }
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
