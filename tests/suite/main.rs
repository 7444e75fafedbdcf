//! The suite tests the whole program as it is built.
//!
//! Tests that need a real server or client look for it first, and say clearly if it is missing. With
//! MAILFERRY_TESTS=all, which `tests/run` sets, a missing server or client is a failure.

mod bounces;
mod by_recipient;
mod support;

mod alerts;
mod chromium;
mod clients;
mod clocks;
mod commands;
mod configurations;
mod connect;
mod crash;
mod damage;
mod debian;
mod delivery;
mod dialogues;
mod doors;
mod doors_under_load;
mod dovecot;
mod drain;
mod fallback;
mod faulty_upstream;
mod guides;
mod holds;
mod house;
mod identity;
mod imports;
mod inputs;
mod knocks;
mod layers;
mod moved;
mod nodes;
mod oidc;
mod other_users;
mod per_sender;
mod postfix;
mod prometheus;
mod reading;
mod replies;
mod schedules;
mod sendmail;
mod setup;
mod simulated;
mod spool;
mod states;
mod static_program;
mod status;
mod stories;
mod tokens;
mod vault_crash;
mod web;
