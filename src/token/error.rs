//! The reasons why there is no token, classified by who can fix the problem, each with a remedy in words.
//!
//! The response's `error` decides first, and Entra's AADSTS number refines the decision
//! (`token/entra.md`, Errors).

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The reason why there is no token. The messages contain no secret: a response body that cannot be parsed
/// is not kept.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TokenError {
    /// The endpoint was not reached, or did not respond in time.
    #[error("{url} was not reached: {reason}; {}", unreachable_remedy(.reason))]
    Unreachable {
        /// The endpoint.
        url: String,
        /// The cause.
        reason: String,
    },
    /// The endpoint responded, but not like a token endpoint: an outage, or a proxy or portal in between.
    #[error("{url} answered HTTP {status} without a token response, {}", outage_remedy(*.status))]
    Outage {
        /// The endpoint.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The pause that the endpoint requests.
        pause: Option<Duration>,
    },
    /// The endpoint is busy or down, according to its own response.
    #[error("{url} asks to try later: {refusal}")]
    Busy {
        /// The endpoint.
        url: String,
        /// The provider's error response.
        refusal: Box<ProviderRefusal>,
        /// The pause that the endpoint requests.
        pause: Option<Duration>,
    },
    /// The provider refused the client secret as wrong or expired.
    #[error("the provider refused the client secret of [oauth.{oauth}]: {refusal}; {}; then reload (SIGHUP)", .refusal.remedy())]
    Secret {
        /// The app registration's name in the configuration.
        oauth: String,
        /// The provider's error response.
        refusal: Box<ProviderRefusal>,
    },
    /// The provider refused the app, or the app's request; the administrator must fix this.
    #[error("the provider refused [oauth.{oauth}]: {refusal}; {}", .refusal.remedy())]
    Refused {
        /// The app registration's name in the configuration.
        oauth: String,
        /// The provider's error response.
        refusal: Box<ProviderRefusal>,
    },
    /// Somebody has to sign in again.
    #[error(
        "the sign-in of {account} is no longer valid: {refusal}; run `mailferry connect {account}`"
    )]
    SignIn {
        /// The server.
        account: String,
        /// The provider's error response.
        refusal: Box<ProviderRefusal>,
    },
    /// Nobody has signed in yet.
    #[error(
        "nobody has signed in for {account}; run `mailferry connect {account}` (for grant refresh_token: give the server a new `refresh_token`)"
    )]
    NotConnected {
        /// The server.
        account: String,
    },
    /// The sign-in is for sending only.
    #[error(
        "the sign-in of {account} is for sending only: run `mailferry connect {account}` to sign in again, which adds reading (for \
         grant refresh_token: give the server a new `refresh_token` with the scopes for reading)"
    )]
    NotForReading {
        /// The server.
        account: String,
    },
    /// The app's credential cannot be used.
    #[error("{reason}")]
    Credential {
        /// The problem and its remedy.
        reason: String,
    },
    /// The vault could not store the token, so it is not used.
    #[error("token vault: {0}")]
    Vault(String),
}

impl TokenError {
    /// True if the error passes by itself.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Outage { .. } | Self::Busy { .. } | Self::Vault(_)
        )
    }

    /// Returns the error with this endpoint as its URL, if the error has a URL.
    pub(super) fn at(mut self, endpoint: &str) -> Self {
        if let Self::Unreachable { url, .. } | Self::Outage { url, .. } | Self::Busy { url, .. } =
            &mut self
        {
            *url = endpoint.to_owned();
        }
        self
    }

    /// Returns the pause that the provider requests (Retry-After), or `LONG` after an error in `LONG_PAUSE`.
    pub fn pause(&self) -> Option<Duration> {
        match self {
            Self::Outage { pause, .. } => *pause,
            Self::Busy { pause, refusal, .. } => {
                let long = refusal.has(&LONG_PAUSE).then_some(LONG);
                pause.or(long)
            }
            _ => None,
        }
    }
}

/// Returns the remedy for a failure to connect, chosen by the text of the reason.
fn unreachable_remedy(reason: &str) -> &'static str {
    match reason {
        _ if reason.contains("UnknownIssuer") => {
            "the certificate is signed by an authority that this machine does not know; if a firewall inspects TLS, put its CA certificate (PEM) into the `ca` of the [oauth] table"
        }
        _ if reason.contains("certificate") => {
            "check the name in the URL, and this machine's clock"
        }
        _ => "check the network, DNS and the URL",
    }
}

fn outage_remedy(status: u16) -> &'static str {
    match status {
        300..=399 | 403..=405 => {
            "so this is not a token endpoint, or a proxy is in front of it: check `tenant` and the URLs of the [oauth] table"
        }
        _ => "as in an outage or behind a captive portal",
    }
}

/// AADSTS numbers of errors that pass by themselves.
const TRANSIENT: [u32; 9] = [
    50033, 90006, 90012, 90024, 90033, 90090, 70012, 50196, 90055,
];

/// The numbers in `TRANSIENT` that mean "too many requests": another request soon after makes it worse.
const LONG_PAUSE: [u32; 2] = [50196, 90055];

/// The pause after an error in `LONG_PAUSE`.
const LONG: Duration = Duration::from_secs(300);

/// Numbers of errors that a new sign-in fixes.
const SIGN_IN: [u32; 17] = [
    70000, 70008, 700082, 700084, 50173, 50132, 50133, 50089, 70043, 50072, 50074, 50076, 50078,
    50079, 65001, 65004, 54005,
];

/// Numbers that mean a wrong or expired client secret.
const SECRET: [u32; 2] = [7000215, 7000222];

/// Numbers of errors that only an administrator can fix, although `error` may say `invalid_grant`.
const ADMINISTRATOR: [u32; 26] = [
    700024, 700027, 50012, 700016, 90002, 50034, 50020, 53000, 53003, 530032, 530035, 50057, 50105,
    90094, 90095, 7000112, 7000218, 700025, 50011, 50194, 9001023, 650057, 70011, 7000215, 7000222,
    500011,
];

/// The error response of RFC 6749 §5.2, with the fields that Entra adds so that the error can be found in
/// its logs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ProviderRefusal {
    /// The error code.
    pub error: String,
    /// The error description.
    #[serde(default)]
    pub error_description: Option<String>,
    /// The AADSTS numbers.
    #[serde(default)]
    pub error_codes: Vec<u32>,
    /// The id of the error in Entra's sign-in log.
    #[serde(default)]
    pub correlation_id: Option<String>,
    /// The time of the error, by the provider's clock.
    #[serde(default)]
    pub timestamp: Option<String>,
}

impl oauth2::ErrorResponse for ProviderRefusal {}

/// The action that a refusal requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Wait and try again.
    Later,
    /// Configure another client secret.
    Secret,
    /// Sign in again.
    SignIn,
    /// An administrator must act.
    Administrator,
}

impl ProviderRefusal {
    /// Returns the action that the refusal requires; `status` is the HTTP status of the response, and
    /// `by_user` is true if a user's grant was refused.
    pub fn class(&self, status: u16, by_user: bool) -> Class {
        let says_later = matches!(
            self.error.as_str(),
            "temporarily_unavailable" | "server_error"
        );
        match self.error.as_str() {
            _ if status == 429 || status >= 500 || says_later || self.has(&TRANSIENT) => {
                Class::Later
            }
            _ if self.has(&SECRET) => Class::Secret,
            _ if self.has(&ADMINISTRATOR) => Class::Administrator,
            _ if by_user && self.has(&SIGN_IN) => Class::SignIn,
            "invalid_grant" | "interaction_required" | "login_required" | "consent_required"
                if by_user =>
            {
                Class::SignIn
            }
            "invalid_client" if self.error_codes.is_empty() => Class::Secret,
            _ => Class::Administrator,
        }
    }

    fn has(&self, numbers: &[u32]) -> bool {
        self.error_codes.iter().any(|code| numbers.contains(code))
    }

    /// Returns the steps that an administrator can take.
    pub fn remedy(&self) -> &'static str {
        let by_number = self.error_codes.iter().find_map(|code| remedy(*code));
        by_number
            .unwrap_or("check client_id, client_secret, tenant and scopes of the app registration")
    }
}

/// Returns the remedy for a common AADSTS number, in the portal's words.
fn remedy(number: u32) -> Option<&'static str> {
    Some(match number {
        7000215 => {
            "it is wrong: configure the secret's Value, not its Secret ID (Entra admin center, App registrations, Certificates & secrets)"
        }
        7000222 => {
            "it has expired: make a new one (Entra admin center, App registrations, Certificates & secrets) and configure its Value"
        }
        700027 | 50012 => {
            "the assertion's certificate or key is not the one that is registered: upload the certificate (App registrations, Certificates & secrets, Certificates)"
        }
        700024 => {
            "this machine's clock and the provider's differ by minutes: set this machine's clock by NTP (`timedatectl set-ntp true`)"
        }
        700016 => {
            "client_id is not known in this tenant: compare it with Application (client) ID, and tenant with Directory (tenant) ID"
        }
        90002 => "the tenant does not exist: compare it with Directory (tenant) ID",
        50034 | 50020 => {
            "the user is not in this tenant: sign in with an account of the tenant, or use the tenant of the account"
        }
        53000 | 53003 | 530032 | 530035 => {
            "a Conditional Access policy blocks access: exclude the app or this machine's address from the policy"
        }
        50057 => "the account is disabled: enable it, or connect with another account",
        50105 => {
            "the user is not assigned to the app: assign the user (Enterprise applications, Users and groups), or set `Assignment required` to No (Properties)"
        }
        90094 | 90095 => {
            "an administrator has to consent: grant admin consent (App registrations, API permissions)"
        }
        7000112 => {
            "the app is disabled in this tenant: enable it (Enterprise applications, Properties)"
        }
        7000218 => {
            "the app is registered as confidential and no secret was sent: configure client_secret, or allow public client flows (Authentication)"
        }
        700025 => {
            "the app is registered as public and a secret was sent: remove client_secret, or disallow public client flows (Authentication)"
        }
        50011 => {
            "the redirect URI of this request is not registered: add exactly that URI (App registrations, Authentication)"
        }
        50194 | 9001023 => {
            "the app belongs to one tenant only: set tenant to Directory (tenant) ID instead of common, organizations or consumers"
        }
        650057 | 70011 | 500011 => {
            "the app has no permission for these scopes: add SMTP.Send, or SMTP.SendAsApp for client_credentials (App registrations, API permissions)"
        }
        _ => return None,
    })
}

/// Formats the refusal in one line: the error code, the first line of the description, and the details that
/// help to find the error in the provider's log.
impl std::fmt::Display for ProviderRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let short = |text: &str, most| text.chars().take(most).collect::<String>();
        f.write_str(&short(&self.error, 100))?;
        let words = self
            .error_description
            .as_deref()
            .and_then(|text| text.lines().next());
        let words = words.map(|line| line.split(" Trace ID:").next().unwrap_or(line));
        let mut parts: Vec<String> = words.map(|line| short(line, 300)).into_iter().collect();
        parts.extend(
            self.correlation_id
                .as_deref()
                .map(|id| format!("correlation id {}", short(id, 60))),
        );
        parts.extend(self.timestamp.as_deref().map(|at| short(at, 40)));
        if parts.is_empty() {
            Ok(())
        } else {
            write!(f, " ({})", parts.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(error: &str, code: u32) -> ProviderRefusal {
        ProviderRefusal {
            error: error.into(),
            error_codes: if code == 0 { vec![] } else { vec![code] },
            ..ProviderRefusal::default()
        }
    }

    #[test]
    fn the_number_refines_the_error() {
        let cases = [
            ("invalid_grant", 70000, 400, Class::SignIn),
            ("invalid_grant", 700082, 400, Class::SignIn),
            ("invalid_grant", 53003, 400, Class::Administrator),
            ("invalid_grant", 50196, 400, Class::Later),
            ("invalid_grant", 0, 400, Class::SignIn),
            ("interaction_required", 50076, 400, Class::SignIn),
            ("invalid_client", 7000215, 401, Class::Secret),
            ("invalid_client", 7000222, 401, Class::Secret),
            ("invalid_client", 700027, 401, Class::Administrator),
            ("invalid_client", 0, 401, Class::Secret),
            ("unauthorized_client", 700016, 400, Class::Administrator),
            ("temporarily_unavailable", 0, 400, Class::Later),
            ("invalid_request", 90014, 503, Class::Later),
            ("invalid_request", 0, 429, Class::Later),
            ("invalid_scope", 70011, 400, Class::Administrator),
        ];
        for (error, code, status, class) in cases {
            assert_eq!(
                refusal(error, code).class(status, true),
                class,
                "{error} {code} {status}"
            );
        }
        assert_eq!(
            refusal("invalid_grant", 0).class(400, false),
            Class::Administrator
        );
    }

    #[test]
    fn a_refusal_is_told_with_what_finds_it_in_the_log() {
        let refusal = ProviderRefusal {
            error_description: Some(
                "AADSTS7000222: The provided client secret keys are expired. Trace ID: x\r\nmore"
                    .into(),
            ),
            correlation_id: Some("c-1".into()),
            timestamp: Some("2026-11-22 08:00:00Z".into()),
            ..refusal("invalid_client", 7000222)
        };
        assert_eq!(
            refusal.to_string(),
            "invalid_client (AADSTS7000222: The provided client secret keys are expired., correlation id c-1, 2026-11-22 08:00:00Z)"
        );
        assert!(refusal.remedy().contains("expired"));
    }
}
