//! How a configured server is reached: the protocol, and the source of its tokens.

use std::sync::Arc;

use super::smtp::SmtpServer;
use crate::token::Source;

/// A configured server, with its protocol settings and the source of its tokens.
#[derive(Clone)]
pub struct Upstream {
    /// The server's name in the configuration.
    pub name: String,
    /// The SMTP settings: how the server is reached.
    pub smtp: SmtpServer,
    /// The source of the server's tokens, for XOAUTH2.
    pub token: Option<Arc<Source>>,
}

impl Upstream {
    /// Returns the person whose token is used for a shared mailbox. `None` if the mailbox is the person's
    /// own, or if the token is an app's.
    pub fn person(&self) -> Option<&str> {
        let settings = self.token.as_ref()?.settings();
        let person = settings.user.as_deref()?;
        let mailbox = self.smtp.auth.username()?;
        let is_shared = settings.grant.is_by_user() && !person.eq_ignore_ascii_case(mailbox);
        is_shared.then_some(person)
    }

    /// Returns the account that signs in, because its limits apply. `None` if there is no sign-in.
    pub fn limited(&self) -> Option<&str> {
        self.person().or(self.smtp.auth.username())
    }

    /// Creates an Exchange Online server, for tests.
    #[cfg(test)]
    pub(crate) fn of_exchange() -> Self {
        use super::remote::{RemoteHost, Tls};
        use super::smtp::Auth;
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ));
        let tls = tls.with_safe_default_protocol_versions();
        let tls = tls
            .expect("aws-lc-rs has TLS 1.3")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        Self {
            name: "s".into(),
            smtp: SmtpServer {
                remote: RemoteHost {
                    host: "smtp.office365.com".into(),
                    port: 587,
                    tls: Tls::Starttls,
                    tls_config: Arc::new(tls),
                    roots: Vec::new(),
                },
                service: crate::base::Service::ExchangeOnline,
                hello: "relay.example.com".into(),
                auth: Auth::XOAuth2 {
                    username: "m@x.com".into(),
                },
            },
            token: None,
        }
    }

    /// True if `self` and `other` have the same connection settings and the same sign-in.
    pub fn is_same(&self, other: &Self) -> bool {
        let is_same_token = match (&self.token, &other.token) {
            (Some(token), Some(other)) => token.settings().is_same(other.settings()),
            (token, other) => token.is_none() && other.is_none(),
        };
        is_same_token && self.smtp.is_same(&other.smtp)
    }
}
