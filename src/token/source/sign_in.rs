//! The sign-in of a person for an account.

use std::time::Duration;

use url::Url;

use super::{Source, grants};
use crate::token::claims::Claims;
use crate::token::error::TokenError;
use crate::token::flow::{self, Ask, DeviceCode, Granted};
use crate::token::sign_in::{Begun, SignInError, SignedIn};
use crate::token::state::{Reading, TokenOrigin};

/// The maximum number of attempts with a code while the provider has a temporary error, and the pause
/// between them.
const CODE_LOOKS: u32 = 5;
const CODE_PAUSE: Duration = Duration::from_secs(2);

/// The server that somebody signs in for, and the accounts that may sign in.
#[derive(Debug, Clone, Copy)]
pub struct SignInPurpose<'a> {
    /// The server, one of those that share the account.
    pub server: &'a str,
    /// True if an account other than the server's may sign in.
    pub anybody: bool,
}

impl Source {
    /// Begins a sign-in with a browser, which the provider sends to `redirect` at the end. Returns `None` if
    /// the provider has no endpoint for it.
    pub fn begin(&self, redirect: Url) -> Option<Begun> {
        Begun::new(
            &self.settings,
            redirect,
            self.clock.now(),
            rand::random(),
            rand::random(),
        )
    }

    /// Finishes a sign-in with a browser; `code` is what the provider returned together with the
    /// sign-in's `state`. The user must be the one in the settings, unless `who.anybody` is true.
    pub async fn finish(
        &self,
        begun: Begun,
        code: &str,
        who: SignInPurpose<'_>,
    ) -> Result<SignedIn, SignInError> {
        let ask = Ask::Code {
            code,
            verifier: &begun.verifier,
            redirect: &begun.redirect,
        };
        let mut looks = 1..CODE_LOOKS;
        let granted = loop {
            match flow::request(&self.settings, &self.http, ask).await {
                // A person is waiting, and the code may still be valid.
                Err(error) if error.is_transient() && looks.next().is_some() => {
                    self.clock.sleep(CODE_PAUSE).await;
                }
                answered => break answered?,
            }
        };
        self.sign_in(granted, TokenOrigin::Browser, who).await
    }

    /// Begins a sign-in on another device. Returns `None` if the provider has no endpoint for it.
    pub async fn begin_device(&self) -> Result<Option<DeviceCode>, TokenError> {
        flow::device_code(&self.settings, &self.http).await
    }

    /// Waits until the person has signed in on the other device.
    pub async fn finish_device(
        &self,
        code: &DeviceCode,
        who: SignInPurpose<'_>,
    ) -> Result<SignedIn, SignInError> {
        let until = self.clock.now().after(code.expires_in);
        let granted = loop {
            match flow::device_token(&self.settings, &self.http, code).await {
                // RFC 8628 §3.5: a temporary error does not end the wait.
                Err(error) if error.is_transient() && self.clock.now() < until => {
                    self.clock.sleep(CODE_PAUSE).await;
                }
                answered => break answered?,
            }
        };
        self.sign_in(granted, TokenOrigin::Device, who).await
    }

    async fn sign_in(
        &self,
        granted: Granted,
        origin: TokenOrigin,
        who: SignInPurpose<'_>,
    ) -> Result<SignedIn, SignInError> {
        let tokens = granted.id_token.iter().chain([&granted.access]);
        let user = tokens
            .map(|token| token.as_str())
            .find_map(|token| Some(Claims::of(token)?.user()?.to_owned()));
        let expected = self.settings.user.as_deref();
        if let (false, Some(user), Some(expected)) = (who.anybody, &user, expected)
            && !user.eq_ignore_ascii_case(expected)
        {
            return Err(SignInError::OtherAccount {
                user: user.clone(),
                expected: expected.to_owned(),
                server: who.server.to_owned(),
            });
        }
        if granted.refresh.is_none() {
            let oauth = self.settings.oauth.clone();
            return Err(SignInError::NoRefreshToken { oauth });
        }
        self.reload().await?;
        let mut account = self.account().await?;
        let mut next = account.clone();
        let added = self.settings.scopes.added();
        let grants = grants(
            granted,
            added.map_or(Reading::NotRequested, Reading::Granted),
        );
        next.signed_in(user.clone(), origin, grants, self.clock.now());
        self.keep(&next).await?;
        self.publish(&next);
        *account = next;
        drop(account);
        self.remember(None);
        Ok(SignedIn { user })
    }
}
