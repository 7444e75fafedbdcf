//! The certificate of a listener: taken from PEM files and taken anew when they change, or made by
//! ourselves at the first start.

use std::fs::Metadata;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::tls::{self, TlsError};

/// How often a handshake looks whether the files have changed, at most.
const LOOK: Duration = Duration::from_secs(2);

/// What is told when the files have changed: their chain's path, and what came of it.
pub type Told = fn(&Path, Result<(), TlsError>);

/// A chain and its key, in PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The certificates, the server's own first.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// What tells one state of a file from another.
type Stamp = Option<(SystemTime, u64)>;

/// Gives each handshake the certificate that the files have by now.
#[derive(Debug)]
struct Current {
    files: Files,
    key: ArcSwap<CertifiedKey>,
    seen: Mutex<(Instant, [Stamp; 2])>,
    told: Told,
}

/// The server's side of TLS with the certificate of these files, whatever they have at the time; what
/// cannot be used changes nothing.
pub fn server_config(files: Files, told: Told) -> Result<ServerConfig, TlsError> {
    let stamps = files.stamps();
    let key = tls::certified_key(&files.chain, &files.key)?;
    let current = Current {
        files,
        key: ArcSwap::from_pointee(key),
        seen: Mutex::new((Instant::now(), stamps)),
        told,
    };
    tls::server_config_by(Arc::new(current))
}

/// A certificate for this host that nobody else has signed, made in `folder` unless one is there.
pub fn self_signed(folder: &Path, host: &str) -> std::io::Result<Files> {
    let files = Files {
        chain: folder.join("self-signed.pem"),
        key: folder.join("self-signed.key"),
    };
    if files.chain.exists() && files.key.exists() {
        return Ok(files);
    }
    let names = vec![host.to_owned(), "localhost".to_owned()];
    let (key, certificate) = signed_by_itself(host, names).map_err(std::io::Error::other)?;
    std::fs::create_dir_all(folder)?;
    write(&files.key, 0o600, &key)?;
    write(&files.chain, 0o644, &certificate)?;
    Ok(files)
}

/// The key and the certificate, as PEM.
fn signed_by_itself(host: &str, names: Vec<String>) -> Result<(String, String), rcgen::Error> {
    let key = rcgen::KeyPair::generate()?;
    let mut parameters = rcgen::CertificateParams::new(names)?;
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters
        .distinguished_name
        .push(rcgen::DnType::CommonName, host);
    let certificate = parameters.self_signed(&key)?;
    Ok((key.serialize_pem(), certificate.pem()))
}

/// Writes it beside its place first, so that half of it is never there.
fn write(path: &Path, mode: u32, text: &str) -> std::io::Result<()> {
    let draft = path.with_added_extension("draft");
    // One that is left from a start that was broken off may have another mode.
    if let Err(error) = std::fs::remove_file(&draft)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = std::fs::File::options()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&draft)?;
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
    /// Whether the files are not as they were when they were last taken, or tried.
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

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if self.have_changed(Instant::now()) {
            let taken = tls::certified_key(&self.files.chain, &self.files.key);
            let result = taken.map(|key| self.key.store(Arc::new(key)));
            (self.told)(&self.files.chain, result);
        }
        Some(self.key.load_full())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_once_and_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        tls::install_provider();
        let folder = tempfile::tempdir().unwrap();
        let made = self_signed(folder.path(), "relay.example").unwrap();
        let key = std::fs::read(&made.key).unwrap();
        assert_eq!(self_signed(folder.path(), "relay.example").unwrap(), made);
        assert_eq!(std::fs::read(&made.key).unwrap(), key);
        let mode = std::fs::metadata(&made.key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        server_config(made, |_, _| ()).unwrap();
    }

    #[test]
    fn files_are_looked_at_now_and_then_and_taken_when_they_changed() {
        tls::install_provider();
        let folder = tempfile::tempdir().unwrap();
        let files = self_signed(folder.path(), "relay.example").unwrap();
        let key = tls::certified_key(&files.chain, &files.key).unwrap();
        let begin = Instant::now();
        let current = Current {
            seen: Mutex::new((begin, files.stamps())),
            files: files.clone(),
            key: ArcSwap::from_pointee(key),
            told: |_, _| (),
        };
        assert!(!current.have_changed(begin + 2 * LOOK));
        std::fs::write(&files.chain, "short").unwrap();
        assert!(!current.have_changed(begin + 2 * LOOK));
        assert!(current.have_changed(begin + 4 * LOOK));
        assert!(!current.have_changed(begin + 6 * LOOK));
    }
}
