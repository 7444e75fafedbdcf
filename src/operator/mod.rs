//! What a person can ask of the program and do with it: one [`Request`] and one [`response::Response`], carried out in
//! this process by [`Local`], or by the running program over its control socket, by [`Remote`]. Commands and
//! page are two faces of it.
//!
//! ```text
//! cli ──▶ Remote ─ control socket ─▶ control ─┐
//! cli, if nothing runs ───────────────────────┼─▶ Local ─▶ spool, delivery, accounts
//! web ────────────────────────────────────────┘
//! ```

pub(crate) mod accounts;
mod ask;
mod callback;
pub(crate) mod control;
mod error;
mod local;
mod metrics;
mod remote;
mod request;
mod response;
pub(crate) mod row;

pub(crate) use accounts::Accounts;
pub(crate) use ask::Operator;
pub(crate) use control::Control;
pub(crate) use error::{ErrorKind, OperatorError};
pub(crate) use local::Local;
pub(crate) use metrics::metrics;
pub(crate) use remote::Remote;
pub(crate) use request::{Need, PAGE, Request};
pub(crate) use response::FromResponse;
