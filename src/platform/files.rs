//! Files that are nobody else's to read, and folders whose entries are on stable storage.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// For a file with a secret: its owner reads and writes it.
const PRIVATE: u32 = 0o600;

/// For a folder with secrets or messages.
const PRIVATE_FOLDER: u32 = 0o700;

/// For a file that everybody may read.
const PUBLIC: u32 = 0o644;

/// The permission bits that let users read who are neither owner nor in the file's group.
const OTHERS: u32 = 0o007;

/// Who may read a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Its owner.
    Owner,
    /// Everybody.
    All,
}

/// How a new file is created: it must not be there yet.
pub(crate) fn create_new(readers: Readers) -> OpenOptions {
    let mut options = File::options();
    options.write(true).create_new(true).mode(match readers {
        Readers::Owner => PRIVATE,
        Readers::All => PUBLIC,
    });
    options
}

/// Opens a private file to write it; one that is there keeps its content.
pub(crate) fn open_private(path: &Path) -> io::Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(PRIVATE)
        .open(path)
}

/// Takes a file away from all but its owner.
pub(crate) fn keep_private(path: &Path) -> io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(PRIVATE))
}

/// Takes a folder away from all but its owner.
pub(crate) fn keep_folder_private(path: &Path) -> io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(PRIVATE_FOLDER))
}

/// The permission bits of a file that others may read; none if they may not.
pub(crate) fn exposed_mode(metadata: &Metadata) -> Option<u32> {
    let mode = metadata.permissions().mode() & 0o777;
    (mode & OTHERS != 0).then_some(mode)
}

/// Waits until a folder's entries are on stable storage: a file that was made or renamed there may be lost
/// before.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The number of the user who owns a path; none if it cannot be seen.
pub(crate) fn owner(path: &Path) -> Option<u32> {
    Some(path.metadata().ok()?.uid())
}

/// Bytes of a folder's disk that this user may still write. Errors: the disk does not say.
pub(crate) fn free_space(folder: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Whether only its owner may read and write a file.
#[cfg(test)]
pub(crate) fn is_private(path: &Path) -> bool {
    path.metadata().unwrap().permissions().mode() & 0o777 == PRIVATE
}

/// Changes a part of a file in place; for tests of damage.
#[cfg(test)]
pub(crate) fn flip(path: &Path, at: u64) {
    use std::os::unix::fs::FileExt;
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut octet = [0];
    file.read_exact_at(&mut octet, at).unwrap();
    file.write_all_at(&[!octet[0]], at).unwrap();
}
