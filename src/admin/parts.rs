//! The parts of the program that the API reaches, and the errors that it answers with.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::accounts::{Accounts, AccountsError};
use super::web::Web;
use crate::delivery::Delivery;
use crate::spool::{Manage, SpoolError};

/// The parts of the program that the API reaches.
#[derive(Clone)]
pub struct Parts {
    /// The queue.
    pub spool: Arc<dyn Manage>,
    /// The servers.
    pub delivery: Arc<Delivery>,
    /// Their accounts.
    pub accounts: Arc<Accounts>,
    /// The page, where there is one.
    pub web: Option<Arc<Web>>,
}

/// An error as the client is told of it.
pub(super) struct Trouble(pub(super) StatusCode, pub(super) String);

impl From<SpoolError> for Trouble {
    fn from(error: SpoolError) -> Self {
        let status = match error {
            SpoolError::Missing(_) | SpoolError::Unknown(_) => StatusCode::NOT_FOUND,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(status, error.to_string())
    }
}

impl From<AccountsError> for Trouble {
    fn from(error: AccountsError) -> Self {
        Self(StatusCode::BAD_REQUEST, error.to_string())
    }
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}
