//! The suite: what the whole does, by the program as it is built.
//!
//! Tests that need a real server or client look for it first, and say loudly when it is missing;
//! with MAILFERRY_TESTS=all, as `tests/run` sets it, a missing one is a failure.

mod support;

mod chromium;
mod clients;
mod commands;
mod configurations;
mod connect;
mod crash;
mod damage;
mod delivery;
mod dialogues;
mod doors;
mod doors_under_load;
mod faulty_upstream;
mod holds;
mod house;
mod identity;
mod inputs;
mod layers;
mod other_users;
mod postfix;
mod replies;
mod schedules;
mod simulated;
mod stories;
mod tokens;
mod vault_crash;
mod web;
