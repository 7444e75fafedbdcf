//! Everything that a person can ask of the program and do with it. Each of these is a [`Request`], answered
//! by a [`response::Response`]: [`Local`] carries requests out in this process, and [`Remote`] has the
//! running program do it, over its control socket. The commands and the page both use these.
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
