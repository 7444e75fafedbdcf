//! Which server sends a message, and what is rewritten: one pure function from the policy, the
//! envelope sender, the header From and the user to a [`Decision`] that carries its reason.

pub mod decision;
pub mod filter;

pub use decision::{
    Caller, Decision, Key, NullSender, OnMismatch, Policy, Reason, Refusal, Route, ServerRule,
    UserRule,
};
pub use filter::{Filter, FilterError};
