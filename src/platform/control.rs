//! The control socket: a Unix socket that only its owner can reach.

use std::io;
use std::path::Path;

use tokio::net::{UnixListener, UnixStream};

use super::files;

/// Listens at `path`. A socket that a crash has left there is replaced.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = UnixListener::bind(path)?;
    files::keep_private(path)?;
    Ok(socket)
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
