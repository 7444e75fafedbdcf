//! What the system lets this process do, and what it gives up.

use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask,
};

/// Shuts other users out of what is in memory and of the files that are made: a crash writes no core, since
/// secrets and tokens would be in it.
pub(crate) fn keep_private() {
    // If it is refused, nothing is lost.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    umask(Mode::RWXG | Mode::RWXO);
}

/// Lets the process have as many files as it may; gives how many those are, none if there is no limit.
pub(crate) fn most_files() -> Option<u64> {
    let limits = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limits.maximum,
        maximum: limits.maximum,
    };
    // If it is refused, the present limit has to do.
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current
}
