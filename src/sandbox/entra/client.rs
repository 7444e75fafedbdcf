//! Checks that a request comes from a registered app and, unless the app is public, carries valid
//! credentials.

use aws_lc_rs::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use serde::Deserialize;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::refusal::{EntraRefusal, Fields};
use crate::base::Timestamp;
use crate::sandbox::state::{App, SandboxState};

/// The longest lifetime of an assertion that we accept, in seconds. Entra itself is not strict about it.
const LONGEST: i64 = 600;

/// Returns the app that sent the form, or Entra's refusal.
pub(super) fn check<'a>(
    state: &'a SandboxState,
    form: &Fields,
    now: Timestamp,
) -> Result<&'a App, EntraRefusal> {
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let app = state
        .settings
        .apps
        .iter()
        .find(|app| app.id == field("client_id"));
    let app = app.ok_or((
        "unauthorized_client",
        700016,
        "AADSTS700016: Application with identifier was not found in the directory.",
    ))?;
    let (secret, assertion) = (field("client_secret"), field("client_assertion"));
    let is_public =
        app.secrets.is_empty() && app.certificates.is_empty() && app.assertion.is_none();
    match (secret, assertion) {
        ("", "") if is_public && field("grant_type") != "client_credentials" => Ok(app),
        ("", "") => Err((
            "invalid_client",
            7000218,
            "AADSTS7000218: The request body must contain client_assertion or client_secret.",
        )),
        (_, "") if is_public => Err((
            "invalid_client",
            700025,
            "AADSTS700025: Client is public so neither 'client_assertion' nor 'client_secret' should be presented.",
        )),
        (secret, "") if app.secrets.iter().any(|known| known == secret) => Ok(app),
        (secret, "") if app.expired_secrets.iter().any(|known| known == secret) => Err((
            "invalid_client",
            7000222,
            "AADSTS7000222: The provided client secret keys for the app are expired.",
        )),
        (_, "") => Err((
            "invalid_client",
            7000215,
            "AADSTS7000215: Invalid client secret provided.",
        )),
        (_, assertion) if app.assertion.as_deref() == Some(assertion) => Ok(app),
        (_, assertion) if is_signed(app, assertion) == Some(true) => {
            in_time(assertion, now).then_some(app).ok_or((
                "invalid_client",
                700024,
                "AADSTS700024: Client assertion is not within its valid time range.",
            ))
        }
        _ => Err((
            "invalid_client",
            700027,
            "AADSTS700027: Client assertion failed signature validation.",
        )),
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: String,
    #[serde(rename = "x5t#S256")]
    thumbprint: String,
}

#[derive(Deserialize)]
struct AssertionClaims {
    aud: String,
    iss: String,
    sub: String,
    jti: String,
    nbf: i64,
    exp: i64,
}

/// Returns `Some(true)` if the assertion is as Microsoft describes it: it is signed with PS256, names the
/// certificate by its SHA-256 thumbprint, and has the token endpoint as audience and the app as issuer and
/// subject.
fn is_signed(app: &App, assertion: &str) -> Option<bool> {
    let (signed, signature) = assertion.rsplit_once('.')?;
    let (header, _) = signed.split_once('.')?;
    let header: Header = serde_json::from_slice(&BASE64.decode(header).ok()?).ok()?;
    let claims = claims(assertion)?;
    let certificate = app.certificates.iter().find(|certificate| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
        BASE64.encode(digest) == header.thumbprint
    })?;
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let key = &certificate
        .tbs_certificate
        .subject_pki
        .subject_public_key
        .data;
    let key = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, key);
    let signature = BASE64.decode(signature).ok()?;
    Some(
        key.verify(signed.as_bytes(), &signature).is_ok()
            && (header.alg.as_str(), header.typ.as_str()) == ("PS256", "JWT")
            && claims.aud.ends_with("/oauth2/v2.0/token")
            && claims.iss == app.id
            && claims.sub == app.id
            && !claims.jti.is_empty()
            && claims.exp - claims.nbf <= LONGEST,
    )
}

/// True if the assertion is valid now by Entra's clock.
fn in_time(assertion: &str, now: Timestamp) -> bool {
    claims(assertion).is_some_and(|claims| (claims.nbf..claims.exp).contains(&(now.0 / 1_000)))
}

fn claims(assertion: &str) -> Option<AssertionClaims> {
    serde_json::from_slice(&BASE64.decode(assertion.split('.').nth(1)?).ok()?).ok()
}
