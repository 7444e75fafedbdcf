//! Parts that differ between systems: files and their modes, sockets, signals, identity, clocks, free
//! space. Nothing outside this room imports `rustix` or `nix`, or names a Unix socket or a file mode.

pub(crate) mod clock;
pub(crate) mod connection;
pub(crate) mod control;
pub(crate) mod files;
pub(crate) mod identity;
pub(crate) mod process;
pub(crate) mod signals;
pub(crate) mod sockets;
pub(crate) mod supervisor;
