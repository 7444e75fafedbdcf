//! The control socket: a Unix socket that only its owner can reach, and a group if one is named.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, chown};
use std::path::Path;

use nix::unistd::{Group, Uid};
use tokio::net::unix::UCred;
use tokio::net::{UnixListener, UnixStream};

use super::files;

/// A control socket that is listening.
pub(crate) type ControlListener = UnixListener;

/// The mode of a socket that its owner and its group may connect to.
const WITH_GROUP: u32 = 0o660;

/// Listens at `path`, for the owner only. A socket that a crash has left there is replaced, but not one that another
/// process uses, and no other file.
pub(crate) async fn listen(path: &Path) -> io::Result<ControlListener> {
    if UnixStream::connect(path).await.is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    if std::fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket()) {
        std::fs::remove_file(path)?;
    }
    let socket = UnixListener::bind(path)?;
    files::keep_private(path)?;
    Ok(socket)
}

/// Lets the members of a group connect to the socket.
pub(crate) fn admit(path: &Path, group: &str) -> io::Result<()> {
    let no_group = || io::Error::other(format!("there is no group {group}"));
    let found = Group::from_name(group)?.ok_or_else(no_group)?;
    let group = found.gid.as_raw();
    // Where a service may not change owners, the service's own group is still possible.
    if std::fs::metadata(path)?.gid() != group {
        chown(path, None, Some(group))?;
    }
    files::set_mode(path, WITH_GROUP)
}

/// True if this client is root or the user of this process.
pub(crate) fn is_owner(client: &UCred) -> bool {
    let user = Uid::from_raw(client.uid());
    user.is_root() || user == Uid::effective()
}

/// False if the system says that there is no such group.
pub(crate) fn is_group(name: &str) -> bool {
    Group::from_name(name).map_or(true, |found| found.is_some())
}

/// True if a process listens at `path`. Errors: this user may not reach the socket.
pub(crate) async fn is_listening(path: &Path) -> io::Result<bool> {
    match UnixStream::connect(path).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        Err(_) => Ok(false),
    }
}

/// Builds HTTP clients that connect to the socket at `path`. They need no certificates, and must work on a system that has
/// none.
pub(crate) fn http(path: &Path) -> reqwest::ClientBuilder {
    let http = reqwest::Client::builder().unix_socket(path);
    http.tls_certs_only(std::iter::empty())
}
