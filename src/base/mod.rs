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
