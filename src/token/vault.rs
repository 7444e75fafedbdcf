//! Tokens on the disk, encrypted (XChaCha20-Poly1305), a file for each account.
//!
//! A file is written beside the old one, synced, and renamed over it, and the folder is synced: a
//! crash leaves the old or the new, whole. The account's name is authenticated with it, so a file
//! cannot be passed off as another's. A wrong key is an error and changes nothing.
//!
//! The key comes from the configuration, else from the file `vault.key` beside the accounts, made at
//! first start. Rotation seals every account with the new key beside its file, then moves the key
//! and the accounts into place; what a crash leaves half moved, the next opening moves.

pub(super) mod kept;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chacha20poly1305::aead::{Aead, Generate, Key, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::state::Account;
use crate::base::Secret;
use crate::base::secret::ExposeSecret;
use kept::Kept;

/// The format that this program writes.
const VERSION: u32 = 1;

/// Octets of a key.
const KEY: usize = 32;

/// The key's file, where the configuration names no other place.
const KEY_FILE: &str = "vault.key";

/// What an account's file is called that a rotation has sealed, until it takes the old one's place.
const ROTATED: &str = "rotated";

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
    /// The key is none.
    #[error(
        "{0} is not a vault key: it must hold 32 bytes in base64; restore it from a backup, or remove it together with the tokens in the vault and connect again"
    )]
    BadKey(String),
    /// The key does not open the file, or the file was changed.
    #[error(
        "{0} cannot be decrypted: it was written with another vault key, or damaged; restore the key from a backup, or remove the file and connect again"
    )]
    WrongKey(String),
    /// Another process has it open.
    #[error("the vault in {0} is in use by another mailferry process")]
    InUse(String),
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
    cipher: RwLock<XChaCha20Poly1305>,
    _lock: File,
}

/// What stands on the disk.
#[derive(Serialize, Deserialize)]
struct Sealed {
    version: u32,
    account: String,
    nonce: String,
    sealed: String,
}

/// A new key in base64, for a configuration that keeps it elsewhere.
pub fn new_key() -> Zeroizing<String> {
    let key = Zeroizing::new(<[u8; KEY]>::from(Key::<XChaCha20Poly1305>::generate()));
    Zeroizing::new(BASE64_STANDARD.encode(key.as_slice()))
}

impl Vault {
    /// Opens the vault in `folder`, which is made when missing, with `key`, or else with the one in
    /// the folder, which is made at first start. Only one process can have it open.
    pub fn open(folder: PathBuf, key: Option<&Secret>) -> Result<Self, VaultError> {
        std::fs::create_dir_all(&folder).map_err(|error| io(&folder, error))?;
        let only_ours = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(&folder, only_ours).map_err(|error| io(&folder, error))?;
        let lock = lock(&folder)?;
        let cipher = match key {
            Some(key) => cipher(key.expose_secret(), "the configured vault key")?,
            None => {
                let path = folder.join(KEY_FILE);
                cipher(&own_key(&path)?, &path.display().to_string())?
            }
        };
        let vault = Self {
            folder,
            cipher: RwLock::new(cipher),
            _lock: lock,
        };
        vault.move_rotated()?;
        Ok(vault)
    }

    /// What is kept of an account; the default where nothing is.
    pub fn load(&self, account: &str) -> Result<Account, VaultError> {
        let (path, cipher) = (self.path(account), self.cipher());
        match std::fs::read(&path) {
            Ok(text) => unseal(&cipher, &path, &text, account),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Account::default()),
            Err(error) => Err(io(&path, error)),
        }
    }

    /// Keeps an account; on stable storage when it returns.
    pub fn store(&self, account: &str, state: &Account) -> Result<(), VaultError> {
        // Held until the file is in place, so that no rotation passes it by.
        let (path, cipher) = (self.path(account), self.cipher());
        let text = seal(&cipher, account, state);
        replace(&path, &text).map_err(|error| io(&path, error))
    }

    /// Seals every account with another key: `key`, or else a new one in the folder's key file.
    /// Gives how many there are.
    pub fn rotate(&self, key: Option<&Secret>) -> Result<usize, VaultError> {
        let text = match key {
            Some(key) => Zeroizing::new(key.expose_secret().to_owned()),
            None => new_key(),
        };
        let new = cipher(&text, "the new vault key")?;
        // Nobody reads or writes an account meanwhile.
        let mut current = self.cipher.write().unwrap_or_else(PoisonError::into_inner);
        let accounts = self.files("token")?;
        for path in &accounts {
            let (account, state) = unseal_file(&current, path)?;
            let beside = path.with_extension(ROTATED);
            replace(&beside, &seal(&new, &account, &state)).map_err(|error| io(&beside, error))?;
        }
        // From here on the new key is the key: the accounts that are not yet in place follow.
        if key.is_none() {
            let path = self.folder.join(KEY_FILE);
            replace(&path, text.as_bytes()).map_err(|error| io(&path, error))?;
        }
        *current = new;
        drop(current);
        self.move_rotated()?;
        Ok(accounts.len())
    }

    /// Moves accounts that a rotation sealed with the present key into place. One that the key does
    /// not open is left: it is of a rotation that never came to its key.
    fn move_rotated(&self) -> Result<(), VaultError> {
        for path in self.files(ROTATED)? {
            if unseal_file(&self.cipher(), &path).is_ok() {
                let place = path.with_extension("token");
                std::fs::rename(&path, &place).map_err(|error| io(&place, error))?;
            }
        }
        let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| io(&self.folder, error))
    }

    fn files(&self, extension: &str) -> Result<Vec<PathBuf>, VaultError> {
        let entries = std::fs::read_dir(&self.folder).map_err(|error| io(&self.folder, error))?;
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        let paths: Result<Vec<_>, _> = paths.collect();
        let mut paths = paths.map_err(|error| io(&self.folder, error))?;
        paths.retain(|path| path.extension().is_some_and(|its| its == extension));
        Ok(paths)
    }

    fn path(&self, account: &str) -> PathBuf {
        let name: String = url::form_urlencoded::byte_serialize(account.as_bytes()).collect();
        self.folder.join(format!("{name}.token"))
    }

    fn cipher(&self) -> RwLockReadGuard<'_, XChaCha20Poly1305> {
        self.cipher.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn seal(cipher: &XChaCha20Poly1305, account: &str, state: &Account) -> Vec<u8> {
    let clear = Zeroizing::new(serde_json::to_vec(&Kept::from(state)).expect("plain data"));
    let nonce = XNonce::generate();
    let payload = Payload {
        msg: &clear,
        aad: account.as_bytes(),
    };
    let data = cipher
        .encrypt(&nonce, payload)
        .expect("shorter than 256 GB");
    let sealed = Sealed {
        version: VERSION,
        account: account.to_owned(),
        nonce: BASE64_STANDARD.encode(nonce),
        sealed: BASE64_STANDARD.encode(data),
    };
    serde_json::to_vec(&sealed).expect("texts and a number")
}

fn unseal_file(cipher: &XChaCha20Poly1305, path: &Path) -> Result<(String, Account), VaultError> {
    let text = std::fs::read(path).map_err(|error| io(path, error))?;
    let wrong = |_| VaultError::WrongKey(path.display().to_string());
    let sealed: Sealed = serde_json::from_slice(&text).map_err(wrong)?;
    let state = unseal(cipher, path, &text, &sealed.account)?;
    Ok((sealed.account, state))
}

fn unseal(
    cipher: &XChaCha20Poly1305,
    path: &Path,
    text: &[u8],
    account: &str,
) -> Result<Account, VaultError> {
    let shown = path.display().to_string();
    let wrong = || VaultError::WrongKey(shown.clone());
    let sealed: Sealed = serde_json::from_slice(text).map_err(|_| wrong())?;
    if sealed.version > VERSION {
        return Err(VaultError::Newer {
            path: shown,
            found: sealed.version,
        });
    }
    let nonce = BASE64_STANDARD.decode(&sealed.nonce).map_err(|_| wrong())?;
    let nonce = XNonce::try_from(nonce.as_slice()).map_err(|_| wrong())?;
    let data = BASE64_STANDARD.decode(&sealed.sealed);
    let payload = Payload {
        msg: &data.map_err(|_| wrong())?,
        aad: account.as_bytes(),
    };
    let clear = Zeroizing::new(cipher.decrypt(&nonce, payload).map_err(|_| wrong())?);
    let kept: Kept = serde_json::from_slice(&clear).map_err(|_| wrong())?;
    Ok(kept.into())
}

fn cipher(key: &str, place: &str) -> Result<XChaCha20Poly1305, VaultError> {
    let bad = || VaultError::BadKey(place.to_owned());
    let bytes = Zeroizing::new(BASE64_STANDARD.decode(key.trim()).map_err(|_| bad())?);
    XChaCha20Poly1305::new_from_slice(&bytes).map_err(|_| bad())
}

fn own_key(path: &Path) -> Result<Zeroizing<String>, VaultError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let text = new_key();
            replace(path, text.as_bytes()).map_err(|error| io(path, error))?;
            Ok(text)
        }
        Err(error) => Err(io(path, error)),
    }
}

fn lock(folder: &Path) -> Result<File, VaultError> {
    let path = folder.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| io(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(VaultError::InUse(folder.display().to_string()))
        }
        Err(std::fs::TryLockError::Error(error)) => Err(io(&path, error)),
    }
}

fn io(path: &Path, source: std::io::Error) -> VaultError {
    VaultError::Io {
        path: path.display().to_string(),
        source,
    }
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
    use crate::base::Timestamp;
    use crate::token::state::Refresh;

    fn account() -> Account {
        let refresh = Some(Refresh {
            token: Zeroizing::new("very-secret".to_owned()),
            since: Timestamp(7),
            is_proven: true,
        });
        Account {
            refresh,
            ..Account::default()
        }
    }

    fn has_it(vault: &Vault, name: &str) -> bool {
        let loaded = vault.load(name).unwrap();
        loaded.refresh == account().refresh
    }

    #[test]
    fn keeps_accounts_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::open(folder.path().into(), None).unwrap();
        let name = "o/jane@example.com";
        assert!(vault.load(name).unwrap().refresh.is_none());
        vault.store(name, &account()).unwrap();
        assert!(matches!(
            Vault::open(folder.path().into(), None),
            Err(VaultError::InUse(_))
        ));
        drop(vault);
        assert!(has_it(
            &Vault::open(folder.path().into(), None).unwrap(),
            name
        ));
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(!text.contains("very-secret"));
            if !text.is_empty() {
                let mode = std::fs::metadata(&path).unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o600, "{}", path.display());
            }
        }
    }

    #[test]
    fn a_wrong_key_or_a_strange_file_is_an_error_and_destroys_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let open = |key: Option<&Secret>| Vault::open(folder.path().into(), key);
        let vault = open(None).unwrap();
        vault.store("a", &account()).unwrap();
        std::fs::copy(folder.path().join("a.token"), folder.path().join("b.token")).unwrap();
        assert!(matches!(vault.load("b"), Err(VaultError::WrongKey(_))));
        drop(vault);
        let other = open(Some(&new_key().as_str().to_owned().into())).unwrap();
        assert!(matches!(other.load("a"), Err(VaultError::WrongKey(_))));
        assert!(other.rotate(None).is_err());
        drop(other);
        let bad = open(Some(&"short".to_owned().into()));
        assert!(matches!(bad, Err(VaultError::BadKey(_))));
        assert!(has_it(&open(None).unwrap(), "a"));
    }

    #[test]
    fn a_rotation_seals_all_anew_and_the_old_key_opens_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let open = |key: Option<&Secret>| Vault::open(folder.path().into(), key);
        let vault = open(None).unwrap();
        let old: Secret = std::fs::read_to_string(folder.path().join(KEY_FILE))
            .unwrap()
            .into();
        vault.store("a", &account()).unwrap();
        vault.store("b", &account()).unwrap();
        assert_eq!(vault.rotate(None).unwrap(), 2);
        assert!(has_it(&vault, "a") && has_it(&vault, "b"));
        drop(vault);
        let with_old = open(Some(&old)).unwrap();
        assert!(matches!(with_old.load("a"), Err(VaultError::WrongKey(_))));
        drop(with_old);
        let elsewhere: Secret = new_key().as_str().to_owned().into();
        open(None).unwrap().rotate(Some(&elsewhere)).unwrap();
        assert!(has_it(&open(Some(&elsewhere)).unwrap(), "b"));
    }

    #[test]
    fn a_crash_at_any_step_of_a_rotation_leaves_every_account_readable() {
        let begun = tempfile::tempdir().unwrap();
        let done = tempfile::tempdir().unwrap();
        let files = ["a.token", "b.token", KEY_FILE];
        let vault = Vault::open(begun.path().into(), None).unwrap();
        vault.store("a", &account()).unwrap();
        vault.store("b", &account()).unwrap();
        for file in files {
            std::fs::copy(begun.path().join(file), done.path().join(file)).unwrap();
        }
        let rotated = Vault::open(done.path().into(), None).unwrap();
        rotated.rotate(None).unwrap();
        // Steps: a sealed, b sealed, the key, a moved, b moved.
        for step in 0..=5 {
            let crashed = tempfile::tempdir().unwrap();
            let place = |from: &Path, file: &str, to: &str| {
                std::fs::copy(from.join(file), crashed.path().join(to)).unwrap();
            };
            for file in files {
                place(begun.path(), file, file);
            }
            for (at, account) in ["a", "b"].iter().enumerate() {
                let file = format!("{account}.token");
                match step {
                    _ if step >= at + 4 => place(done.path(), &file, &file),
                    _ if step > at => place(done.path(), &file, &format!("{account}.{ROTATED}")),
                    _ => {}
                }
            }
            if step >= 3 {
                place(done.path(), KEY_FILE, KEY_FILE);
            }
            let vault = Vault::open(crashed.path().into(), None).unwrap();
            assert!(
                has_it(&vault, "a") && has_it(&vault, "b"),
                "after step {step}"
            );
        }
    }
}
