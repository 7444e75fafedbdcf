//! Access tokens: requested once however many callers wait, and stored encrypted before they are used.
//!
//! ```text
//! Source ─ get ─▶ state (pure: is it fresh?) ─ no ─▶ flow (oauth2, HTTP) ─▶ vault ─▶ state
//!    └ sign_in: a person's consent yields the refresh token that everything depends on
//! ```
//!
//! A [`Source`] is one account at one provider. Invariants: a refresh token that the provider rotated is
//! on stable storage before its access token is handed out; the previous refresh token is kept as the
//! fallback; no failure removes a refresh token; a renewal, once begun, is completed even if nobody waits for
//! it any more, because the provider may have rotated the refresh token by then; a response to a request from
//! before a sign-in changes nothing.
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
pub use settings::{AccountSettings, Endpoints, Grant, Scopes};
pub use sign_in::{Begun, SignInError, SignedIn};
pub use source::{SignInPurpose, Source, Status};
pub use sources::Sources;
pub use state::{Access, Account, TokenOrigin};
pub use vault::{Vault, VaultError};
