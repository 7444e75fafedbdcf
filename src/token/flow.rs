//! Requests to the token endpoint (RFC 6749 §4 and §6, RFC 7636, RFC 8628). The oauth2 crate is used only
//! here.

mod client;
mod skew;

use std::borrow::Cow;
use std::time::Duration;

use oauth2::{
    AuthorizationCode, CsrfToken, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RefreshToken,
    RequestTokenError, Scope, StandardDeviceAuthorizationResponse,
};
use url::Url;
use zeroize::Zeroizing;

use super::credential::{ASSERTION_TYPE, Proof};
use super::error::{Class, ProviderRefusal, TokenError};
use super::settings::AccountSettings;
use crate::base::Timestamp;
use crate::base::secret::ExposeSecret;
use crate::observe::maillog;
use client::{ResponseFacts, Success, TokenClient};
pub use skew::clock_words;

/// The grant that a request presents to the token endpoint.
#[derive(Clone, Copy)]
pub(super) enum Ask<'a> {
    /// The app's own credentials (§4.4).
    App,
    /// A refresh token (§6), with or without the scopes for reading.
    Refresh { token: &'a str, reading: bool },
    /// A code from the browser, with the verifier that nobody else has (RFC 7636 §4.5).
    Code {
        code: &'a str,
        verifier: &'a str,
        redirect: &'a Url,
    },
}

/// The tokens that a token endpoint granted.
pub(crate) struct Granted {
    /// The access token.
    pub access: Zeroizing<String>,
    /// The refresh token, if one arrived; it replaces the one that was used.
    pub refresh: Option<Zeroizing<String>>,
    /// The ID token, a JWT that names the user who signed in, if it was requested.
    pub id_token: Option<Zeroizing<String>>,
    /// The life of the access token, if the response states it.
    pub expires_in: Option<Duration>,
}

/// The instructions for a person to sign in on another device (RFC 8628 §3.2).
#[derive(Debug, Clone)]
pub struct DeviceCode {
    /// The code to type.
    pub user_code: String,
    /// The page on which to type it.
    pub url: Url,
    /// The time that the sign-in may take.
    pub expires_in: Duration,
    details: StandardDeviceAuthorizationResponse,
}

/// Adds an assertion to a request of any kind. A client secret is set by `client()` instead.
macro_rules! proven {
    ($request:expr, $proof:expr) => {
        match $proof {
            Proof::Assertion(assertion) => $request
                .add_extra_param("client_assertion_type", ASSERTION_TYPE)
                .add_extra_param("client_assertion", assertion.as_str()),
            Proof::None | Proof::Secret(_) => $request,
        }
    };
}

/// Requests a token. If a proof of the app is refused, the next one is tried.
pub(super) async fn request(
    settings: &AccountSettings,
    http: &reqwest::Client,
    ask: Ask<'_>,
) -> Result<Granted, TokenError> {
    let mut refused = None;
    for proof in proofs(settings).await? {
        match request_with(settings, http, ask, &proof).await {
            Err(error @ TokenError::Secret { .. }) => refused = Some(error),
            answered => {
                if let (Ok(_), Some(error)) = (&answered, &refused) {
                    maillog::secret_refused(&settings.oauth, error);
                }
                return answered;
            }
        }
    }
    Err(refused.unwrap_or_else(|| TokenError::Credential {
        reason: format!(
            "[oauth.{}] has no credential to authenticate with",
            settings.oauth
        ),
    }))
}

async fn proofs(settings: &AccountSettings) -> Result<Vec<Proof>, TokenError> {
    let (audience, id) = (&settings.endpoints.token, &settings.client_id);
    let proofs = settings
        .credential
        .proofs(audience, id, Timestamp::now(), rand::random());
    proofs.await
}

async fn request_with(
    settings: &AccountSettings,
    http: &reqwest::Client,
    ask: Ask<'_>,
    proof: &Proof,
) -> Result<Granted, TokenError> {
    let client = client(settings, proof);
    let seen = ResponseFacts::default();
    let call = |request| client::perform(http.clone(), request, seen.clone());
    let with_reading = !matches!(ask, Ask::Refresh { reading: false, .. });
    let scopes = settings.scopes.requested(with_reading);
    let scopes = scopes.cloned().map(Scope::new);
    let answer = match ask {
        Ask::App => {
            let request = client.exchange_client_credentials().add_scopes(scopes);
            proven!(request, proof).request_async(&call).await
        }
        Ask::Refresh { token, .. } => {
            let token = RefreshToken::new(token.to_owned());
            let request = client.exchange_refresh_token(&token).add_scopes(scopes);
            proven!(request, proof).request_async(&call).await
        }
        Ask::Code {
            code,
            verifier,
            redirect,
        } => {
            let request = client
                .exchange_code(AuthorizationCode::new(code.to_owned()))
                .set_pkce_verifier(PkceCodeVerifier::new(verifier.to_owned()))
                .set_redirect_uri(Cow::Owned(RedirectUrl::from_url(redirect.clone())));
            proven!(request, proof).request_async(&call).await
        }
    };
    let by_user = !matches!(ask, Ask::App);
    answer
        .map(granted)
        .map_err(|error| classified(settings, error, &seen, by_user))
}

/// Returns the URL to open in a browser for a sign-in; `state` and `verifier` are random and used once.
pub(super) fn authorize_url(
    settings: &AccountSettings,
    redirect: &Url,
    state: &str,
    verifier: &str,
) -> Option<Url> {
    let endpoint = settings.endpoints.authorize.clone()?;
    let client = client(settings, &Proof::None).set_auth_uri(oauth2::AuthUrl::from_url(endpoint));
    let verifier = PkceCodeVerifier::new(verifier.to_owned());
    let mut request = client
        .authorize_url(|| CsrfToken::new(state.to_owned()))
        .add_scopes(settings.scopes.all().cloned().map(Scope::new))
        .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier))
        .set_redirect_uri(Cow::Owned(RedirectUrl::from_url(redirect.clone())));
    if let Some(user) = &settings.user {
        request = request.add_extra_param("login_hint", user);
    }
    Some(request.url().0)
}

/// Requests a code for a sign-in on another device.
pub(super) async fn device_code(
    settings: &AccountSettings,
    http: &reqwest::Client,
) -> Result<Option<DeviceCode>, TokenError> {
    let Some(endpoint) = settings.endpoints.device.clone() else {
        return Ok(None);
    };
    let Some(proof) = proofs(settings).await?.into_iter().next() else {
        return Ok(None);
    };
    let url = endpoint.to_string();
    let endpoint = oauth2::DeviceAuthorizationUrl::from_url(endpoint);
    let client = client(settings, &proof).set_device_authorization_url(endpoint);
    let seen = ResponseFacts::default();
    let call = |request| client::perform(http.clone(), request, seen.clone());
    let request = client
        .exchange_device_code()
        .add_scopes(settings.scopes.all().cloned().map(Scope::new));
    let details: StandardDeviceAuthorizationResponse = proven!(request, &proof)
        .request_async(&call)
        .await
        .map_err(|error| classified(settings, error, &seen, true))
        .map_err(|error| error.at(&url))?;
    Ok(Some(DeviceCode {
        user_code: details.user_code().secret().clone(),
        url: details.verification_uri().url().clone(),
        expires_in: details.expires_in(),
        details,
    }))
}

/// Polls until the person has signed in, declined, or let the code expire (RFC 8628 §3.4 and §3.5).
pub(super) async fn device_token(
    settings: &AccountSettings,
    http: &reqwest::Client,
    code: &DeviceCode,
) -> Result<Granted, TokenError> {
    let Some(proof) = proofs(settings).await?.into_iter().next() else {
        let account = settings.server.clone();
        return Err(TokenError::NotConnected { account });
    };
    let client = client(settings, &proof);
    let seen = ResponseFacts::default();
    let call = |request| client::perform(http.clone(), request, seen.clone());
    let request = client.exchange_device_access_token(&code.details);
    let answer = proven!(request, &proof)
        .request_async(&call, tokio::time::sleep, Some(code.expires_in))
        .await;
    answer.map(granted).map_err(|error| {
        let error = match error {
            RequestTokenError::ServerResponse(refusal) => {
                RequestTokenError::ServerResponse(ProviderRefusal {
                    error: refusal.error().as_ref().to_owned(),
                    error_description: refusal.error_description().cloned(),
                    ..ProviderRefusal::default()
                })
            }
            RequestTokenError::Request(error) => RequestTokenError::Request(error),
            RequestTokenError::Parse(error, body) => RequestTokenError::Parse(error, body),
            RequestTokenError::Other(text) => RequestTokenError::Other(text),
        };
        classified(settings, error, &seen, true)
    })
}

fn client(settings: &AccountSettings, proof: &Proof) -> TokenClient {
    let client = client::new(&settings.client_id, &settings.endpoints.token);
    match proof {
        Proof::Secret(secret) => {
            client.set_client_secret(oauth2::ClientSecret::new(secret.expose_secret().to_owned()))
        }
        Proof::None | Proof::Assertion(_) => client,
    }
}

fn granted(success: Success) -> Granted {
    Granted {
        access: Zeroizing::new(success.access_token.into_secret()),
        refresh: success
            .refresh_token
            .map(|token| Zeroizing::new(token.into_secret())),
        id_token: success
            .id_token
            .map(|token| Zeroizing::new(token.into_secret())),
        expires_in: success.expires_in.map(Duration::from_secs),
    }
}

fn classified(
    settings: &AccountSettings,
    error: RequestTokenError<reqwest::Error, ProviderRefusal>,
    seen: &ResponseFacts,
    by_user: bool,
) -> TokenError {
    let url = settings.endpoints.token.to_string();
    let (status, pause) = (seen.status(), seen.pause());
    let refusal = match error {
        RequestTokenError::ServerResponse(refusal) => refusal,
        RequestTokenError::Request(error) => {
            return TokenError::Unreachable {
                url,
                reason: root_cause(&error.without_url()),
            };
        }
        // The raw body may contain a token, so neither it nor the parser's message about it is kept.
        RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
            return TokenError::Outage { url, status, pause };
        }
    };
    let (oauth, account) = (settings.oauth.clone(), settings.server.clone());
    let class = refusal.class(status, by_user);
    let refusal = Box::new(refusal);
    match class {
        Class::Later => TokenError::Busy {
            url,
            refusal,
            pause,
        },
        Class::Secret => TokenError::Secret { oauth, refusal },
        Class::SignIn => TokenError::SignIn { account, refusal },
        Class::Administrator => TokenError::Refused { oauth, refusal },
    }
}

/// Returns the message of the root cause, which is more helpful than reqwest's own "error sending request".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
