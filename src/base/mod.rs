//! Parts that every room may use: time as a value, identifiers, secrets, TLS, and the limits with their
//! sources.

pub(crate) mod certificate;
pub(crate) mod clock;
pub(crate) mod http;
pub mod id;
pub(crate) mod limits;
pub(crate) mod lock;
pub(crate) mod secret;
pub(crate) mod service;
pub mod shared_secrets;
pub mod shared_sessions;
pub(crate) mod stream;
pub mod tls;
pub(crate) mod window;
pub(crate) mod written;

pub use clock::{Clock, Simulation, Timestamp};
pub use id::MessageId;
pub use secrecy::SecretString as Secret;
pub use service::Service;
pub use window::Window;

/// A boxed future, the return type of the traits that stand between rooms.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
