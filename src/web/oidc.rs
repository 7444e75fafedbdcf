//! Sign-in to the page at an OpenID provider, such as Entra ID (OpenID Connect Core 1.0).

mod pending;
mod provider;
mod settings;
pub(super) mod visit;

pub(super) use provider::OidcProvider;
pub(crate) use settings::OidcSettings;
pub(super) use settings::{BEGIN, Identity, RETURN};
