//! Tokens on the disk, encrypted (XChaCha20-Poly1305), a file for each account.
//!
//! A file is written beside the old one, synced, and renamed over it, and the folder is synced: a
//! crash leaves the old or the new, whole. The account's name is authenticated with it, so a file
//! cannot be passed off as another's. A wrong key is an error and changes nothing.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chacha20poly1305::aead::{Aead, Generate, Key, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::state::Account;

/// The format that this program writes.
const VERSION: u32 = 1;

/// Octets of a key and of a nonce.
const KEY: usize = 32;

/// Why the vault did not do it.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The key file holds something else.
    #[error(
        "{0} is not a vault key: it must hold 32 bytes in base64; restore it from a backup, or remove it together with the tokens beside it and sign in again"
    )]
    BadKey(String),
    /// The key does not open the file, or the file was changed.
    #[error(
        "{0} cannot be decrypted: it was written with another vault key, or damaged; restore the key from a backup, or remove the file and sign in again"
    )]
    WrongKey(String),
    /// Written by a later version of the program.
    #[error(
        "{path} was written by a later version of mailferry (format {found}, this one knows {VERSION}): run that version"
    )]
    Newer {
        /// Which.
        path: String,
        /// Its format.
        found: u32,
    },
}

/// The accounts' tokens.
pub struct Vault {
    folder: PathBuf,
    cipher: XChaCha20Poly1305,
}

/// What stands on the disk.
#[derive(Serialize, Deserialize)]
struct Sealed {
    version: u32,
    nonce: String,
    sealed: String,
}

impl Vault {
    /// Opens the vault in `folder`, which is made when missing; its key too, at first start.
    pub fn open(folder: PathBuf) -> Result<Self, VaultError> {
        std::fs::create_dir_all(&folder).map_err(|error| io(&folder, error))?;
        let path = folder.join("vault.key");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => new_key(&path)?,
            Err(error) => return Err(io(&path, error)),
        };
        let bad = || VaultError::BadKey(path.display().to_string());
        let bytes = Zeroizing::new(BASE64_STANDARD.decode(text.trim()).map_err(|_| bad())?);
        let cipher = XChaCha20Poly1305::new_from_slice(&bytes).map_err(|_| bad())?;
        Ok(Self { folder, cipher })
    }

    /// What is kept of an account; the default where nothing is.
    pub fn load(&self, account: &str) -> Result<Account, VaultError> {
        let path = self.path(account);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Account::default());
            }
            Err(error) => return Err(io(&path, error)),
        };
        let wrong = || VaultError::WrongKey(path.display().to_string());
        let sealed: Sealed = serde_json::from_slice(&text).map_err(|_| wrong())?;
        if sealed.version > VERSION {
            return Err(VaultError::Newer {
                path: path.display().to_string(),
                found: sealed.version,
            });
        }
        let nonce = BASE64_STANDARD.decode(&sealed.nonce).map_err(|_| wrong())?;
        let nonce = XNonce::try_from(nonce.as_slice()).map_err(|_| wrong())?;
        let data = BASE64_STANDARD
            .decode(&sealed.sealed)
            .map_err(|_| wrong())?;
        let payload = Payload {
            msg: &data,
            aad: account.as_bytes(),
        };
        let clear = Zeroizing::new(self.cipher.decrypt(&nonce, payload).map_err(|_| wrong())?);
        serde_json::from_slice(&clear).map_err(|_| wrong())
    }

    /// Keeps an account; on stable storage when it returns.
    pub fn store(&self, account: &str, state: &Account) -> Result<(), VaultError> {
        let path = self.path(account);
        let clear = Zeroizing::new(serde_json::to_vec(state).expect("an account is plain data"));
        let nonce = XNonce::generate();
        let payload = Payload {
            msg: &clear,
            aad: account.as_bytes(),
        };
        let data = self
            .cipher
            .encrypt(&nonce, payload)
            .map_err(|_| VaultError::WrongKey(path.display().to_string()))?;
        let sealed = Sealed {
            version: VERSION,
            nonce: BASE64_STANDARD.encode(nonce),
            sealed: BASE64_STANDARD.encode(data),
        };
        let text = serde_json::to_vec(&sealed).expect("texts and a number");
        replace(&path, &text).map_err(|error| io(&path, error))
    }

    fn path(&self, account: &str) -> PathBuf {
        self.folder.join(format!("{account}.token"))
    }
}

fn io(path: &Path, source: std::io::Error) -> VaultError {
    VaultError::Io {
        path: path.display().to_string(),
        source,
    }
}

fn new_key(path: &Path) -> Result<Zeroizing<String>, VaultError> {
    let key = Zeroizing::new(<[u8; KEY]>::from(Key::<XChaCha20Poly1305>::generate()));
    let text = Zeroizing::new(BASE64_STANDARD.encode(key.as_slice()));
    replace(path, text.as_bytes()).map_err(|error| io(path, error))?;
    Ok(text)
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn account() -> Account {
        let refresh = Some(Zeroizing::new("very-secret".to_owned()));
        Account {
            refresh,
            ..Account::default()
        }
    }

    #[test]
    fn keeps_accounts_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::open(folder.path().into()).unwrap();
        assert!(vault.load("a").unwrap().refresh.is_none());
        vault.store("a", &account()).unwrap();
        let vault = Vault::open(folder.path().into()).unwrap();
        assert_eq!(
            vault.load("a").unwrap().refresh.unwrap().as_str(),
            "very-secret"
        );
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            assert!(
                !std::fs::read_to_string(&path)
                    .unwrap()
                    .contains("very-secret")
            );
            assert_eq!(
                std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
    }

    #[test]
    fn a_wrong_key_or_a_strange_file_is_an_error_and_destroys_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::open(folder.path().into()).unwrap();
        vault.store("a", &account()).unwrap();
        std::fs::copy(folder.path().join("a.token"), folder.path().join("b.token")).unwrap();
        assert!(matches!(vault.load("b"), Err(VaultError::WrongKey(_))));
        let key = std::fs::read(folder.path().join("vault.key")).unwrap();
        std::fs::write(
            folder.path().join("vault.key"),
            BASE64_STANDARD.encode([7; KEY]),
        )
        .unwrap();
        let other = Vault::open(folder.path().into()).unwrap();
        assert!(matches!(other.load("a"), Err(VaultError::WrongKey(_))));
        std::fs::write(folder.path().join("vault.key"), "short").unwrap();
        assert!(matches!(
            Vault::open(folder.path().into()),
            Err(VaultError::BadKey(_))
        ));
        std::fs::write(folder.path().join("vault.key"), key).unwrap();
        assert!(
            Vault::open(folder.path().into())
                .unwrap()
                .load("a")
                .unwrap()
                .refresh
                .is_some()
        );
    }
}
