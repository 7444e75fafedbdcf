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
mod lock;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

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
use lock::{lock, lock_soon};

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
        "{0} is not a vault key, which is 32 bytes in base64 as `mailferry vault new-key` prints them; restore it from a backup, or make one and connect again"
    )]
    BadKey(String),
    /// The key does not open the file, or the file was changed.
    #[error(
        "{0} cannot be decrypted: it was written with another vault key, or damaged; restore the key from a backup, or remove the file and connect again"
    )]
    WrongKey(String),
    /// The key's file is gone, what it sealed is not.
    #[error(
        "{path} is missing, and {folder} has tokens that it sealed: restore it from a backup, or remove the .token files and connect again"
    )]
    NoKey {
        /// The key's file.
        path: String,
        /// The vault.
        folder: String,
    },
    /// Another process has it open.
    #[error("the vault in {folder} is in use by another mailferry process{pid}")]
    InUse {
        /// The vault.
        folder: String,
        /// Which, as far as it said.
        pid: String,
    },
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
    access: Access,
}

/// How it is kept from other processes.
enum Access {
    /// It is this process's: the key is known, and no other can change it.
    Owned {
        cipher: RwLock<XChaCha20Poly1305>,
        _lock: File,
    },
    /// It is anybody's but for the moment of a reading or writing, and each begins with the key.
    Visited(Option<Secret>),
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
        prepare(&folder)?;
        let lock = lock(&folder)?;
        let cipher = opened(&folder, key)?;
        let access = Access::Owned {
            cipher: RwLock::new(cipher),
            _lock: lock,
        };
        Ok(Self { folder, access })
    }

    /// The same for a command that may wait for a person: other processes, `serve` among them, can
    /// have it meanwhile.
    pub fn visit(folder: PathBuf, key: Option<&Secret>) -> Result<Self, VaultError> {
        prepare(&folder)?;
        let vault = Self {
            folder,
            access: Access::Visited(key.cloned()),
        };
        vault.with(|_| Ok(()))?;
        Ok(vault)
    }

    /// What is kept of an account; the default where nothing is.
    pub fn load(&self, account: &str) -> Result<Account, VaultError> {
        let path = self.path(account);
        self.with(|cipher| match std::fs::read(&path) {
            Ok(text) => unseal(cipher, &path, &text, account),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Account::default()),
            Err(error) => Err(io(&path, error)),
        })
    }

    /// Keeps an account; on stable storage when it returns.
    pub fn store(&self, account: &str, state: &Account) -> Result<(), VaultError> {
        let path = self.path(account);
        // No rotation passes it by: the key stays until the file is in place.
        self.with(|cipher| {
            let text = seal(cipher, account, state);
            replace(&path, &text).map_err(|error| io(&path, error))
        })
    }

    /// What is kept and cannot be read, with the reason: another key, or damage.
    pub fn unreadable(&self) -> Vec<VaultError> {
        let read = self.with(|cipher| {
            let files = files(&self.folder, "token")?.into_iter();
            Ok(files
                .filter_map(|path| unseal_file(cipher, &path).err())
                .collect())
        });
        read.unwrap_or_else(|error| vec![error])
    }

    /// Seals every account with another key: `key`, or else a new one in the folder's key file.
    /// Gives how many there are.
    pub fn rotate(&self, key: Option<&Secret>) -> Result<usize, VaultError> {
        let text = match key {
            Some(key) => Zeroizing::new(key.expose_secret().to_owned()),
            None => new_key(),
        };
        let new = cipher(&text, "the new vault key")?;
        // Nobody reads or writes an account until all are in their places.
        match &self.access {
            Access::Owned { cipher, .. } => {
                let mut current = cipher.write().unwrap_or_else(PoisonError::into_inner);
                let count = self.seal_anew(&current, &new, key.is_none().then_some(&text))?;
                *current = new;
                Ok(count)
            }
            Access::Visited(_) => {
                self.with(|current| self.seal_anew(current, &new, key.is_none().then_some(&text)))
            }
        }
    }

    /// Every account from one key to another, which goes into the folder's key file where it is `own`.
    fn seal_anew(
        &self,
        current: &XChaCha20Poly1305,
        new: &XChaCha20Poly1305,
        own: Option<&Zeroizing<String>>,
    ) -> Result<usize, VaultError> {
        let accounts = files(&self.folder, "token")?;
        for path in &accounts {
            let (account, state) = unseal_file(current, path)?;
            let beside = path.with_extension(ROTATED);
            replace(&beside, &seal(new, &account, &state)).map_err(|error| io(&beside, error))?;
        }
        // From here on the new key is the key: the accounts that are not yet in place follow.
        if let Some(text) = own {
            let path = self.folder.join(KEY_FILE);
            replace(&path, text.as_bytes()).map_err(|error| io(&path, error))?;
        }
        move_rotated(&self.folder, new)?;
        Ok(accounts.len())
    }

    fn path(&self, account: &str) -> PathBuf {
        let name: String = url::form_urlencoded::byte_serialize(account.as_bytes()).collect();
        self.folder.join(format!("{name}.token"))
    }

    /// Does something with the key, which does not change meanwhile.
    fn with<T>(
        &self,
        act: impl FnOnce(&XChaCha20Poly1305) -> Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        match &self.access {
            Access::Owned { cipher, .. } => {
                act(&cipher.read().unwrap_or_else(PoisonError::into_inner))
            }
            Access::Visited(key) => {
                let _lock = lock_soon(&self.folder)?;
                act(&opened(&self.folder, key.as_ref())?)
            }
        }
    }
}

/// Whether a text is a key.
pub fn check_key(key: &Secret) -> Result<(), VaultError> {
    cipher(key.expose_secret(), "it").map(drop)
}

fn prepare(folder: &Path) -> Result<(), VaultError> {
    std::fs::create_dir_all(folder).map_err(|error| io(folder, error))?;
    let only_ours = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(folder, only_ours).map_err(|error| io(folder, error))
}

/// The key, with what a rotation that was cut short has left put into place.
fn opened(folder: &Path, key: Option<&Secret>) -> Result<XChaCha20Poly1305, VaultError> {
    let cipher = match key {
        Some(key) => cipher(key.expose_secret(), "the configured vault key")?,
        None => {
            let path = folder.join(KEY_FILE);
            cipher(&own_key(folder, &path)?, &path.display().to_string())?
        }
    };
    move_rotated(folder, &cipher)?;
    Ok(cipher)
}

/// Moves accounts that a rotation sealed with the present key into place. One that the key does not
/// open is left: it is of a rotation that never came to its key.
fn move_rotated(folder: &Path, cipher: &XChaCha20Poly1305) -> Result<(), VaultError> {
    let rotated = files(folder, ROTATED)?;
    if rotated.is_empty() {
        return Ok(());
    }
    for path in rotated {
        if unseal_file(cipher, &path).is_ok() {
            let place = path.with_extension("token");
            std::fs::rename(&path, &place).map_err(|error| io(&place, error))?;
        }
    }
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| io(folder, error))
}

fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, VaultError> {
    let entries = std::fs::read_dir(folder).map_err(|error| io(folder, error))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let paths: Result<Vec<_>, _> = paths.collect();
    let mut paths = paths.map_err(|error| io(folder, error))?;
    paths.retain(|path| path.extension().is_some_and(|its| its == extension));
    Ok(paths)
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

fn own_key(folder: &Path, path: &Path) -> Result<Zeroizing<String>, VaultError> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let only_ours = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(path, only_ours).map_err(|error| io(path, error))?;
            Ok(Zeroizing::new(text))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if !files(folder, "token")?.is_empty() {
                let [path, folder] = [path, folder].map(|it| it.display().to_string());
                return Err(VaultError::NoKey { path, folder });
            }
            let text = new_key();
            replace(path, text.as_bytes()).map_err(|error| io(path, error))?;
            Ok(text)
        }
        Err(error) => Err(io(path, error)),
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
            Err(VaultError::InUse { .. })
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

    #[test]
    fn a_key_that_is_gone_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Vault::open(folder.path().into(), None);
        open().unwrap().store("a", &account()).unwrap();
        let key = folder.path().join(KEY_FILE);
        let text = std::fs::read(&key).unwrap();
        std::fs::remove_file(&key).unwrap();
        assert!(matches!(open(), Err(VaultError::NoKey { .. })));
        std::fs::write(&key, text).unwrap();
        let vault = open().unwrap();
        assert!(has_it(&vault, "a") && vault.unreadable().is_empty());
        std::fs::write(folder.path().join("b.token"), "damaged").unwrap();
        assert_eq!(vault.unreadable().len(), 1);
    }

    #[test]
    fn visitors_leave_it_to_others_between_their_visits() {
        let folder = tempfile::tempdir().unwrap();
        let visit = || Vault::visit(folder.path().into(), None).unwrap();
        let (waiting, other) = (visit(), visit());
        waiting.store("a", &account()).unwrap();
        assert_eq!(other.rotate(None).unwrap(), 1);
        assert!(has_it(&waiting, "a"), "by the new key");
        let owner = Vault::open(folder.path().into(), None).unwrap();
        let refused = waiting.load("a").err().map(|error| error.to_string());
        assert!(
            refused
                .unwrap()
                .contains(&format!("(pid {})", std::process::id()))
        );
        drop(owner);
        assert!(has_it(&waiting, "a"));
    }

    #[test]
    fn rotations_and_readers_at_once_meet_no_wrong_key() {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::open(folder.path().into(), None).unwrap();
        vault.store("a", &account()).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..5).for_each(|_| assert_eq!(vault.rotate(None).unwrap(), 1)));
                scope.spawn(|| (0..50).for_each(|_| assert!(has_it(&vault, "a"))));
            }
        });
    }
}
