//! The limits of this process, and the rights that it gives up.

use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask,
};

/// Keeps other users from reading the process's memory and the files that it creates. A crash writes no
/// core file, because secrets and tokens would be in it.
pub(crate) fn keep_private() {
    // If the system refuses, the process runs without this protection.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    umask(Mode::RWXG | Mode::RWXO);
}

/// Raises the process's limit on open files to the maximum. Returns the new limit; `None` means unlimited.
pub(crate) fn raise_file_limit() -> Option<u64> {
    let limits = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limits.maximum,
        maximum: limits.maximum,
    };
    // If the system refuses, the current limit stays.
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current
}
