//! Files: their owners and modes, folders synced to stable storage, and free space.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// The mode of a file with a secret: only its owner may read and write it.
const PRIVATE: u32 = 0o600;

/// The mode of a folder with secrets or messages.
const PRIVATE_FOLDER: u32 = 0o700;

/// The mode of a file that everybody may read.
const PUBLIC: u32 = 0o644;

/// The permission bits for users who are neither the owner nor in the file's group.
const OTHERS: u32 = 0o007;

/// The users who may read a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Only the owner.
    Owner,
    /// Everybody.
    All,
}

/// Options to create a new file, which must not exist yet.
pub(crate) fn create_new(readers: Readers) -> OpenOptions {
    let mut options = File::options();
    options.write(true).create_new(true).mode(match readers {
        Readers::Owner => PRIVATE,
        Readers::All => PUBLIC,
    });
    options
}

/// Opens a private file for writing; an existing file keeps its content.
pub(crate) fn open_private(path: &Path) -> io::Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(PRIVATE)
        .open(path)
}

/// Makes a file accessible only to its owner.
pub(crate) fn keep_private(path: &Path) -> io::Result<()> {
    set_mode(path, PRIVATE)
}

/// The mode of a file that its owner writes and its group reads.
const SHARED: u32 = 0o640;

/// Lets a file's group read it, but nobody else. In a folder with the set-group-ID bit, a new file has the folder's
/// group.
pub(crate) fn share_with_group(path: &Path) -> io::Result<()> {
    set_mode(path, SHARED)
}

/// Sets the permission bits of a file.
pub(crate) fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Makes a folder accessible only to its owner.
pub(crate) fn keep_folder_private(path: &Path) -> io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(PRIVATE_FOLDER))
}

/// Returns the permission bits of a file if users other than its owner and its group may access it.
pub(crate) fn exposed_mode(metadata: &Metadata) -> Option<u32> {
    let mode = metadata.permissions().mode() & 0o777;
    (mode & OTHERS != 0).then_some(mode)
}

/// Syncs a folder's entries to stable storage. Until this returns, a crash may undo the creation or renaming
/// of a file there.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Returns the id of the user who owns a file or folder; `None` if the path cannot be accessed.
pub(crate) fn owner(path: &Path) -> Option<u32> {
    Some(path.metadata().ok()?.uid())
}

/// Returns the free space (bytes) that this user may use on a folder's disk. Errors: the system does not
/// report it.
pub(crate) fn free_space(folder: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// True if only the owner may read and write the file.
#[cfg(test)]
pub(crate) fn is_private(path: &Path) -> bool {
    path.metadata().unwrap().permissions().mode() & 0o777 == PRIVATE
}

/// Changes one octet of a file in place, to test damage.
#[cfg(test)]
pub(crate) fn flip(path: &Path, at: u64) {
    use std::os::unix::fs::FileExt;
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut octet = [0];
    file.read_exact_at(&mut octet, at).unwrap();
    file.write_all_at(&[!octet[0]], at).unwrap();
}
