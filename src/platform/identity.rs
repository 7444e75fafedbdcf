//! The user that this process runs as, and the machine that it runs on.

use nix::unistd::{Uid, User, initgroups, setgid, setuid};

/// Returns the name of the user that this process runs as, or the user id if there is no name.
pub(crate) fn user_name() -> String {
    name_of(Uid::effective().as_raw())
}

/// Returns the name of a user, or the user id if there is no name.
pub(crate) fn name_of(user: u32) -> String {
    let found = User::from_uid(user.into()).ok().flatten();
    found.map_or_else(|| format!("#{user}"), |user| user.name)
}

/// True if this process is root.
pub(crate) fn is_root() -> bool {
    Uid::effective().is_root()
}

/// True if this process runs as the user of this name.
pub(crate) fn is_user(name: &str) -> bool {
    let found = User::from_name(name).ok().flatten();
    found.is_some_and(|found| found.uid == Uid::effective())
}

/// The reason why this process cannot become a user.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CannotBecome {
    /// There is no such user.
    Unknown,
    /// The user is root, under this or another name.
    Root,
    /// The system refused, with this message.
    Refused(String),
}

/// Switches this process permanently to another user and that user's groups.
pub(crate) fn become_user(name: &str) -> Result<(), CannotBecome> {
    let refused = |errno: nix::Error| CannotBecome::Refused(errno.to_string());
    let found = User::from_name(name).map_err(refused)?;
    let user = found.ok_or(CannotBecome::Unknown)?;
    if user.uid.is_root() {
        return Err(CannotBecome::Root);
    }
    // The groups are set first, because the process cannot change them once it is no longer root.
    let c_name = std::ffi::CString::new(name).map_err(|_| CannotBecome::Unknown)?;
    initgroups(&c_name, user.gid).map_err(refused)?;
    setgid(user.gid).map_err(refused)?;
    setuid(user.uid).map_err(refused)
}

/// Returns the name of this machine.
pub(crate) fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}
