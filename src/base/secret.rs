//! Secrets: kept by `secrecy`, wiped when dropped, never shown by `Debug`.

pub use secrecy::{ExposeSecret, SecretString as Secret};
