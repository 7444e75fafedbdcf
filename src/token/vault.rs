//! Tokens on disk, encrypted (XChaCha20-Poly1305), with one file for each account.
//!
//! A new file is written beside the old one, synced, and renamed over it, and the folder is synced: after
//! a crash, either the old or the new file is there, and it is complete. The account's name is authenticated
//! with the content, so the file of one account cannot pass for that of another. A wrong key is an error and
//! changes nothing.
//!
//! The key comes from the configuration, or else from the file `vault.key`, which is created beside the
//! accounts at the first start. A rotation seals every account with the new key in a file beside the old
//! one, then moves the key and the accounts into place. If a crash interrupts the moves, they are completed
//! when the vault is opened again.

mod error;
pub(super) mod kept;
mod lock;
mod seal;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{Generate, Key};
use zeroize::Zeroizing;

use super::state::Account;
use crate::base::Secret;
use crate::base::secret::ExposeSecret;
use crate::platform::files::{self, Readers, create_new};
pub use error::VaultError;
use error::io;
use lock::lock;
use seal::{cipher, seal, unseal, unseal_file};

/// The length of a key in octets.
const KEY: usize = 32;

/// The name of the key file, which is used if the configuration has no key.
const KEY_FILE: &str = "vault.key";

/// The extension of an account's file that a rotation has sealed, until it replaces the old file.
const ROTATED: &str = "rotated";

/// The accounts' tokens.
pub struct Vault {
    folder: PathBuf,
    access: VaultAccess,
}

/// How the vault is protected from other processes.
enum VaultAccess {
    /// The vault belongs to this process: the key is known, and no other process can change it.
    Owned {
        cipher: RwLock<XChaCha20Poly1305>,
        _lock: File,
    },
    /// Other processes may use the vault, except while this one reads or writes. Every read or write begins
    /// by loading the key.
    Visited(Option<Secret>),
}

/// Generates a new random key, in base64.
pub(crate) fn new_key() -> Zeroizing<String> {
    let key = Zeroizing::new(<[u8; KEY]>::from(Key::<XChaCha20Poly1305>::generate()));
    Zeroizing::new(BASE64_STANDARD.encode(key.as_slice()))
}

impl Vault {
    /// Opens the vault in `folder`, which is created if missing. The key is `key`, or else the one in the
    /// folder, which is created at the first start. Only one process can have the vault open.
    pub fn open(folder: PathBuf, key: Option<&Secret>) -> Result<Self, VaultError> {
        prepare(&folder)?;
        let lock = lock(&folder)?;
        let cipher = opened(&folder, key)?;
        let access = VaultAccess::Owned {
            cipher: RwLock::new(cipher),
            _lock: lock,
        };
        Ok(Self { folder, access })
    }

    /// Opens the vault for a command that may wait for a person: other processes, `serve` among them, can
    /// use it meanwhile.
    pub fn visit(folder: PathBuf, key: Option<&Secret>) -> Result<Self, VaultError> {
        prepare(&folder)?;
        let vault = Self {
            folder,
            access: VaultAccess::Visited(key.cloned()),
        };
        vault.with(|_| Ok(()))?;
        Ok(vault)
    }

    /// Loads the stored state of an account. Returns the default if nothing is stored.
    pub fn load(&self, account: &str) -> Result<Account, VaultError> {
        let path = self.path(account);
        self.with(|cipher| match std::fs::read(&path) {
            Ok(text) => unseal(cipher, &path, &text, account),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Account::default()),
            Err(error) => Err(io(&path, error)),
        })
    }

    /// Stores an account. The data is on stable storage when this function returns.
    pub fn store(&self, account: &str, state: &Account) -> Result<(), VaultError> {
        let path = self.path(account);
        // The key cannot change until the file is in place, so a rotation cannot miss the file.
        self.with(|cipher| {
            let text = seal(cipher, account, state);
            replace(&path, &text).map_err(|error| io(&path, error))
        })
    }

    /// Seals an account's state, to store it elsewhere.
    pub(super) fn sealed(&self, account: &str, state: &Account) -> Result<Vec<u8>, VaultError> {
        self.with(|cipher| Ok(seal(cipher, account, state)))
    }

    /// Reads an account's state that was sealed and stored elsewhere.
    pub(super) fn unsealed(&self, account: &str, sealed: &[u8]) -> Result<Account, VaultError> {
        let place = Path::new("the shared database");
        self.with(|cipher| unseal(cipher, place, sealed, account))
    }

    /// Seals an account's state, which was sealed and stored elsewhere, with the key that [`Vault::rotate`] will get.
    pub(super) fn resealed(
        &self,
        account: &str,
        sealed: &[u8],
        key: &Secret,
    ) -> Result<Vec<u8>, VaultError> {
        let new = cipher(key.expose_secret(), "the new vault key")?;
        Ok(seal(&new, account, &self.unsealed(account, sealed)?))
    }

    /// Returns the accounts that have a stored state.
    pub fn accounts(&self) -> Result<Vec<String>, VaultError> {
        let files = paths(&self.folder, "token")?;
        let name = |path: &PathBuf| {
            let stem = path.file_stem()?.to_str()?;
            let pair = url::form_urlencoded::parse(stem.as_bytes()).next()?;
            Some(pair.0.into_owned())
        };
        Ok(files.iter().filter_map(name).collect())
    }

    /// Removes the stored state of an account.
    pub fn remove(&self, account: &str) -> Result<(), VaultError> {
        let path = self.path(account);
        std::fs::remove_file(&path).map_err(|error| io(&path, error))
    }

    /// Returns an error for each stored file that cannot be read: a different key, or damage.
    pub fn unreadable(&self) -> Vec<VaultError> {
        let read = self.with(|cipher| {
            let files = paths(&self.folder, "token")?.into_iter();
            Ok(files
                .filter_map(|path| unseal_file(cipher, &path).err())
                .collect())
        });
        read.unwrap_or_else(|error| vec![error])
    }

    /// Seals every account with a different key: `key`, or else a new one, which goes into the folder's key
    /// file. Returns the number of accounts.
    pub fn rotate(&self, key: Option<&Secret>) -> Result<usize, VaultError> {
        let text = match key {
            Some(key) => Zeroizing::new(key.expose_secret().to_owned()),
            None => new_key(),
        };
        let new = cipher(&text, "the new vault key")?;
        // Nobody can read or write an account until all files are in place.
        match &self.access {
            VaultAccess::Owned { cipher, .. } => {
                let mut current = cipher.write().unwrap_or_else(PoisonError::into_inner);
                let count = self.seal_anew(&current, &new, key.is_none().then_some(&text))?;
                *current = new;
                Ok(count)
            }
            VaultAccess::Visited(_) => {
                self.with(|current| self.seal_anew(current, &new, key.is_none().then_some(&text)))
            }
        }
    }

    /// Encrypts every account with the key `new` instead of `current`. If `own` is given, it is the new key's
    /// text, and is written to the folder's key file.
    fn seal_anew(
        &self,
        current: &XChaCha20Poly1305,
        new: &XChaCha20Poly1305,
        own: Option<&Zeroizing<String>>,
    ) -> Result<usize, VaultError> {
        let accounts = paths(&self.folder, "token")?;
        for path in &accounts {
            let (account, state) = unseal_file(current, path)?;
            let beside = path.with_extension(ROTATED);
            replace(&beside, &seal(new, &account, &state)).map_err(|error| io(&beside, error))?;
        }
        // From here on the new key is in force: after a crash, the next opening completes the moves.
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

    /// Calls `act` with the key, which does not change meanwhile.
    fn with<T>(
        &self,
        act: impl FnOnce(&XChaCha20Poly1305) -> Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        match &self.access {
            VaultAccess::Owned { cipher, .. } => {
                act(&cipher.read().unwrap_or_else(PoisonError::into_inner))
            }
            VaultAccess::Visited(key) => {
                let _lock = lock(&self.folder)?;
                act(&opened(&self.folder, key.as_ref())?)
            }
        }
    }
}

/// Checks that a text is a valid key.
pub(crate) fn check_key(key: &Secret) -> Result<(), VaultError> {
    cipher(key.expose_secret(), "it").map(drop)
}

fn prepare(folder: &Path) -> Result<(), VaultError> {
    std::fs::create_dir_all(folder).map_err(|error| io(folder, error))?;
    files::keep_folder_private(folder).map_err(|error| io(folder, error))
}

/// Loads the key, and completes a rotation that was interrupted.
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

/// Moves into place the accounts that a rotation has sealed with the current key. A file that the key does
/// not open stays where it is: its rotation was interrupted before the new key was in force.
fn move_rotated(folder: &Path, cipher: &XChaCha20Poly1305) -> Result<(), VaultError> {
    let rotated = paths(folder, ROTATED)?;
    if rotated.is_empty() {
        return Ok(());
    }
    for path in rotated {
        if unseal_file(cipher, &path).is_ok() {
            let place = path.with_extension("token");
            std::fs::rename(&path, &place).map_err(|error| io(&place, error))?;
        }
    }
    files::sync_folder(folder).map_err(|error| io(folder, error))
}

fn paths(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, VaultError> {
    let entries = std::fs::read_dir(folder).map_err(|error| io(folder, error))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let paths: Result<Vec<_>, _> = paths.collect();
    let mut paths = paths.map_err(|error| io(folder, error))?;
    paths.retain(|path| path.extension().is_some_and(|its| its == extension));
    Ok(paths)
}

fn own_key(folder: &Path, path: &Path) -> Result<Zeroizing<String>, VaultError> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            files::keep_private(path).map_err(|error| io(path, error))?;
            Ok(Zeroizing::new(text))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if !paths(folder, "token")?.is_empty() {
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

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    // Remove a file that a crash left behind, or a link that somebody planted, instead of writing to it.
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = create_new(Readers::Owner).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    files::sync_folder(path.parent().unwrap_or(Path::new(".")))
}

#[cfg(test)]
mod tests;
