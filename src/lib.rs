//! mailferry: a local SMTP endpoint for software that cannot speak OAuth. Legacy apps sign in with a
//! plain user and password, or come from an allowed address; each message is taken durably, routed,
//! rewritten where no server admits its sender, and sent on with a cached XOAUTH2 token.
//!
//! # A message's life
//!
//! ```text
//! legacy app ─SMTP─▶ door ─▶ submission ─ smtp, routing ─▶ spool.put ──250──▶ app
//!                                              │
//!              delivery: desk ─▶ worker ─▶ attempt ─ routing ─▶ transport ─ token ─▶ Outlook
//!                                              └ Outcome ─▶ settle ─▶ spool.finish: fate, report, story
//! ```
//!
//! # Invariants
//!
//! - **250 is a promise.** It is sent after the spool has committed to stable storage, never before.
//!   From then on a message ends delivered, reported to its sender, or held where the operator sees
//!   it; after a crash in the wrong instant it may be delivered twice, never lost.
//! - **Routing is a pure function**, asked at MAIL and at the message's end, and again at every
//!   attempt. The spool keeps the message as the app sent it; rewriting happens on the way out.
//! - **A token is asked for once**, however many wait, and kept before it is used.
//! - **What a client is told** is worded in [`smtp::Reply`] and [`submission::wording`] alone; internals go to the log.
//!
//! # The rooms
//!
//! A module imports only from the rows above its own or from its own room, and no files import each other
//! in a circle. Files marked ● are pure, like every file that says so at its head: no socket, file, clock or
//! randomness; those are arguments. `tests/suite/layers.rs` reads this table and holds the code to it.
//!
//! | row | rooms |
//! | --- | --- |
//! | 1 | [`platform`]: what differs between systems |
//! | 2 | [`base`]: clock, ids, limits, secrets, TLS |
//! | 3 | [`message`] ●, `smtp::reply` ● |
//! | 4 | [`smtp`] ●, [`routing`] ●, `token::state` ●, `transport::answer` ●, `transport::finding` ●, `transport::outcome` ●, `delivery::retry` ●, `delivery::usage` ●, `spool::record` ●, `spool::story` ● |
//! | 5 | [`observe`]: the mail log, metrics |
//! | 6 | [`spool`], [`token`], which do not know each other |
//! | 7 | [`transport`]: the way out, SMTP so far |
//! | 8 | [`delivery`]; [`door`]: where apps connect |
//! | 9 | [`submission`]: SMTP from apps, which never sees delivery |
//! | 10 | [`operator`]: what a person can ask and do, in process and over the control socket |
//! | 11 | [`web`]: the page, one face of it |
//! | 12 | [`config`]: composes the parts' settings |
//! | 13 | [`daemon`], [`cli`]: the other face |
//!
//! [`sandbox`] stands apart: it imports base, message and smtp only, and nothing imports it but
//! cli and tests.
//!
//! # Words that are ours
//!
//! | word | what it means |
//! | --- | --- |
//! | listener | where apps connect |
//! | server | a configured account that mail is sent through; `upstream` is the connection to it |
//! | mailbox | whom a server signs in as; several servers may share one, with its limits and its hold |
//! | hold | a mailbox is not used, or a message is not sent, for a time or until a person says so |
//! | desk | of one mailbox: the queue of what waits for it, its workers, sessions, usage and hold |
//! | lane | of a queued message: the server that it waits for |
//! | flow | of a lane: what one user sent with one priority; flows take turns |
//! | claim | delivery's right to a message, for a time |
//! | outcome | what an upstream's answers mean for each recipient; a finding is what they show of the mailbox |
//! | fate | what is decided after an attempt: the message is gone, tried later, or held |
//! | report | a message of ours to a sender; a digest tells of many at once |
//! | story | what became of a message, kept when it is gone |
//! | time of the spool | goes on by itself, whatever the wall clock shows; people are shown the wall clock |

#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

pub mod base;
mod platform;

pub mod door;
pub mod smtp;
pub mod submission;

pub mod message;

pub mod routing;

pub mod spool;

pub mod delivery;

pub mod token;

pub mod transport;

pub mod config;
pub mod observe;
mod operator;
mod web;

pub mod cli;
pub mod daemon;
pub mod sandbox;
