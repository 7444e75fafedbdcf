//! Secrets: kept by `secrecy`, wiped when dropped, never shown by `Debug`; see [`super::Secret`].

pub(crate) use secrecy::ExposeSecret;
