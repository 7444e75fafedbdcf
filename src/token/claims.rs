//! The claims in a token. Pure.
//!
//! The claims are shown to people, and a sign-in compares the user in them with the expected account. The
//! signature is not checked: that is not needed for a token that came directly from the token endpoint over
//! TLS (OpenID Connect Core §3.1.3.7).

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::base::Timestamp;

/// The claims of a JWT that help with troubleshooting.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Claims {
    /// The service that the token is for; for mail it must be Outlook's host.
    #[serde(rename = "aud")]
    pub audience: Option<String>,
    /// The permissions of a user's token.
    #[serde(rename = "scp")]
    pub scopes: Option<String>,
    /// The permissions of an app's token.
    pub roles: Vec<String>,
    /// The tenant.
    #[serde(rename = "tid")]
    pub tenant: Option<String>,
    /// The app's id.
    #[serde(rename = "appid")]
    pub app: Option<String>,
    /// The object id of the user or app that received the token; for an app, the id of its
    /// enterprise application.
    #[serde(rename = "oid")]
    pub object: Option<String>,
    #[serde(rename = "exp")]
    expires: Option<i64>,
    upn: Option<String>,
    preferred_username: Option<String>,
    unique_name: Option<String>,
    email: Option<String>,
}

impl Claims {
    /// Reads the claims of a token. Returns `None` if the token is opaque.
    pub fn of(token: &str) -> Option<Self> {
        let payload = token.split('.').nth(1)?.trim_end_matches('=');
        let payload = BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?;
        serde_json::from_slice(&payload).ok()
    }

    /// Returns the user who signed in.
    pub fn user(&self) -> Option<&str> {
        let names = [
            &self.upn,
            &self.preferred_username,
            &self.unique_name,
            &self.email,
        ];
        let mut names = names.into_iter().flatten();
        names.find(|name| name.contains('@')).map(String::as_str)
    }

    /// Returns the time at which the token expires.
    pub fn expires(&self) -> Option<Timestamp> {
        self.expires
            .map(|seconds| Timestamp(seconds.saturating_mul(1_000)))
    }
}

/// Formats the claims in one line, without those that are absent.
impl std::fmt::Display for Claims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let roles = (!self.roles.is_empty()).then(|| self.roles.join(" "));
        let expires = self.expires().map(|at| at.to_string());
        let parts = [
            ("audience", self.audience.as_deref()),
            ("scopes", self.scopes.as_deref()),
            ("roles", roles.as_deref()),
            ("tenant", self.tenant.as_deref()),
            ("app", self.app.as_deref()),
            ("user", self.user()),
            ("until", expires.as_deref()),
        ];
        let said = parts
            .iter()
            .filter_map(|(name, value)| Some(format!("{name} {}", (*value)?)));
        f.write_str(&said.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(text: &str) -> Option<Claims> {
        Claims::of(&format!("h.{}.s", BASE64_URL_SAFE_NO_PAD.encode(text)))
    }

    #[test]
    fn tells_who_signed_in() {
        let user = |text: &str| claims(text).unwrap().user().map(str::to_owned);
        assert_eq!(
            user(r#"{"upn":"a@b.c","email":"x@y.z"}"#).as_deref(),
            Some("a@b.c")
        );
        assert_eq!(
            user(r#"{"preferred_username":"4711","email":"x@y.z"}"#).as_deref(),
            Some("x@y.z")
        );
        assert_eq!(user(r#"{"sub":"1"}"#), None);
        assert_eq!(Claims::of("opaque"), None);
    }

    #[test]
    fn is_told_in_a_line() {
        let text = r#"{"aud":"https://outlook.office365.com","roles":["SMTP.SendAsApp"],"tid":"t","exp":1763800000}"#;
        assert_eq!(
            claims(text).unwrap().to_string(),
            "audience https://outlook.office365.com, roles SMTP.SendAsApp, tenant t, until 2025-11-22T08:26:40Z"
        );
    }
}
