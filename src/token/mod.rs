//! Access tokens: asked for once, however many wait; kept, encrypted, before they are used.
//!
//! ```text
//! Source ─ get ─▶ state (pure: is it fresh?) ─ no ─▶ flow (oauth2, HTTP) ─▶ vault ─▶ state
//!    └ sign_in: a person's consent becomes the refresh token that all of it rests on
//! ```
//!
//! A [`Source`] is one account at one provider. Invariants: a refresh token that the provider
//! rotated is on stable storage before the access token that came with it is handed out; the one
//! before it is kept beside it as the fallback; no failure removes either; a renewal once begun
//! ends even when nobody waits for it any more, since the provider may have rotated by then; an
//! answer that is older than a sign-in changes nothing.
#![doc = include_str!("entra.md")]

pub(crate) mod claims;
pub(crate) mod credential;
pub(crate) mod error;
pub(crate) mod flow;
pub(crate) mod import;
pub(crate) mod settings;
pub(crate) mod sign_in;
pub(crate) mod source;
pub(crate) mod sources;
pub(crate) mod state;
pub(crate) mod vault;

#[cfg(test)]
mod tests;

pub use claims::Claims;
pub use credential::{AppSecret, Certificate, Credential};
pub use error::TokenError;
pub use flow::{DeviceCode, clock_words};
pub use settings::{AccountSettings, Endpoints, Grant};
pub use sign_in::{Begun, SignInError, SignedIn};
pub use source::{SignInPurpose, Source, Status};
pub use sources::Sources;
pub use state::{Access, Account, TokenOrigin};
pub use vault::{Vault, VaultError};
