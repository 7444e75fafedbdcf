//! Chooses the server for a message and decides what is rewritten. One pure function takes the policy, the
//! envelope sender, the header From and the user, and returns a [`Decision`] with its reason.
#![doc = include_str!("rules.md")]

pub(crate) mod decision;
pub(crate) mod filter;
pub(crate) mod lane;
pub(crate) mod policy;

pub use decision::{Decision, NotRouted, Reason, Refusal, Route};
pub use filter::{Filter, FilterError};
pub use policy::{Caller, Key, ListenerRule, NullSender, OnMismatch, Policy, ServerRule, UserRule};
