//! mailferry: a local SMTP endpoint for software that cannot speak OAuth. Legacy apps sign in with a plain
//! user and password, or come from an allowed address. Each message is stored durably, routed, rewritten if no
//! server admits its sender, and sent on with a cached XOAUTH2 token.
//!
//! # A message's way
//!
//! ```text
//! legacy app ─SMTP─▶ door ─▶ submission (smtp, routing) ─▶ spool ──250──▶ app
//!                                                            │
//!          delivery: scheduler ─▶ desk ─▶ worker ─▶ attempt ─┴ routing ─▶ transport (token) ─▶ Outlook
//!                                                     └ Outcome ─▶ settle ─▶ spool: fate, report, story
//! ```
//!
//! Mail that apps read goes the other way, and only through: `door ─▶ incoming (token) ─▶ Outlook`. Delivery
//! reports about bounced mail are read by `bounces`: `Outlook ─▶ bounces ─▶ delivery ─▶ story, app's sender`.
//!
//! # Invariants
//!
//! - **250 is a promise.** It is sent after the spool has committed the message to stable storage, never
//!   before. From then on the message is delivered, reported to its sender, or held for the operator to see.
//!   After a crash at the wrong moment it may be delivered twice; it is never lost.
//! - **Routing is a pure function.** It is called at MAIL and at the end of the message, and again at every
//!   attempt. The spool keeps the message as the app sent it; rewriting happens on the way out.
//! - **A token is requested once,** however many messages wait for it, and stored before it is used.
//! - **Replies to clients** are worded in [`smtp::Reply`] and [`submission::wording`] only; internal details
//!   go to the log.
//!
//! # The rooms
//!
//! A module imports only from the rows above its own or from its own room, and no files import each other
//! in a circle. Files marked ● are pure, like every file that says so at its head: no socket, file, clock or
//! randomness; those are arguments. `tests/suite/layers.rs` reads this table and enforces it.
//!
//! | row | rooms |
//! | --- | --- |
//! | 1 | [`platform`]: what differs between operating systems |
//! | 2 | [`base`]: clock, ids, limits with their sources, secrets, TLS |
//! | 3 | [`message`] ●: addresses, envelope, header, rewriting, `smtp::reply` ● |
//! | 4 | [`smtp`] ●: the protocol as a state machine, [`routing`] ●: which server, what is rewritten, `token::state` ●, `transport::answer` ●, `transport::finding` ●, `transport::outcome` ●, `delivery::retry` ●, `delivery::usage` ●, `spool::record` ●, `spool::story` ● |
//! | 5 | [`observe`]: the mail log and metrics |
//! | 6 | [`spool`]: small traits, and SQLite or PostgreSQL behind them, [`token`]: accounts, OAuth flows, the encrypted vault |
//! | 7 | [`transport`]: the way out; SMTP so far, with the table that judges every upstream reply |
//! | 8 | [`delivery`]: a desk for each mailbox, attempts, reports, [`door`]: sockets, TLS, users, limits, for any protocol |
//! | 9 | [`submission`]: SMTP from apps, which does not know delivery, [`incoming`]: IMAP and POP3 from apps, passed through to the mailbox |
//! | 10 | [`bounces`]: reads delivery reports (bounces) in mailboxes, [`operator`]: everything a person can ask and do, in this process or over the control socket |
//! | 11 | [`web`]: the page, [`alerts`]: tells a person in time |
//! | 12 | [`config`]: the file, checked, as `Fixed` (restart) and `Live` (reload) |
//! | 13 | [`daemon`]: starts, reloads and stops all parts, [`cli`]: the commands |
//!
//! [`sandbox`] stands apart: stand-ins for Entra ID and Exchange Online. It imports base, message and smtp
//! only, and only cli and tests import it.
//!
//! # Where a change goes
//!
//! | change | files |
//! | --- | --- |
//! | an SMTP extension that apps see | `smtp/machine.rs` (EHLO), `smtp/command.rs` (parses its parameters), `smtp/machine/rules.rs` (when they are allowed), `message/envelope.rs` (carries them) |
//! | the same towards servers | `transport/smtp/command.rs` (EHLO's keywords, MAIL and RCPT), `transport/smtp/session.rs` |
//! | a reply of Exchange, and the reaction to it | `transport/smtp/table.rs`, `tests/replies.txt` |
//! | a limit for all clients | `door/limits.rs` (the table `[limits]`); its words in `submission/wording.rs` |
//! | a limit of one user | `door/usage.rs` (counts), `config/text/client.rs` and `config/check/user.rs` (the key); its words in `submission/wording.rs`; over all nodes, `spool/quota.rs`, `spool/postgres/sessions.rs` |
//! | a limit of a mailbox | `delivery/usage.rs`, `delivery/desk.rs`; over all nodes, `spool/postgres/marks.rs`, `delivery/leases.rs` (sessions), `delivery/shared_holds.rs` |
//! | when another server takes over the mail of a server | `delivery/fallback.rs`, `delivery/hold.rs`; as whom it sends, `delivery/lanes.rs` |
//! | which message of a mailbox goes next | `delivery/fair.rs` |
//! | when a message is tried again or given up | `delivery/retry.rs` |
//! | a retry or report setting | `delivery/options.rs` (the table `[delivery]`) |
//! | any other key of the configuration | `config/text.rs` and `config/text/` (as written, with the words of the reference), `config/check.rs` and `config/check/` (checked) |
//! | how the header From is read | `message/mailbox.rs`, `message/header.rs` |
//! | what is rewritten | `message/rewrite.rs`; the decision in `routing/decision/rewriting.rs` |
//! | the name of a server that signs in as each sender | `routing/lane.rs`; its mailboxes, `delivery/plan.rs` |
//! | which server a sender takes | `routing/decision/choice.rs`; by recipient, `routing/decision/recipients.rs`, and how a message is split, `delivery/lanes.rs`; what a from_filter admits, `routing/filter.rs` |
//! | whether a message is accepted at its end | `submission/connection/message.rs`, `submission/permission.rs`, `routing/decision.rs` |
//! | a count on the page or in JSON | `operator/status.rs`, `operator/row.rs` (of a server), `operator/local.rs`, a file in `web/page/` |
//! | a button on the page | `operator/request.rs`, `operator/local.rs`, a file in `web/page/`, `web/actions.rs` |
//! | who may see or do what on the page | `web/access.rs`, `web/mod.rs` (the routes), `web/sign_in.rs`; through an OpenID provider, `web/oidc/settings.rs` |
//! | what an open page notices by itself | `web/fingerprint.rs`, `web/live.js` |
//! | which setting admits a refused client | `operator/clients.rs`; which refusals are remembered, `door/knocks.rs` |
//! | the settings that the page shows | `config/effective.rs` |
//! | the figures of the last hour, day and month | `operator/figures.rs`; what `mailferry report` sums up, `operator/report.rs` |
//! | what `mailferry status` shows, and when it warns | `operator/status.rs`, `cli/status.rs` |
//! | by what a message is found | `spool/filter.rs`, `spool/sqlite/index.rs` (the index), `cli/trace.rs` |
//! | the words for what happened to a message | `operator/story.rs`; why it waits, `operator/reason.rs` |
//! | where a failure is explained in the guides | `operator/guide.rs`, `config/guides/troubleshooting.md` |
//! | what `setup` asks and writes | `cli/setup.rs`, `cli/setup/text.rs`; what it takes over from another tool, `cli/setup/import.rs`, `cli/setup/postfix.rs`, `cli/setup/odoo.rs`; the script for Microsoft's side, `cli/setup/microsoft365.ps1` |
//! | how cron, PHP and mailx send without a network | `cli/sendmail.rs`; local sockets, `platform/connection.rs` |
//! | a command | a file in `cli/`, and a `Request` if it asks the running program |
//! | what people are alerted of, and in which words | `alerts/conditions.rs`, `alerts/message.rs`; a new channel, `alerts/channel.rs`, `alerts/send.rs` |
//! | which part of a session's dialogue the log shows | `smtp/transcript.rs`; of which sessions, `door/shared.rs` |
//! | a metric | `operator/metrics.rs`; events are counted by `observe/metrics.rs`; dashboard and alert rules in `config/` |
//! | a line of the log | `observe/maillog.rs`; what happens to a message, `delivery/fact.rs` |
//! | text that a sender receives | `delivery/bounce.rs`, `delivery/bounce/digest.rs` |
//! | how a node is taken out of service | `daemon/drain.rs` |
//! | how several nodes share a spool | `spool/postgres/node.rs` (heartbeats, dead nodes), `spool/postgres/claims.rs` (who has which message) |
//! | the tables of a spool | `spool/sqlite/schema.rs`, `spool/postgres/schema.rs` |
//! | what moves from one engine to another | `spool/copy.rs`, `copy.rs` of each engine, `daemon/spool_copy.rs` (tokens) |
//! | another engine for the spool | a folder beside `spool/sqlite/` and `spool/postgres/` that implements `spool/traits.rs`, and an `Engine` in `tests/suite/spool/engine.rs` |
//! | the conversation of IMAP or POP3 up to the sign-in | `incoming/imap.rs`, `incoming/imap/command.rs`, `incoming/pop3.rs`; its words in `incoming/refused.rs` |
//! | who may read which mailbox | `incoming/mailbox.rs` |
//! | a mail server's refusal of reading, and its remedy | `incoming/remedy.rs` |
//! | how a delivery report is read | `message/delivery_report.rs`, `tests/reports/` |
//! | the remedy for what a delivery report says | `transport/smtp/table/reports.rs`, `tests/replies.txt` |
//! | which message a delivery report is about, and who is notified | `delivery/returned.rs` |
//! | what to do with a matched delivery report | `bounces/handled.rs`, `bounces/client.rs` |
//! | another protocol for apps | a room beside `submission/` that implements `Protocol` of `door/service.rs`; `door/sign_in.rs` checks its passwords |
//! | another way out, such as Microsoft Graph | a folder beside `transport/smtp/` that implements `transport/link.rs` |
//! | another OAuth provider | `config/preset.rs` |
//! | when a token is renewed | `token/state.rs`; by which node, `token/source/shared.rs`; how tokens are encrypted, `token/vault/seal.rs` |
//! | a signal, or another operating system | `platform/signals.rs`, and the other files of `platform/` |
//!
//! # Words that are ours
//!
//! | word | what it means |
//! | --- | --- |
//! | listener | an address where apps connect |
//! | server | a configured account that mail is sent through; `upstream` is how it is reached |
//! | mailbox | the account that a server signs in to; several servers may share one, with its limits and its hold |
//! | hold | a mailbox is not used, or a message is not sent, for a time or until a person releases it |
//! | door, visitor | the part that lets clients in; a client that has been let in |
//! | desk | of one mailbox: its queue, workers, sessions, usage and hold |
//! | lane | of a queued message: the server that it waits for |
//! | flow | of a lane: the messages of one user with one priority; flows take turns |
//! | place | a lane and a flow: the part of the queue that a claim is taken from |
//! | world, plan | what delivery has for the life of the process; what one configuration gives it |
//! | claim | delivery's right to a message, for a time |
//! | outcome, finding | what an upstream's replies mean for each recipient; what they show of the mailbox |
//! | fate | what is decided after an attempt: the message is gone, tried later, or held |
//! | fact | what happened to a message; it becomes a log line and an event of the story |
//! | delivery report | a mail server's message in a mailbox about mail that it could not deliver; Microsoft's NDR |
//! | report, digest | a message of ours to a sender; one that lists many failures |
//! | node | one of several processes that share a spool in PostgreSQL; the eldest that is alive leads |
//! | story | what happened to a message, kept after the message is gone |
//! | time of the spool | runs on steadily, whatever the wall clock shows; people are shown the wall clock |

#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

pub mod base;
pub mod message;
pub mod observe;
mod platform;

pub mod routing;
pub mod smtp;
pub mod spool;
pub mod token;
pub mod transport;

pub mod bounces;
pub mod delivery;
pub mod door;
pub mod incoming;
pub mod submission;

mod alerts;
mod operator;
mod web;

pub mod cli;
pub mod config;
pub mod daemon;
pub mod sandbox;
