//! The one TLS stack: rustls with aws-lc-rs, for every connection out and in.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig};
use rustls_platform_verifier::Verifier;

/// The reason why TLS cannot be set up. Each error names the file, if there is one.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file cannot be read, or does not contain the expected certificate or key.
    #[error("{path}: {reason}; it must be a PEM file with {wanted}")]
    Pem {
        /// The file.
        path: String,
        /// The error in the file.
        reason: String,
        /// The expected content.
        wanted: &'static str,
    },
    /// The certificate and the key do not belong together, or rustls refuses them.
    #[error("{path}: {source}; the certificate and its key must belong together")]
    Certificate {
        /// The certificate's file.
        path: String,
        /// The error from rustls.
        source: rustls::Error,
    },
    /// The system's root certificates cannot be used.
    #[error(
        "the system's root certificates cannot be read: {0}; install the package ca-certificates, or set `ca` to a certificate file"
    )]
    Roots(String),
}

/// Installs the process's crypto provider. It is called once at start; another call is harmless.
pub fn install_provider() {
    // An error only means that a provider is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}

/// Reads the certificates from a PEM file.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = |reason: String| TlsError::Pem {
        path: path.display().to_string(),
        reason,
        wanted: "one certificate or more",
    };
    let read = CertificateDer::pem_file_iter(path).map_err(|error| pem(error.to_string()))?;
    let certificates: Vec<_> = read
        .collect::<Result<_, _>>()
        .map_err(|error| pem(error.to_string()))?;
    if certificates.is_empty() {
        Err(pem("the file contains no certificate".into()))
    } else {
        Ok(certificates)
    }
}

/// Returns the TLS settings of a client that trusts the system's root certificates and `extra_roots`.
pub fn client_config(extra_roots: &[CertificateDer<'static>]) -> Result<ClientConfig, TlsError> {
    let roots = |error: rustls::Error| TlsError::Roots(error.to_string());
    let verifier =
        Verifier::new_with_extra_roots(extra_roots.iter().cloned(), provider()).map_err(roots)?;
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(roots)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth())
}

/// Reads a chain and its key, which must belong together, from PEM files.
pub fn certified_key(chain: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let certificates = read_certificates(chain)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| TlsError::Pem {
        path: key.display().to_string(),
        reason: error.to_string(),
        wanted: "a private key",
    })?;
    let made = CertifiedKey::from_der(certificates, private, &provider());
    made.map_err(|source| TlsError::Certificate {
        path: chain.display().to_string(),
        source,
    })
}

/// Returns the TLS settings of a server that gets the certificate from `resolver` at each handshake.
pub fn server_config_by(resolver: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider());
    let versions = builder.with_safe_default_protocol_versions();
    let builder = versions.map_err(|error| TlsError::Roots(error.to_string()))?;
    Ok(builder.with_no_client_auth().with_cert_resolver(resolver))
}

/// Returns the TLS settings of a server with this chain and key.
pub fn server_config_of(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
}
