//! The program's rights on its machine: no more than it needs. A program that accepts mail from a network and
//! parses it should not run as root.

use crate::platform::identity::{self, CannotBecome};
use crate::platform::process;

/// File descriptors reserved for uses other than clients: the spool, upstream connections, the page.
const OWN_FILES: u64 = 256;

/// Of the remaining file descriptors, one in `ONE_IN` is reserved for the contents of large incoming
/// messages, and another one in `ONE_IN` for clients that receive the reason why their session is over.
const ONE_IN: usize = 16;

/// The numbers of clients that the process has enough file descriptors for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Clients in sessions.
    pub sessions: usize,
    /// Clients that receive the reason why their session is over.
    pub lingering: usize,
}

/// The rule for a program that runs as root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// The program may stay root.
    Allowed,
    /// The program switches to another user, or does not start.
    Refused,
}

/// The reason why the program does not start as its present user.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PrivilegeError {
    /// The program is root, and nothing names another user.
    #[error(
        "mailferry refuses to run as root: start it as its own user, set `run_as = \"mailferry\"` (it switches to that user after binding its ports), or pass --allow-root (containers)"
    )]
    Root,
    /// The program is not root, but should switch to a user.
    #[error(
        "run_as: only root can switch to the user {0:?}; start mailferry as that user and remove run_as, or start it as root"
    )]
    NotRoot(String),
    /// There is no such user.
    #[error("run_as: there is no user {0:?} on this system; create it, or name another")]
    Unknown(String),
    /// The user is root, or an alias of root.
    #[error("run_as: {0:?} is root; name an unprivileged user")]
    NoChange(String),
    /// The system refused the switch.
    #[error("run_as: cannot switch to the user {user:?}: {reason}")]
    Refused {
        /// The user.
        user: String,
        /// The reason.
        reason: String,
    },
}

/// Returns the user to switch to, or `None` to stay the present user.
fn decide(is_root: bool, run_as: Option<&str>, root: Root) -> Result<Option<&str>, PrivilegeError> {
    match (is_root, run_as, root) {
        (true, Some(user), _) => Ok(Some(user)),
        (true, None, Root::Refused) => Err(PrivilegeError::Root),
        (true, None, Root::Allowed) => Ok(None),
        (false, Some(user), _) if identity::is_user(user) => Ok(None),
        (false, Some(user), _) => Err(PrivilegeError::NotRoot(user.to_owned())),
        (false, None, _) => Ok(None),
    }
}

/// Gives up the rights that are no longer needed once the ports are bound. Also keeps other users of the
/// machine from reading the program's memory and the files that it creates.
pub(crate) fn drop_rights(run_as: Option<&str>, root: Root) -> Result<(), PrivilegeError> {
    if let Some(name) = decide(identity::is_root(), run_as, root)? {
        become_user(name)?;
    }
    process::keep_private();
    Ok(())
}

fn become_user(name: &str) -> Result<(), PrivilegeError> {
    let user = || name.to_owned();
    identity::become_user(name).map_err(|error| match error {
        CannotBecome::Unknown => PrivilegeError::Unknown(user()),
        CannotBecome::Root => PrivilegeError::NoChange(user()),
        CannotBecome::Refused(reason) => PrivilegeError::Refused {
            user: user(),
            reason,
        },
    })
}

/// Raises the process's limit on open files to the maximum. Returns the numbers of clients that this
/// limit is enough for.
pub(crate) fn room_by_files() -> Room {
    room(process::raise_file_limit())
}

fn room(files: Option<u64>) -> Room {
    let files = files.map(|files| files.saturating_sub(OWN_FILES));
    let files = files.map_or(usize::MAX, |files| files.try_into().unwrap_or(usize::MAX));
    Room {
        sessions: (files - files / ONE_IN * 2).max(1),
        lingering: files / ONE_IN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_nobody_to_stay() {
        let refused = decide(true, None, Root::Refused);
        assert_eq!(refused, Err(PrivilegeError::Root));
        assert_eq!(decide(true, None, Root::Allowed), Ok(None));
        assert_eq!(decide(true, Some("mail"), Root::Allowed), Ok(Some("mail")));
        assert_eq!(decide(false, None, Root::Refused), Ok(None));
        let somebody = PrivilegeError::NotRoot("no such".into());
        assert_eq!(decide(false, Some("no such"), Root::Allowed), Err(somebody));
    }

    #[test]
    fn files_are_for_sessions_and_what_they_need() {
        let (sessions, lingering) = (126, 9);
        assert_eq!(
            room(Some(400)),
            Room {
                sessions,
                lingering
            }
        );
        assert_eq!(room(Some(20_000)).sessions, 17_276);
        assert!(room(None).sessions > 1_000_000_000);
        assert_eq!(room(Some(100)).sessions, 1);
    }

    #[test]
    fn who_does_not_exist_is_named() {
        let unknown = PrivilegeError::Unknown("no-such-user".into());
        assert_eq!(become_user("no-such-user"), Err(unknown));
        assert_eq!(
            become_user("root"),
            Err(PrivilegeError::NoChange("root".into()))
        );
    }
}
