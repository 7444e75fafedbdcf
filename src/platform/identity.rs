//! Who this process is on its machine.

use nix::unistd::{Uid, User, initgroups, setgid, setuid};

/// The name of the user that this process runs as, or else the number.
pub(crate) fn user_name() -> String {
    name_of(Uid::effective().as_raw())
}

/// The name of a user, or else the number.
pub(crate) fn name_of(user: u32) -> String {
    let found = User::from_uid(user.into()).ok().flatten();
    found.map_or_else(|| format!("#{user}"), |user| user.name)
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    Uid::effective().is_root()
}

/// Whether this process runs as the user of this name.
pub(crate) fn is_user(name: &str) -> bool {
    let found = User::from_name(name).ok().flatten();
    found.is_some_and(|found| found.uid == Uid::effective())
}

/// Why this process cannot become a user.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CannotBecome {
    /// There is none.
    Unknown,
    /// It is root by another name.
    Root,
    /// The system said no, in these words.
    Refused(String),
}

/// Becomes another user, with that user's groups, for good.
pub(crate) fn become_user(name: &str) -> Result<(), CannotBecome> {
    let refused = |errno: nix::Error| CannotBecome::Refused(errno.to_string());
    let found = User::from_name(name).map_err(refused)?;
    let user = found.ok_or(CannotBecome::Unknown)?;
    if user.uid.is_root() {
        return Err(CannotBecome::Root);
    }
    // Groups first: afterwards there is no right to change them.
    let c_name = std::ffi::CString::new(name).map_err(|_| CannotBecome::Unknown)?;
    initgroups(&c_name, user.gid).map_err(refused)?;
    setgid(user.gid).map_err(refused)?;
    setuid(user.uid).map_err(refused)
}

/// The name that this machine has.
pub(crate) fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}
