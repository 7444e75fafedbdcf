//! What every room may use: time as a value, identifiers, secrets, TLS, and the limits with their sources.

pub mod certificate;
pub mod clock;
pub mod id;
pub mod limits;
pub mod lock;
pub mod secret;
pub mod service;
pub mod stream;
pub mod tls;
pub mod window;
pub mod written;

pub use clock::{Clock, Simulation, Timestamp};
pub use id::MessageId;
pub use secret::Secret;
pub use service::Service;
pub use window::Window;

/// A boxed future, the return type of the traits that stand between rooms.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The name of the user that this process runs as, or else the number.
pub fn user_name() -> String {
    let uid = nix::unistd::Uid::effective();
    let user = nix::unistd::User::from_uid(uid).ok().flatten();
    user.map_or_else(|| uid.to_string(), |user| user.name)
}
