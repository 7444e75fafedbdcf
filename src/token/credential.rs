//! How the app authenticates itself to the token endpoint.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::KeyPair;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Serialize;
use url::Url;
use zeroize::Zeroizing;

use super::error::TokenError;
use crate::base::secret::ExposeSecret;
use crate::base::{Secret, Timestamp};

/// The lifetime of an assertion (`token/entra.md`: 5 to 10 minutes).
const ASSERTION_LIFE: Duration = Duration::from_secs(300);

/// How far our clock may be ahead of the provider's.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// The value of `client_assertion_type` (RFC 7523 §2.2).
pub(super) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The credential with which the app authenticates itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Credential {
    /// No credential: a public client (RFC 6749 §2.1).
    None,
    /// Client secrets. If one is refused as wrong or expired, the next one is tried, so that a secret can
    /// be replaced without a gap.
    Secrets(Vec<AppSecret>),
    /// A certificate that is registered with the provider; its key signs an assertion (RFC 7523 §2.2).
    Certificate(Arc<Certificate>),
    /// An assertion in this file, which another program keeps up to date: workload identity.
    AssertionFile(PathBuf),
}

/// An app's secret.
#[derive(Debug, Clone)]
pub struct AppSecret {
    /// The secret as it is sent.
    pub secret: Secret,
    /// The expiry time from the configuration, because no token response contains it.
    pub expires: Option<Timestamp>,
}

impl PartialEq for AppSecret {
    fn eq(&self, other: &Self) -> bool {
        self.secret.expose_secret() == other.secret.expose_secret() && self.expires == other.expires
    }
}

/// A certificate with its key.
pub struct Certificate {
    key: EncodingKey,
    /// A digest that identifies the key without revealing it.
    key_digest: String,
    thumbprint: String,
    expires: Timestamp,
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        (&self.thumbprint, &self.key_digest) == (&other.thumbprint, &other.key_digest)
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificate({})", self.thumbprint)
    }
}

/// The reason why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The data is not a certificate.
    #[error("it is not an X.509 certificate: {0}")]
    Certificate(String),
    /// The key is invalid, or not an RSA key.
    #[error(
        "it is not an RSA key in PEM (PKCS #8 or PKCS #1): {0}; Entra accepts only RSA keys here"
    )]
    Key(String),
    /// The key is of another certificate.
    #[error("it is not the key of the certificate; name the two files that were made together")]
    Mismatch,
}

/// One proof of the app's identity, as it is sent.
pub(super) enum Proof {
    None,
    Secret(Secret),
    Assertion(Zeroizing<String>),
}

impl Certificate {
    /// Combines the certificate with its RSA key in PEM.
    pub fn new(certificate: &CertificateDer, key: &[u8]) -> Result<Self, CertificateError> {
        use x509_parser::prelude::{FromDer, X509Certificate};
        let (_, parsed) = X509Certificate::from_der(certificate)
            .map_err(|error| CertificateError::Certificate(error.to_string()))?;
        let expires = parsed.validity().not_after.timestamp();
        let sha256 = |bytes: &[u8]| {
            BASE64_URL_SAFE_NO_PAD
                .encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes))
        };
        let (key_digest, thumbprint) = (sha256(key), sha256(certificate));
        let public = public_key(key).map_err(CertificateError::Key)?;
        if public != *parsed.public_key().subject_public_key.data {
            return Err(CertificateError::Mismatch);
        }
        let key = EncodingKey::from_rsa_pem(key)
            .map_err(|error| CertificateError::Key(error.to_string()))?;
        Ok(Self {
            key,
            key_digest,
            thumbprint,
            expires: Timestamp(expires.saturating_mul(1_000)),
        })
    }

    /// Returns the signed assertion: PS256, with the certificate's SHA-256 thumbprint in the header, as Entra
    /// requires.
    fn assertion(&self, claims: &Assertion) -> Result<String, jsonwebtoken::errors::Error> {
        let header = Header {
            x5t_s256: Some(self.thumbprint.clone()),
            ..Header::new(Algorithm::PS256)
        };
        jsonwebtoken::encode(&header, claims, &self.key)
    }
}

/// Returns the public key (RFC 8017 appendix A.1.1) of a private RSA key in PEM.
fn public_key(pem: &[u8]) -> Result<Vec<u8>, String> {
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| error.to_string())?;
    let pair = match &key {
        PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
        key => RsaKeyPair::from_pkcs8(key.secret_der()),
    };
    let pair = pair.map_err(|error| error.to_string())?;
    Ok(pair.public_key().as_ref().to_vec())
}

/// The claims of RFC 7523 §3; times are in seconds.
#[derive(Serialize)]
struct Assertion<'a> {
    aud: &'a str,
    iss: &'a str,
    sub: &'a str,
    jti: String,
    iat: i64,
    nbf: i64,
    exp: i64,
}

impl Credential {
    /// Returns the time until which the app can authenticate itself, if known: the expiry of its certificate,
    /// or of the secret that lasts longest.
    pub fn expires(&self) -> Option<Timestamp> {
        match self {
            Self::Secrets(secrets) => secrets.iter().filter_map(|secret| secret.expires).max(),
            Self::Certificate(certificate) => Some(certificate.expires),
            Self::None | Self::AssertionFile(_) => None,
        }
    }

    /// Returns the proofs to send, in the order to try them. `audience` is the token endpoint's URL,
    /// `client_id` is the app's id, and `nonce` makes an assertion unique.
    pub(super) async fn proofs(
        &self,
        audience: &Url,
        client_id: &str,
        now: Timestamp,
        nonce: u128,
    ) -> Result<Vec<Proof>, TokenError> {
        let unusable = |reason: String| TokenError::Credential { reason };
        Ok(match self {
            Self::None => vec![Proof::None],
            Self::Secrets(secrets) => {
                let proof = |secret: &AppSecret| Proof::Secret(secret.secret.clone());
                secrets.iter().map(proof).collect()
            }
            Self::Certificate(certificate) => {
                let seconds = now.0 / 1_000;
                let begins = seconds - CLOCK_SKEW.as_secs() as i64;
                let claims = Assertion {
                    aud: audience.as_str(),
                    iss: client_id,
                    sub: client_id,
                    jti: format!("{nonce:032x}"),
                    iat: begins,
                    nbf: begins,
                    exp: seconds + ASSERTION_LIFE.as_secs() as i64,
                };
                let signed = certificate.assertion(&claims);
                let signed = signed.map_err(|error| {
                    unusable(format!("cannot sign with the certificate's key: {error}"))
                })?;
                vec![Proof::Assertion(Zeroizing::new(signed))]
            }
            Self::AssertionFile(path) => {
                let read = tokio::fs::read_to_string(path).await.map(Zeroizing::new);
                let text = read.map_err(|error| {
                    unusable(format!(
                        "the assertion file {} cannot be read: {error}; check the workload's token volume",
                        path.display()
                    ))
                })?;
                vec![Proof::Assertion(Zeroizing::new(text.trim().to_owned()))]
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::certificate;

    #[test]
    fn a_certificate_takes_its_own_key_only() {
        let made = ["a", "b"].map(|name| certificate::for_app(name, Timestamp(0)).unwrap());
        let of = |which: usize| CertificateDer::from_pem_slice(made[which].certificate.as_bytes());
        let with = |key: usize| Certificate::new(&of(0).unwrap(), made[key].key.as_bytes());
        assert!(with(0).is_ok());
        assert!(matches!(with(1), Err(CertificateError::Mismatch)));
        let wrong = Certificate::new(&of(0).unwrap(), b"no key");
        assert!(matches!(wrong, Err(CertificateError::Key(_))));
    }
}
