//! Everything that a person can ask of the program or do with it. Each action is a [`Request`], which is
//! answered by a [`response::Response`]. [`Local`] carries out requests in this process, and [`Remote`]
//! passes them to the running program over its control socket. The commands and the page both use these
//! requests.
//!
//! ```text
//! cli ──▶ Remote ─ control socket ─▶ control ─┐
//! cli, if nothing runs ───────────────────────┼─▶ Local ─▶ spool, delivery, accounts
//! web ────────────────────────────────────────┘
//! ```

pub(crate) mod accounts;
mod ask;
mod callback;
mod cause;
pub(crate) mod clients;
pub(crate) mod control;
pub(crate) mod day;
mod error;
pub(crate) mod figures;
pub(crate) mod guide;
mod local;
mod metrics;
pub(crate) mod process;
pub(crate) mod reason;
pub(crate) mod remedy;
mod remote;
pub(crate) mod report;
mod request;
mod response;
mod role;
pub(crate) mod route;
pub(crate) mod row;
pub(crate) mod settings;
pub(crate) mod status;
pub(crate) mod story;

pub(crate) use accounts::Accounts;
pub(crate) use ask::Operator;
pub(crate) use control::Control;
pub(crate) use control::ControlSettings;
pub(crate) use error::{ErrorKind, OperatorError};
pub(crate) use local::{Local, Parts};
pub(crate) use metrics::metrics;
pub(crate) use process::{DrainRow, ProcessRequest, Reloaded, SharedDrain};
pub(crate) use remote::Remote;
pub(crate) use request::{Need, PAGE, Request};
pub(crate) use response::FromResponse;
pub(crate) use role::Role;
pub(crate) use status::{ListenerRow, ProgramInfo, SharedInfo, Status};
