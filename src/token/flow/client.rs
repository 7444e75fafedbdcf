//! The oauth2 crate's client with our types, and how its requests are performed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use oauth2::basic::{
    BasicRevocationErrorResponse, BasicTokenIntrospectionResponse, BasicTokenType,
};
use oauth2::{
    AccessToken, AuthType, ClientId, EndpointNotSet, EndpointSet, HttpRequest, HttpResponse,
    RefreshToken, Scope, StandardRevocableToken, TokenResponse, TokenUrl,
};
use reqwest::header::{DATE, RETRY_AFTER};
use serde::{Deserialize, Deserializer, Serialize};
use url::Url;

use super::skew;
use crate::base::{Timestamp, http};
use crate::token::error::ProviderRefusal;

/// The longest pause that we accept: mail is waiting, and the next refusal can request another pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

pub(super) type TokenClient = oauth2::Client<
    ProviderRefusal,
    Success,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

pub(super) fn new(client_id: &str, token_url: &Url) -> TokenClient {
    oauth2::Client::new(ClientId::new(client_id.to_owned()))
        .set_token_uri(TokenUrl::from_url(token_url.clone()))
        .set_auth_type(AuthType::RequestBody)
}

/// Facts about a response that the crate's errors do not carry.
#[derive(Debug, Clone, Default)]
pub(super) struct ResponseFacts(Arc<(AtomicU16, AtomicU64)>);

impl ResponseFacts {
    /// Returns the HTTP status; 0 if there was no response.
    pub(super) fn status(&self) -> u16 {
        self.0.0.load(Ordering::Relaxed)
    }

    /// Returns the pause in the `Retry-After` header.
    pub(super) fn pause(&self) -> Option<Duration> {
        let seconds = self.0.1.load(Ordering::Relaxed);
        (seconds > 0).then(|| Duration::from_secs(seconds))
    }
}

/// Performs a request of the oauth2 crate.
pub(super) async fn perform(
    client: reqwest::Client,
    request: HttpRequest,
    seen: ResponseFacts,
) -> Result<HttpResponse, reqwest::Error> {
    let response = http::send(client, request).await?;
    let now = Timestamp::now();
    let header = |name| response.headers().get(name)?.to_str().ok();
    if let Some(date) = header(DATE).and_then(Timestamp::of_http) {
        skew::note(date, now);
    }
    let pause = header(RETRY_AFTER).and_then(|value| pause_of(value.trim(), now));
    seen.0
        .0
        .store(response.status().as_u16(), Ordering::Relaxed);
    let pause = pause.map_or(0, |pause| pause.as_secs());
    seen.0.1.store(pause, Ordering::Relaxed);
    Ok(response)
}

/// Reads the pause in a `Retry-After` header (RFC 9110 §10.2.3): seconds, or a date.
fn pause_of(text: &str, now: Timestamp) -> Option<Duration> {
    let pause = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => Timestamp::of_http(text)?.since(now),
    };
    Some(pause.min(LONGEST_PAUSE))
}

/// The success response of RFC 6749 §5.1. Entra sometimes writes `expires_in` as a string.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Success {
    pub(super) access_token: AccessToken,
    token_type: BasicTokenType,
    #[serde(default, deserialize_with = "seconds")]
    pub(super) expires_in: Option<u64>,
    #[serde(default)]
    pub(super) refresh_token: Option<RefreshToken>,
    #[serde(default)]
    pub(super) id_token: Option<AccessToken>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_read_in_both_forms_and_has_an_end() {
        let now = Timestamp(1_763_800_000_000);
        let pause = |text| pause_of(text, now).map(|pause| pause.as_secs());
        assert_eq!(pause("120"), Some(120));
        assert_eq!(pause("Sat, 22 Nov 2025 08:28:40 GMT"), Some(120));
        assert_eq!(pause("Sat, 22 Nov 2025 08:00:00 GMT"), Some(0));
        assert_eq!(pause("99999999999"), Some(3_600));
        assert_eq!(pause("soon"), None);
    }

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
