//! The conversation with an OpenID provider: its metadata (OpenID Connect Discovery 1.0), the address at which a
//! person signs in, and the ID token that says who it was (OpenID Connect Core 1.0 §3.1).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreClientAuthMethod, CoreErrorResponseType, CoreGenderClaim,
    CoreJsonWebKey, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm,
    CoreProviderMetadata, CoreResponseType, CoreRevocableToken, CoreRevocationErrorResponse,
    CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AdditionalClaims, AuthType, AuthenticationFlow, AuthorizationCode, ClaimsVerificationError,
    Client, ClientId, ClientSecret, CsrfToken, EmptyExtraTokenFields, EndpointMaybeSet,
    EndpointNotSet, EndpointSet, HttpRequest, HttpResponse, IdTokenClaims, IdTokenFields,
    IssuerUrl, Nonce, PkceCodeChallenge, RedirectUrl, RequestTokenError, Scope,
    SignatureVerificationError, StandardErrorResponse, StandardTokenResponse, TokenResponse,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;
use tokio::sync;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use url::Url;

use super::pending::{LIFE, Pending, SignIn};
use super::settings::{Identity, OidcSettings};
use crate::base::secret::ExposeSecret;
use crate::base::{Timestamp, http};

/// The time that the beginning or the end of a sign-in may take.
const DEADLINE: Duration = Duration::from_secs(25);

/// The pause after the provider's metadata could not be read.
const PAUSE: Duration = Duration::from_secs(10);

/// The maximum number of characters of a provider's words that are shown or logged.
const SHOWN: usize = 300;

/// The time for which the provider's metadata and keys are kept. A key that is not among them is looked for again.
const AGE: Duration = Duration::from_secs(600);

/// The claims for which there is no field in the standard.
#[derive(Debug, Serialize, Deserialize)]
struct OtherClaims {
    #[serde(flatten)]
    all: HashMap<String, Value>,
}

impl AdditionalClaims for OtherClaims {}

type Fields = IdTokenFields<
    OtherClaims,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;

type OidcClient = Client<
    OtherClaims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    StandardTokenResponse<Fields, CoreTokenType>,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// The reason why a sign-in did not begin or end.
#[derive(Debug, Error)]
pub(super) enum OidcError {
    /// The provider's metadata could not be read.
    #[error(
        "the provider's metadata could not be read: {0}; check that this machine can reach the provider, and that [web.oidc] issuer is exactly as the provider writes it, with or without a slash at its end"
    )]
    Metadata(String),
    /// The provider has no token endpoint.
    #[error("the provider has no token endpoint; check [web.oidc] issuer")]
    NoTokenEndpoint,
    /// The provider did not accept the code or the app.
    #[error(
        "the provider refused the request for an ID token: {0}; check [web.oidc] client_id and client_secret, and the redirect URI in the app's registration"
    )]
    Token(String),
    /// There is no ID token in the response.
    #[error(
        "the provider's response contains no ID token; the app's registration must allow OpenID Connect"
    )]
    NoIdToken,
    /// The ID token is not for us, or not valid.
    #[error("the ID token is not valid: {0}")]
    NotValid(String),
    /// The page's address cannot be a redirect URI.
    #[error("the redirect URI is not valid: {0}; check [web] external_url")]
    Redirect(String),
    /// The provider takes too long.
    #[error("the provider did not answer within {} seconds; try again", DEADLINE.as_secs())]
    Slow(#[from] Elapsed),
}

/// The provider, as far as it is known, and the sign-ins that have begun.
#[derive(Default)]
pub(in crate::web) struct OidcProvider {
    known: sync::Mutex<Known>,
    pub(super) pending: Pending,
}

/// The metadata of a provider.
#[derive(Default)]
struct Known {
    issuer: String,
    /// The metadata with its keys, and when it was read.
    metadata: Option<(Instant, Arc<CoreProviderMetadata>)>,
    /// When the last attempt failed, and why.
    failed: Option<(Instant, String)>,
}

impl OidcProvider {
    /// Begins a sign-in that ends at the address `redirect`. Returns the address at which the person signs in.
    pub(super) async fn begin(
        &self,
        settings: &OidcSettings,
        redirect: &str,
    ) -> Result<(Url, SignIn), OidcError> {
        let metadata = self.metadata(settings, AGE);
        let metadata = timeout(DEADLINE, metadata).await??;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let (url, state, nonce) = client(settings, &metadata, redirect)?
            .authorize_url(
                AuthenticationFlow::<CoreResponseType>::AuthorizationCode,
                CsrfToken::new_random,
                Nonce::new_random,
            )
            .add_scope(Scope::new("profile".to_owned()))
            .add_scope(Scope::new("email".to_owned()))
            .set_pkce_challenge(challenge)
            .url();
        let sign_in = SignIn {
            state: state.into_secret(),
            nonce,
            verifier,
            until: Timestamp::now().after(LIFE),
        };
        Ok((url, sign_in))
    }

    /// Exchanges the code for an ID token, checks the token, and returns the person.
    pub(super) async fn end(
        &self,
        settings: &OidcSettings,
        redirect: &str,
        sign_in: SignIn,
        code: String,
    ) -> Result<Identity, OidcError> {
        let ending = self.exchange(settings, redirect, sign_in, code);
        timeout(DEADLINE, ending).await?
    }

    async fn exchange(
        &self,
        settings: &OidcSettings,
        redirect: &str,
        sign_in: SignIn,
        code: String,
    ) -> Result<Identity, OidcError> {
        let metadata = self.metadata(settings, AGE).await?;
        let response = client(settings, &metadata, redirect)?
            .exchange_code(AuthorizationCode::new(code))
            .map_err(|_| OidcError::NoTokenEndpoint)?
            .set_pkce_verifier(sign_in.verifier)
            .request_async(&send)
            .await
            .map_err(refused)?;
        let token = response.id_token().ok_or(OidcError::NoIdToken)?;
        let known = client(settings, &metadata, redirect)?;
        let checked = token.claims(&known.id_token_verifier(), &sign_in.nonce);
        if !checked.as_ref().is_err_and(is_unknown_key) {
            return Ok(identity(settings, checked.map_err(not_valid)?));
        }
        // The provider has changed its keys since.
        let metadata = self.metadata(settings, Duration::ZERO).await?;
        let known = client(settings, &metadata, redirect)?;
        let checked = token.claims(&known.id_token_verifier(), &sign_in.nonce);
        Ok(identity(settings, checked.map_err(not_valid)?))
    }

    /// Returns the provider's metadata. It is read again if it is older than `age`; if that fails, the older metadata
    /// is good enough. A failure is remembered for a while, so that people do not wait for it one after the other.
    async fn metadata(
        &self,
        settings: &OidcSettings,
        age: Duration,
    ) -> Result<Arc<CoreProviderMetadata>, OidcError> {
        let mut known = self.known.lock().await;
        if known.issuer != settings.issuer {
            *known = Known {
                issuer: settings.issuer.clone(),
                ..Known::default()
            };
        }
        let fresh = known.metadata.as_ref().filter(|it| it.0.elapsed() < age);
        if let Some((_, metadata)) = fresh {
            return Ok(metadata.clone());
        }
        let failed = known.failed.as_ref().filter(|it| it.0.elapsed() < PAUSE);
        if failed.is_none() {
            match discover(settings).await {
                Ok(metadata) => known.metadata = Some((Instant::now(), Arc::new(metadata))),
                Err(text) => known.failed = Some((Instant::now(), text)),
            }
        }
        match (&known.metadata, &known.failed) {
            (Some((_, metadata)), _) => Ok(metadata.clone()),
            (None, failed) => {
                let text = failed.as_ref().map(|(_, text)| text.clone());
                Err(OidcError::Metadata(text.unwrap_or_default()))
            }
        }
    }
}

/// Reads the provider's metadata and keys. The error says why that failed.
async fn discover(settings: &OidcSettings) -> Result<CoreProviderMetadata, String> {
    let issuer = IssuerUrl::new(settings.issuer.clone()).map_err(|error| error.to_string())?;
    let is_secure = issuer.url().scheme() == "https";
    let read = CoreProviderMetadata::discover_async(issuer, &send).await;
    let metadata = read.map_err(|error| http::reasons(&error))?;
    let urls = [
        Some(metadata.authorization_endpoint().url()),
        metadata.token_endpoint().map(|url| url.url()),
        Some(metadata.jwks_uri().url()),
    ];
    let insecure = urls
        .into_iter()
        .flatten()
        .find(|url| url.scheme() != "https");
    match insecure.filter(|_| is_secure) {
        Some(url) => Err(format!("{url} in the metadata is not an https:// address")),
        None => Ok(metadata),
    }
}

async fn send(request: HttpRequest) -> Result<HttpResponse, reqwest::Error> {
    http::send(http::CLIENT.clone(), request).await
}

fn client(
    settings: &OidcSettings,
    metadata: &CoreProviderMetadata,
    redirect: &str,
) -> Result<OidcClient, OidcError> {
    let secret = settings.client_secret.as_ref();
    let secret = secret.map(|secret| ClientSecret::new(secret.expose_secret().to_owned()));
    let id = ClientId::new(settings.client_id.clone());
    let redirect = RedirectUrl::new(redirect.to_owned());
    let redirect = redirect.map_err(|error| OidcError::Redirect(error.to_string()))?;
    // A provider that does not say how clients authenticate accepts only the HTTP Basic scheme (OpenID Connect
    // Discovery §3).
    let ways = metadata.token_endpoint_auth_methods_supported();
    let takes_post =
        ways.is_some_and(|ways| ways.contains(&CoreClientAuthMethod::ClientSecretPost));
    let way = match takes_post {
        true => AuthType::RequestBody,
        false => AuthType::BasicAuth,
    };
    let client = Client::from_provider_metadata(metadata.clone(), id, secret);
    Ok(client.set_redirect_uri(redirect).set_auth_type(way))
}

/// Returns the person of a valid ID token.
fn identity(
    settings: &OidcSettings,
    claims: &IdTokenClaims<OtherClaims, CoreGenderClaim>,
) -> Identity {
    let user = claims.preferred_username().map(|name| name.as_str());
    let email = claims.email().map(|email| email.as_str());
    // An address that the provider has not verified can be anybody's.
    let verified = email.filter(|_| claims.email_verified() == Some(true));
    let values = match settings.claim.as_str() {
        "sub" => vec![claims.subject().as_str().to_owned()],
        "preferred_username" => user.into_iter().map(str::to_owned).collect(),
        "email" => verified.into_iter().map(str::to_owned).collect(),
        other => claims
            .additional_claims()
            .all
            .get(other)
            .map_or_else(Vec::new, texts),
    };
    Identity {
        issuer: settings.issuer.clone(),
        client_id: settings.client_id.clone(),
        name: user.or(verified).unwrap_or(claims.subject()).to_owned(),
        subject: claims.subject().as_str().to_owned(),
        claim: settings.claim.clone(),
        values,
    }
}

/// Returns the beginning of a provider's words, without control characters.
pub(super) fn short(words: &str) -> String {
    let plain = words.chars().filter(|letter| !letter.is_control());
    plain.take(SHOWN).collect()
}

/// Returns the texts of a claim, which is a text or a list of texts.
fn texts(claim: &Value) -> Vec<String> {
    let all = match claim {
        Value::Array(all) => all.as_slice(),
        one => std::slice::from_ref(one),
    };
    let texts = all.iter().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

fn is_unknown_key(error: &ClaimsVerificationError) -> bool {
    matches!(
        error,
        ClaimsVerificationError::SignatureVerification(SignatureVerificationError::NoMatchingKey)
    )
}

fn not_valid(error: ClaimsVerificationError) -> OidcError {
    let reasons = http::reasons(&error);
    OidcError::NotValid(match error {
        ClaimsVerificationError::Expired(_) => {
            format!("{reasons}; check the clocks of this machine and of the provider")
        }
        _ => reasons,
    })
}

fn refused(
    error: RequestTokenError<reqwest::Error, StandardErrorResponse<CoreErrorResponseType>>,
) -> OidcError {
    OidcError::Token(match error {
        RequestTokenError::ServerResponse(refusal) => short(&refusal.to_string()),
        other => http::reasons(&other),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_a_text_or_a_list_of_texts() {
        let read = |text: &str| texts(&serde_json::from_str(text).unwrap());
        assert_eq!(read("\"one\""), ["one"]);
        assert_eq!(read("[\"one\", 2, \"three\"]"), ["one", "three"]);
        assert_eq!(read("{\"one\": 1}"), Vec::<String>::new());
    }
}
