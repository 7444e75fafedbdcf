//! The certificate of a listener. It is read from PEM files, and read again when they change. If no files are
//! configured, a self-signed certificate is created at the first start.

use std::fs::Metadata;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use rcgen::{KeyPair, RsaKeySize};
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::clock::Timestamp;
use super::tls::{self, TlsError};
use crate::platform::files::{self, Readers};

/// The minimum time between two checks for changed files. Such checks are made during handshakes.
const LOOK: Duration = Duration::from_secs(2);

/// The function to call when the files have changed. Its arguments are the path of the chain, and the result
/// of reading the files.
pub(crate) type OnChange = fn(&Path, Result<(), TlsError>);

/// A chain and its key, in PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Files {
    /// The certificates, the server's own first.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// A file's modification time and size, which show whether the file has changed.
type Stamp = Option<(SystemTime, u64)>;

/// Gives each handshake the certificate that is in the files at that time.
#[derive(Debug)]
struct Current {
    files: Files,
    key: ArcSwap<CertifiedKey>,
    seen: Mutex<(Instant, [Stamp; 2])>,
    told: OnChange,
}

/// Returns the TLS settings of a server. Each handshake uses the certificates that are in `files` at that
/// time, and each client gets the first certificate that it can verify. If changed files cannot be used, the
/// previous certificate stays in use.
pub(crate) fn server_config(files: Vec<Files>, told: OnChange) -> Result<ServerConfig, TlsError> {
    let current = files.into_iter().map(|files| Current::new(files, told));
    let current: Result<Vec<Current>, TlsError> = current.collect();
    tls::server_config_by(Arc::new(CertificateChoice(current?)))
}

/// Returns two self-signed certificates for this host, and creates them in `folder` unless they exist: one
/// with an elliptic-curve key, and one with an RSA key for devices that support only RSA.
pub(crate) fn self_signed(folder: &Path, host: &str) -> std::io::Result<Vec<Files>> {
    let kinds = [
        ("self-signed", KeyKind::Curve),
        ("self-signed-rsa", KeyKind::Rsa),
    ];
    let made = |(name, kind): (&str, KeyKind)| {
        let files = Files {
            chain: folder.join(name).with_added_extension("pem"),
            key: folder.join(name).with_added_extension("key"),
        };
        if files.chain.exists() && files.key.exists() {
            return Ok(files);
        }
        let names = vec![host.to_owned(), "localhost".to_owned()];
        let key = kind.generate().map_err(std::io::Error::other)?;
        let certificate = signed_by_itself(&key, host, names).map_err(std::io::Error::other)?;
        std::fs::create_dir_all(folder)?;
        write(&files.key, Readers::Owner, &key.serialize_pem())?;
        write(&files.chain, Readers::All, &certificate)?;
        Ok(files)
    };
    kinds.into_iter().map(made).collect()
}

/// A kind of key.
#[derive(Clone, Copy)]
enum KeyKind {
    Curve,
    Rsa,
}

impl KeyKind {
    fn generate(self) -> Result<KeyPair, rcgen::Error> {
        match self {
            Self::Curve => KeyPair::generate(),
            Self::Rsa => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
        }
    }
}

/// Creates a self-signed certificate for a key, as PEM.
fn signed_by_itself(key: &KeyPair, host: &str, names: Vec<String>) -> Result<String, rcgen::Error> {
    Ok(parameters(host, names)?.self_signed(key)?.pem())
}

fn parameters(subject: &str, names: Vec<String>) -> Result<rcgen::CertificateParams, rcgen::Error> {
    let mut parameters = rcgen::CertificateParams::new(names)?;
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters
        .distinguished_name
        .push(rcgen::DnType::CommonName, subject);
    Ok(parameters)
}

/// A certificate of an app registration, and its key, both as PEM.
pub(crate) struct AppCertificate {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// The years that an app's certificate is valid. The warnings before its end begin a month earlier.
const APP_YEARS: i32 = 2;

/// Creates a self-signed certificate with which an app signs in at Entra ID (RSA, because its assertions are signed
/// with PS256). It is valid for [`APP_YEARS`] years from `now` on.
pub(crate) fn for_app(subject: &str, now: Timestamp) -> Result<AppCertificate, rcgen::Error> {
    let key = KeyKind::Rsa.generate()?;
    let mut parameters = parameters(subject, Vec::new())?;
    // A certificate of today could lie in the future for a machine whose clock is late.
    let begin = now.before(Duration::from_secs(24 * 3_600)).to_string();
    let number = |range: std::ops::Range<usize>| begin[range].parse::<u16>().unwrap_or(1);
    let (year, month, day) = (
        i32::from(number(0..4)),
        number(5..7) as u8,
        number(8..10) as u8,
    );
    parameters.not_before = rcgen::date_time_ymd(year, month, day);
    // The 29th of February is not in every year.
    parameters.not_after = rcgen::date_time_ymd(year + APP_YEARS, month, day.min(28));
    Ok(AppCertificate {
        certificate: parameters.self_signed(&key)?.pem(),
        key: key.serialize_pem(),
    })
}

/// Writes the file under another name first, so that a half-written file never has the final name.
fn write(path: &Path, readers: Readers, text: &str) -> std::io::Result<()> {
    let draft = path.with_added_extension("draft");
    // A draft that is left from an interrupted start may have another mode, so it is not reused.
    if let Err(error) = std::fs::remove_file(&draft)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = files::create_new(readers).open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(draft, path)
}

impl Files {
    fn stamps(&self) -> [Stamp; 2] {
        let stamp = |metadata: Metadata| Some((metadata.modified().ok()?, metadata.len()));
        [&self.chain, &self.key].map(|path| stamp(std::fs::metadata(path).ok()?))
    }
}

impl Current {
    fn new(files: Files, told: OnChange) -> Result<Self, TlsError> {
        let stamps = files.stamps();
        let key = tls::certified_key(&files.chain, &files.key)?;
        Ok(Self {
            files,
            key: ArcSwap::from_pointee(key),
            seen: Mutex::new((Instant::now(), stamps)),
            told,
        })
    }

    fn certified_key(&self) -> Arc<CertifiedKey> {
        if self.have_changed(Instant::now()) {
            let taken = tls::certified_key(&self.files.chain, &self.files.key);
            let result = taken.map(|key| self.key.store(Arc::new(key)));
            (self.told)(&self.files.chain, result);
        }
        self.key.load_full()
    }

    /// True if the files have changed since the last check. Returns false without checking if the last check
    /// is less than [`LOOK`] ago.
    fn have_changed(&self, now: Instant) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(seen.0) < LOOK {
            return false;
        }
        let stamps = self.files.stamps();
        let have_changed = stamps != seen.1;
        *seen = (now, stamps);
        have_changed
    }
}

/// Several certificates. Each client gets the first one that it can verify.
#[derive(Debug)]
struct CertificateChoice(Vec<Current>);

impl ResolvesServerCert for CertificateChoice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let keys = self.0.iter().map(Current::certified_key);
        let keys: Vec<Arc<CertifiedKey>> = keys.collect();
        let is_known = |key: &&Arc<CertifiedKey>| {
            let scheme = key.key.choose_scheme(hello.signature_schemes());
            scheme.is_some() && has_suite_for(key, &hello)
        };
        keys.iter().find(is_known).or(keys.first()).cloned()
    }
}

/// True if a client offers a cipher suite for this kind of key. TLS 1.3 suites support any kind.
fn has_suite_for(key: &CertifiedKey, hello: &ClientHello<'_>) -> bool {
    let kind = key.key.algorithm();
    let suites = tls::provider().cipher_suites.clone();
    let offered = hello.cipher_suites();
    let mut offered = suites
        .iter()
        .filter(|suite| offered.contains(&suite.suite()));
    offered.any(|suite| suite.usable_for_signature_algorithm(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_once_and_for_its_owner_only() {
        tls::install_provider();
        let folder = tempfile::tempdir().unwrap();
        let made = self_signed(folder.path(), "relay.example").unwrap();
        let key = std::fs::read(&made[0].key).unwrap();
        assert_eq!(self_signed(folder.path(), "relay.example").unwrap(), made);
        assert_eq!(std::fs::read(&made[0].key).unwrap(), key);
        for Files { key, .. } in &made {
            assert!(files::is_private(key));
        }
        server_config(made, |_, _| ()).unwrap();
    }

    #[test]
    fn files_are_looked_at_now_and_then_and_taken_when_they_changed() {
        tls::install_provider();
        let folder = tempfile::tempdir().unwrap();
        let files = self_signed(folder.path(), "relay.example").unwrap();
        let files = files[0].clone();
        let mut current = Current::new(files.clone(), |_, _| ()).unwrap();
        let begin = Instant::now();
        current.seen = Mutex::new((begin, files.stamps()));
        assert!(!current.have_changed(begin + 2 * LOOK));
        std::fs::write(&files.chain, "short").unwrap();
        assert!(!current.have_changed(begin + 2 * LOOK));
        assert!(current.have_changed(begin + 4 * LOOK));
        assert!(!current.have_changed(begin + 6 * LOOK));
    }
}
