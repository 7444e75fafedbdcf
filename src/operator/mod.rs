//! What a person can ask of the program and do with it: one [`Request`] and one [`Response`], carried out in
//! this process by [`Local`], or by the running program over its control socket, by [`Remote`]. Commands and
//! page are two faces of it.
//!
//! ```text
//! cli ──▶ Remote ─ control socket ─▶ control ─┐
//! cli, if nothing runs ───────────────────────┼─▶ Local ─▶ spool, delivery, accounts
//! web ────────────────────────────────────────┘
//! ```

pub mod accounts;
mod ask;
mod callback;
pub mod control;
mod error;
mod local;
mod metrics;
mod remote;
mod request;
mod response;
pub mod row;

pub use accounts::Accounts;
pub use ask::{Operator, Responses};
pub use control::Control;
pub use error::{Kind, OperatorError};
pub use local::Local;
pub use metrics::metrics;
pub use remote::Remote;
pub use request::{Need, PAGE, Request};
pub use response::{FromResponse, Response};
