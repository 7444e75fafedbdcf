//! What differs between systems: files and their modes, sockets, signals, identity, clocks, free space. Nothing
//! outside this room imports `rustix` or `nix`, or names a Unix socket or a file mode.

pub mod clock;
pub mod control;
pub mod files;
pub mod identity;
pub mod process;
pub mod signals;
pub mod sockets;
