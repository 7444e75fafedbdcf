//! The state of a server for people to see, without secrets: its tokens, and whether it is held.

use serde::{Deserialize, Serialize};

use crate::base::Timestamp;
use crate::token::{Grant, Source, TokenOrigin, sources};

/// The state of a server's tokens for people to see, without secrets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TokenRow {
    /// The server.
    pub server: String,
    /// The name of the server's app registration in the configuration.
    pub oauth: Option<String>,
    /// The grant that gets the server's tokens, or `None` if the server needs none.
    pub grant: Option<Grant>,
    /// The user who signed in.
    pub user: Option<String>,
    /// The origin of the refresh token.
    pub origin: Option<TokenOrigin>,
    /// The time of the last rotation of the refresh token.
    pub rotated: Option<Timestamp>,
    /// The time at which the access token expires.
    pub expires: Option<Timestamp>,
    /// The time at which the client secret or certificate expires.
    pub credential_expires: Option<Timestamp>,
    /// True if there ever was an access token.
    pub has_worked: bool,
    /// The reason why no new token could be obtained, with the remedy.
    pub trouble: Option<String>,
    /// True if the trouble lasts until a person fixes something.
    #[serde(default)]
    pub needs_person: bool,
    /// True if the sign-in is for sending only, although the server is for reading too.
    #[serde(default)]
    pub lacks_reading: bool,
    /// The reason why the server is held; `None` if it is not held, or if that is unknown.
    pub held: Option<String>,
}

/// The state at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Light {
    /// All is well.
    Green,
    /// The server works, or will work when it is needed, but somebody should look at it.
    Amber,
    /// Nothing can be sent.
    Red,
}

impl Light {
    /// Returns the colour's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Green => "green",
            Self::Amber => "amber",
            Self::Red => "red",
        }
    }
}

impl TokenRow {
    /// Returns the state of a server that gets its tokens from `source`, if it needs tokens.
    pub async fn of(server: &str, source: Option<&Source>) -> Self {
        let mut row = Self {
            server: server.to_owned(),
            oauth: source.map(|source| source.settings().oauth.clone()),
            grant: source.map(|source| source.settings().grant),
            user: None,
            origin: None,
            rotated: None,
            expires: None,
            credential_expires: source.and_then(|source| source.settings().credential.expires()),
            has_worked: false,
            trouble: None,
            needs_person: false,
            lacks_reading: false,
            held: None,
        };
        let Some(source) = source else {
            return row;
        };
        match source.status().await {
            Ok(status) => {
                row.user = status.user;
                row.origin = status.origin;
                row.rotated = status.rotated;
                row.expires = status.expires;
                row.has_worked = status.has_worked;
                row.trouble = status.trouble;
                row.needs_person = status.needs_person;
                row.lacks_reading = status.lacks_reading;
            }
            Err(error) => row.trouble = Some(error.to_string()),
        }
        row
    }

    /// True if a token is needed, but is not available until a person fixes something.
    pub fn lacks_token(&self, now: Timestamp) -> bool {
        let light = self.token_glance(now).0;
        self.grant.is_some() && (self.needs_person || light == Light::Red)
    }

    /// True if nobody has signed in yet, or if somebody must sign in again.
    pub fn needs_sign_in(&self, now: Timestamp) -> bool {
        self.grant.is_some_and(Grant::is_by_user) && self.lacks_token(now)
    }

    /// Returns the reason why the server is held, or else the reason why no new token could be obtained.
    pub fn reason(&self) -> Option<&str> {
        self.held.as_deref().or(self.trouble.as_deref())
    }

    /// Returns a notice if the client secret or certificate has expired or expires soon.
    fn credential_end(&self, now: Timestamp) -> Option<&'static str> {
        let ends = self.credential_expires?;
        match ends {
            _ if ends <= now => {
                Some("the app's secret or certificate has expired, according to its date")
            }
            _ if ends < now.after(sources::FIRST_NOTICE) => {
                Some("the app's secret or certificate expires soon")
            }
            _ => None,
        }
    }

    /// Returns the state as a light and in words.
    pub fn glance(&self, now: Timestamp) -> (Light, String) {
        let (light, words) = self.token_glance(now);
        if self.held.is_some() {
            return (Light::Red, format!("{words}; the server is held"));
        }
        let notice = match self.lacks_reading {
            true => Some("for sending only: sign in again to add reading"),
            false => self.credential_end(now),
        };
        match notice {
            Some(notice) if light != Light::Red => (Light::Amber, format!("{words}; {notice}")),
            _ => (light, words),
        }
    }

    fn token_glance(&self, now: Timestamp) -> (Light, String) {
        let valid = self.expires.filter(|expires| now < *expires);
        let words = match (self.grant, valid, &self.trouble) {
            (None, ..) => "no token needed".to_owned(),
            (_, Some(until), None) => format!("token valid until {until}"),
            (_, Some(until), Some(_)) => {
                let words = format!("token valid until {until}, but it cannot be renewed");
                return (Light::Amber, words);
            }
            (_, None, Some(_)) => return (Light::Red, "no token".into()),
            (Some(grant), None, None) if grant.is_by_user() && self.origin.is_none() => {
                return (Light::Red, "nobody has signed in".into());
            }
            (_, None, None) if self.has_worked => {
                "no valid token now: the next message, or `mailferry test`, gets one".into()
            }
            (_, None, None) => {
                let words = "not tried yet: the first message, or `mailferry test`, gets a token";
                return (Light::Amber, words.into());
            }
        };
        (Light::Green, words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3_600_000;

    fn row(grant: Option<Grant>) -> TokenRow {
        TokenRow {
            server: "s".into(),
            oauth: None,
            grant,
            user: None,
            origin: None,
            rotated: None,
            expires: Some(Timestamp(DAY)),
            credential_expires: None,
            has_worked: true,
            trouble: None,
            needs_person: false,
            lacks_reading: false,
            held: None,
        }
    }

    #[test]
    fn a_glance_tells_what_needs_a_person() {
        let app = row(Some(Grant::ClientCredentials));
        let light = |row: &TokenRow, now| row.glance(Timestamp(now)).0;
        assert_eq!(light(&row(None), 0), Light::Green);
        assert_eq!(light(&app, 0), Light::Green);
        assert_eq!(light(&app, DAY), Light::Green);
        let untried = TokenRow {
            has_worked: false,
            ..app.clone()
        };
        assert_eq!(light(&untried, DAY), Light::Amber);
        let held = TokenRow {
            held: Some("535 5.7.139".into()),
            ..app.clone()
        };
        assert_eq!(light(&held, 0), Light::Red);
        assert_eq!(light(&row(Some(Grant::DeviceCode)), DAY), Light::Red);
        assert!(!held.lacks_token(Timestamp(0)), "its token is good");
        assert!(row(Some(Grant::DeviceCode)).lacks_token(Timestamp(DAY)));
        let revoked = TokenRow {
            needs_person: true,
            ..app.clone()
        };
        assert!(
            revoked.lacks_token(Timestamp(0)),
            "only the old one is left"
        );
        let trouble = Some("refused".to_owned());
        let failing = TokenRow {
            trouble,
            ..app.clone()
        };
        assert_eq!(
            [light(&failing, 0), light(&failing, DAY)],
            [Light::Amber, Light::Red]
        );
        let ending = |days| TokenRow {
            credential_expires: Some(Timestamp(days * DAY)),
            ..app.clone()
        };
        assert_eq!(
            [light(&ending(29), 0), light(&ending(31), 0)],
            [Light::Amber, Light::Green]
        );
    }
}
