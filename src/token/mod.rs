//! Access tokens: asked for once, however many wait; kept, encrypted, before they are used.
//!
//! ```text
//! Source ─ get ─▶ state (pure: is it fresh?) ─ no ─▶ flow (oauth2, HTTP) ─▶ vault ─▶ state
//! ```
//!
//! A [`Source`] is one account at one provider. Invariants: a refresh token that the provider
//! rotated is on stable storage before the access token that came with it is handed out; the one
//! before it is kept beside it as the fallback; no failure removes either; a renewal once begun
//! ends even when nobody waits for it any more, since the provider may have rotated by then.

pub mod flow;
pub mod source;
pub mod state;
pub mod vault;

pub use flow::{Grant, TokenError};
pub use source::{Settings, Source, Sources};
pub use state::{Access, Account};
pub use vault::{Vault, VaultError};
