//! One request to a token endpoint (RFC 6749 §4.4 and §6). oauth2 lives here only.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use oauth2::basic::BasicTokenType;
use oauth2::{
    AccessToken, AuthType, ClientId, ClientSecret, ErrorResponse, HttpRequest, HttpResponse,
    RefreshToken, RequestTokenError, Scope, TokenResponse, TokenUrl,
};
use serde::{Deserialize, Deserializer, Serialize};
use zeroize::Zeroizing;

use super::source::Settings;
use crate::base::secret::ExposeSecret;

/// A token endpoint's answer may not be larger (octets).
const ANSWER: usize = 256 * 1024;

/// How a server gets its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grant {
    /// The app's own (RFC 6749 §4.4): one token for all mailboxes that the app may send as.
    ClientCredentials,
    /// A user's, by a refresh token (RFC 6749 §6).
    RefreshToken,
}

/// What a token endpoint granted.
pub struct Granted {
    /// The access token.
    pub access: Zeroizing<String>,
    /// The refresh token, where one came: it takes the place of the one that was used.
    pub refresh: Option<Zeroizing<String>>,
    /// How long the access token lives, where it is said.
    pub expires_in: Option<Duration>,
}

/// Why there is no token. The texts hold no secret: bodies that could not be read are not kept.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TokenError {
    /// The endpoint was not reached, or did not answer in time.
    #[error("{url} was not reached: {reason}; check the network, DNS and `token_url`")]
    Unreachable {
        /// The endpoint.
        url: String,
        /// What happened.
        reason: String,
    },
    /// It answered, but not as a token endpoint does: an outage, or something in between.
    #[error(
        "{url} answered HTTP {status} without a token response, as in an outage or behind a captive portal; trying again later"
    )]
    Outage {
        /// The endpoint.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// It is busy or down, in its own words.
    #[error("{url} asks to try later: {error}")]
    Busy {
        /// The endpoint.
        url: String,
        /// The error.
        error: String,
    },
    /// It refused the client or the request.
    #[error(
        "the token endpoint refused: {error}; check client_id, client_secret, tenant and scopes of [oauth.{oauth}]"
    )]
    Refused {
        /// The error and its description.
        error: String,
        /// The name of the app registration in the configuration.
        oauth: String,
    },
    /// It refused the refresh token.
    #[error(
        "the refresh token was refused: {error}; sign in again and configure the new `refresh_token`"
    )]
    SignIn {
        /// The error and its description.
        error: String,
    },
    /// The grant needs a refresh token and there is none.
    #[error("server {server} has no refresh token; set its `refresh_token`")]
    NoRefreshToken {
        /// The server.
        server: String,
    },
    /// The vault could not keep it, so it is not used.
    #[error("the token could not be kept: {0}")]
    Vault(String),
}

impl TokenError {
    /// Whether it passes by itself.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Outage { .. } | Self::Busy { .. } | Self::Vault(_)
        )
    }
}

/// Entra's numbers (AADSTS) for errors that pass by themselves (`exchange-online.md`, "Tokens").
const TRANSIENT: [u32; 9] = [
    50033, 90006, 90012, 90024, 90033, 90090, 70012, 50196, 90055,
];

/// The error response of RFC 6749 §5.2, with what Entra adds.
#[derive(Debug, Serialize, Deserialize)]
struct Refusal {
    error: String,
    #[serde(default)]
    error_description: Option<String>,
    #[serde(default)]
    error_codes: Vec<u32>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.error)?;
        match self
            .error_description
            .as_deref()
            .and_then(|text| text.lines().next())
        {
            Some(line) => write!(f, " ({})", line.chars().take(300).collect::<String>()),
            None => Ok(()),
        }
    }
}

impl ErrorResponse for Refusal {}

/// The success response of RFC 6749 §5.1. Entra writes `expires_in` as a string at times.
#[derive(Debug, Serialize, Deserialize)]
struct Success {
    access_token: AccessToken,
    token_type: BasicTokenType,
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<u64>,
    #[serde(default)]
    refresh_token: Option<RefreshToken>,
}

impl TokenResponse for Success {
    type TokenType = BasicTokenType;

    fn access_token(&self) -> &AccessToken {
        &self.access_token
    }

    fn token_type(&self) -> &BasicTokenType {
        &self.token_type
    }

    fn expires_in(&self) -> Option<Duration> {
        self.expires_in.map(Duration::from_secs)
    }

    fn refresh_token(&self) -> Option<&RefreshToken> {
        self.refresh_token.as_ref()
    }

    fn scopes(&self) -> Option<&Vec<Scope>> {
        None
    }
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(f64),
        Text(String),
    }
    Ok(match Option::<Either>::deserialize(deserializer)? {
        Some(Either::Number(number)) if number >= 0.0 => Some(number as u64),
        Some(Either::Text(text)) => text.trim().parse().ok(),
        _ => None,
    })
}

type Client = oauth2::Client<
    Refusal,
    Success,
    oauth2::basic::BasicTokenIntrospectionResponse,
    oauth2::StandardRevocableToken,
    oauth2::basic::BasicRevocationErrorResponse,
    oauth2::EndpointNotSet,
    oauth2::EndpointNotSet,
    oauth2::EndpointNotSet,
    oauth2::EndpointNotSet,
    oauth2::EndpointSet,
>;

/// Asks for a token; `refresh` is the refresh token to use, for a grant that needs one.
pub async fn request(
    settings: &Settings,
    http: &reqwest::Client,
    refresh: Option<&str>,
) -> Result<Granted, TokenError> {
    let client = client(settings);
    let status = Arc::new(AtomicU16::default());
    let call = |request| perform(http.clone(), request, status.clone());
    let scopes = settings.scopes.iter().cloned().map(Scope::new);
    let answer = match refresh {
        None => {
            client
                .exchange_client_credentials()
                .add_scopes(scopes)
                .request_async(&call)
                .await
        }
        Some(token) => {
            let token = RefreshToken::new(token.to_owned());
            client
                .exchange_refresh_token(&token)
                .add_scopes(scopes)
                .request_async(&call)
                .await
        }
    };
    let status = status.load(Ordering::Relaxed);
    match answer {
        Ok(success) => Ok(Granted {
            access: Zeroizing::new(success.access_token.into_secret()),
            refresh: success
                .refresh_token
                .map(|token| Zeroizing::new(token.into_secret())),
            expires_in: success.expires_in.map(Duration::from_secs),
        }),
        Err(error) => Err(classified(settings, error, status, refresh.is_some())),
    }
}

fn client(settings: &Settings) -> Client {
    let url = TokenUrl::from_url(settings.token_url.clone());
    let client = oauth2::Client::new(ClientId::new(settings.client_id.clone()))
        .set_token_uri(url)
        .set_auth_type(AuthType::RequestBody);
    match &settings.client_secret {
        Some(secret) => {
            client.set_client_secret(ClientSecret::new(secret.expose_secret().to_owned()))
        }
        None => client,
    }
}

/// Performs the crate's request, and keeps the status that its errors do not carry.
async fn perform(
    http: reqwest::Client,
    request: HttpRequest,
    status: Arc<AtomicU16>,
) -> Result<HttpResponse, reqwest::Error> {
    let mut response = http.execute(request.try_into()?).await?;
    status.store(response.status().as_u16(), Ordering::Relaxed);
    let mut answer = HttpResponse::new(Vec::new());
    *answer.status_mut() = response.status();
    *answer.headers_mut() = response.headers().clone();
    while let Some(piece) = response.chunk().await? {
        answer.body_mut().extend_from_slice(&piece);
        if answer.body().len() > ANSWER {
            break;
        }
    }
    Ok(answer)
}

fn classified(
    settings: &Settings,
    error: RequestTokenError<reqwest::Error, Refusal>,
    status: u16,
    by_refresh_token: bool,
) -> TokenError {
    let url = settings.token_url.to_string();
    let refusal = match error {
        RequestTokenError::ServerResponse(refusal) => refusal,
        RequestTokenError::Request(error) => {
            return TokenError::Unreachable {
                url,
                reason: root_cause(&error.without_url()),
            };
        }
        // The raw body may hold a token: neither it nor the parser's words about it are kept.
        RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
            return TokenError::Outage { url, status };
        }
    };
    let is_busy = status == 429
        || status >= 500
        || matches!(
            refusal.error.as_str(),
            "temporarily_unavailable" | "server_error"
        )
        || refusal
            .error_codes
            .iter()
            .any(|code| TRANSIENT.contains(code));
    let error = refusal.to_string();
    match refusal.error.as_str() {
        _ if is_busy => TokenError::Busy { url, error },
        "invalid_grant" | "interaction_required" if by_refresh_token => {
            TokenError::SignIn { error }
        }
        _ => TokenError::Refused {
            error,
            oauth: settings.oauth.clone(),
        },
    }
}

/// reqwest's own words stop at "error sending request"; the cause is what helps.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_life_of_a_token_is_read_in_every_form() {
        let life = |text: &str| {
            let body = format!(r#"{{"access_token":"a","token_type":"Bearer"{text}}}"#);
            serde_json::from_str::<Success>(&body).unwrap().expires_in
        };
        assert_eq!(life(r#","expires_in":3599"#), Some(3599));
        assert_eq!(life(r#","expires_in":"3599""#), Some(3599));
        assert_eq!(life(r#","expires_in":null"#), None);
        assert_eq!(life(""), None);
    }
}
