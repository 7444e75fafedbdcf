//! The mail log: one function for each thing that can happen to a message, a session or a server. Each line
//! has the field `event`, and a line about a message also has the field `id`, so one search for an id shows
//! all events of that message. The doc comment of a function here states the event that the function logs.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use jiff::SignedDuration;
use tracing::{Level, debug, enabled, error, info, warn};

use crate::base::tls::TlsError;
use crate::base::{MessageId, Timestamp};
use crate::message::{Address, Author, Envelope, ReversePath};
use crate::smtp::{Reply, Said};

/// Maximum number of characters of a From header that are logged.
const FROM: usize = 200;

/// The target of all these events.
pub(crate) const TARGET: &str = "mail";

fn recipients(envelope: &Envelope) -> String {
    let shown: Vec<&str> = envelope
        .recipients
        .iter()
        .map(|r| r.address.as_str())
        .collect();
    shown.join(",")
}

/// A listener accepts connections; `tls` is the value from the configuration.
pub(crate) fn listening(listener: &str, address: &str, tls: &str) {
    info!(target: TARGET, event = "listening", listener, address, tls, "listening");
}

/// A listener is no longer configured.
pub(crate) fn not_listening(listener: &str) {
    info!(target: TARGET, event = "not_listening", listener, "stopped listening; open sessions continue");
}

/// A certificate's files have changed; the new certificate is in use, or was refused.
pub(crate) fn certificate_taken(path: &Path, result: Result<(), TlsError>) {
    let file = path.display();
    match result {
        Ok(()) => {
            info!(target: TARGET, event = "certificate_taken", %file, "certificate changed, in use from now on");
        }
        Err(reason) => {
            error!(target: TARGET, event = "certificate_refused", %file, %reason, "certificate changed but cannot be used: the old one stays in use");
        }
    }
}

/// A listener uses a self-signed certificate.
pub(crate) fn own_certificate(path: &Path) {
    info!(target: TARGET, event = "own_certificate", file = %path.display(), "using a self-signed certificate: import it into your apps, or set certificate and key");
}

/// The process may open fewer files than the configured sessions need.
pub(crate) fn file_limit_too_low(allowed: usize, wanted: usize) {
    warn!(target: TARGET, event = "few_files", allowed, wanted, "fewer sessions than configured: the limit on open files is too low (ulimit -n, LimitNOFILE=)");
}

/// A client's connection was turned away.
pub(crate) fn turned_away(listener: &str, peer: &IpAddr, said: &[u8]) {
    let said = String::from_utf8_lossy(said);
    info!(target: TARGET, event = "turned_away", listener, %peer, reply = said.trim(), "turned away");
}

/// An address is blocked for a time because of failed sign-ins.
pub(crate) fn shut_out(listener: &str, peer: &IpAddr, failures: u64, time: Duration) {
    warn!(target: TARGET, event = "shut_out", listener, %peer, failures, seconds = time.as_secs(),
        "shut out after failed sign-ins");
}

/// A connection could not be accepted.
pub(crate) fn accept_failed(listener: &str, reason: &dyn Display) {
    error!(target: TARGET, event = "accept_failed", listener, %reason, "cannot accept a connection, trying again");
}

/// The web page is available at this address.
pub(crate) fn page(address: SocketAddr) {
    info!(target: TARGET, event = "page", %address, "web page listening");
}

/// A message is on stable storage, and the client was sent the reply 250.
pub(crate) fn accepted(
    id: MessageId,
    user: &str,
    peer: &IpAddr,
    envelope: &Envelope,
    size: u64,
    server: &str,
    reason: &str,
) {
    info!(target: TARGET, event = "accepted", %id, user, %peer, from = %envelope.sender,
        to = recipients(envelope), size, server, reason, "accepted");
}

/// The content of a message's From header, if the author had to be guessed or is unknown.
pub(crate) fn author(id: MessageId, author: &Author, from: Option<&[u8]>) {
    let from = String::from_utf8_lossy(from.unwrap_or_default());
    let from: String = from.trim().chars().take(FROM).collect();
    match author {
        Author::Lenient(mailbox) => {
            info!(target: TARGET, event = "author_guessed", %id, header_from = from, read_as = %mailbox,
                "the header From is malformed: read_as shows how it is understood, and it is corrected when the message is sent");
        }
        Author::Malformed(_) => {
            warn!(target: TARGET, event = "author_unknown", %id, header_from = from,
                "the header From has no usable address, or several From fields differ: the author is unknown, From may be replaced, and replies do not reach the author");
        }
        Author::Missing | Author::One(_) | Author::Several(_) => {}
    }
}

/// A client started with a TLS handshake at a listener that does not start with TLS.
pub(crate) fn tls_unexpected(listener: &str, peer: &IpAddr) {
    warn!(target: TARGET, event = "speaks_tls", listener, %peer,
        "the client starts with TLS, but this listener does not: set the app to STARTTLS or no TLS, or the listener's tls to \"implicit\"");
}

/// A client left without STARTTLS, which the listener requires.
pub(crate) fn left_without_tls(listener: &str, peer: &IpAddr) {
    info!(target: TARGET, event = "left_without_tls", listener, %peer,
        "the client left without STARTTLS, which this listener requires: switch STARTTLS on in the app");
}

/// A message, or its sender, was refused.
pub(crate) fn refused(
    user: &str,
    peer: &IpAddr,
    sender: &ReversePath,
    to: Option<&Address>,
    reply: &Reply,
) {
    let to = to.map(Address::as_str);
    info!(target: TARGET, event = "refused", user, %peer, from = %sender, to, reply = %reply, "refused");
}

/// A command, or a whole session, was refused.
pub(crate) fn refused_command(listener: &str, user: &str, peer: &IpAddr, reply: &Reply) {
    info!(target: TARGET, event = "refused", listener, user, %peer, reply = %reply, "refused");
}

/// A complete message was refused, or could not be sent directly. It already had an id.
pub(crate) fn refused_message(
    id: MessageId,
    user: &str,
    peer: &IpAddr,
    envelope: &Envelope,
    reply: &Reply,
) {
    info!(target: TARGET, event = "refused", %id, user, %peer, from = %envelope.sender,
        to = recipients(envelope), reply = %reply, "refused");
}

/// AUTH failed; `failures` is the number of recent failures from this address. config/fail2ban.conf parses
/// this line.
pub(crate) fn auth_failed(listener: &str, user: &str, peer: &IpAddr, failures: u64, reason: &str) {
    warn!(target: TARGET, event = "auth_failed", %peer, failures, listener, user, reason, "authentication failed");
}

/// A line of a session's dialogue, without secrets. `is_asked` is true if the configuration names this session.
pub(crate) fn dialogue(listener: &str, peer: &IpAddr, user: &str, said: &Said, is_asked: bool) {
    let from = if said.by_client {
        "client"
    } else {
        "mailferry"
    };
    let text = said.text.as_str();
    if is_asked {
        info!(target: TARGET, event = "dialogue", listener, %peer, user, from, text, "dialogue");
    } else {
        debug!(target: TARGET, event = "dialogue", listener, %peer, user, from, text, "dialogue");
    }
}

/// True if dialogues are logged because of the log's level.
pub(crate) fn logs_dialogues() -> bool {
    enabled!(target: TARGET, Level::DEBUG)
}

/// A session could not continue.
pub(crate) fn session_failed(listener: &str, peer: &IpAddr, reason: &dyn Display) {
    info!(target: TARGET, event = "session_failed", listener, %peer, %reason, "session ended early");
}

/// The spool could not store a message.
pub(crate) fn spool_failed(id: MessageId, reason: &dyn Display) {
    error!(target: TARGET, event = "spool_failed", %id, %reason, "cannot store the message");
}

/// Messages could not be added to the index of stories. Until the program ends,
/// searches find them in memory.
pub(crate) fn not_indexed(reason: &dyn Display) {
    warn!(target: TARGET, event = "not_indexed", %reason, "cannot write the index of messages, trying again");
}

/// The upstream accepted the message for these recipients, with this reply.
pub(crate) fn delivered(
    id: MessageId,
    server: &str,
    to: &[Address],
    answer: &dyn Display,
    waited: Duration,
) {
    let to: Vec<&str> = to.iter().map(Address::as_str).collect();
    info!(target: TARGET, event = "delivered", %id, server, to = to.join(","), reply = %answer,
        seconds = waited.as_secs_f64(), "delivered");
}

/// A message was not delivered this time, and will be tried again.
pub(crate) fn deferred(
    id: MessageId,
    server: &str,
    until: Timestamp,
    attempts: u32,
    reason: &str,
    uncertain: bool,
) {
    warn!(target: TARGET, event = "deferred", %id, server, until = %until, attempts, reason, uncertain, "deferred");
}

/// The message failed permanently for this recipient; the remedy may be empty.
pub(crate) fn failed(
    id: MessageId,
    server: &str,
    to: &Address,
    answer: &dyn Display,
    remedy: &str,
) {
    let remedy = (!remedy.is_empty()).then_some(remedy);
    warn!(target: TARGET, event = "failed", %id, server, to = %to, reply = %answer, remedy, "failed");
}

/// A report in the mailbox says that the message did not reach this recipient, although the server had
/// accepted it; the remedy may be empty.
pub(crate) fn bounced(
    id: MessageId,
    server: &str,
    to: &Address,
    answer: &dyn Display,
    remedy: &str,
    report: &str,
) {
    let remedy = (!remedy.is_empty()).then_some(remedy);
    warn!(target: TARGET, event = "bounced", %id, server, to = %to, reply = %answer, remedy, report, "bounced");
}

/// A message bounced, and the app's sender, which was rewritten, cannot be notified.
pub(crate) fn bounce_not_reported(id: MessageId, server: &str, reason: &str) {
    warn!(target: TARGET, event = "bounce_not_reported", %id, server, reason,
        "the app's sender is not notified of the bounce");
}

/// A report about a message was put into the queue.
pub(crate) fn reported(id: MessageId, report: MessageId, to: &Address, action: &str) {
    info!(target: TARGET, event = "reported", %id, report = %report, to = %to, action, "report queued for the sender");
}

/// A message is held until a person acts.
pub(crate) fn held(id: MessageId, reason: &str) {
    warn!(target: TARGET, event = "held", %id, reason, "held until you act: `mailferry queue show ID`, then `queue retry ID` or `queue delete ID`");
}

/// A message takes another route because the configuration has changed.
pub(crate) fn rerouted(id: MessageId, from: &str, to: &str) {
    info!(target: TARGET, event = "rerouted", %id, from, server = to, "rerouted");
}

/// Some recipients of a message take another route, as a message of their own.
pub(crate) fn split(id: MessageId, part: MessageId, server: &str, to: &[Address]) {
    let to: Vec<&str> = to.iter().map(Address::as_str).collect();
    info!(target: TARGET, event = "split", %id, %part, server, to = to.join(","), "split by recipients");
}

/// A token was renewed before it was needed.
pub(crate) fn token_renewed(server: &str, expires: Timestamp) {
    info!(target: TARGET, event = "token_renewed", server, expires = %expires, "token renewed");
}

/// A token could not be renewed in advance.
pub(crate) fn token_failed(server: &str, error: &dyn Display) {
    warn!(target: TARGET, event = "token_failed", server, reason = %error, "token not renewed");
}

/// The stored token of an app that signs in by itself cannot be read; another token is requested.
pub(crate) fn token_unreadable(server: &str, reason: &dyn Display) {
    warn!(target: TARGET, event = "token_unreadable", server, %reason, "the stored token cannot be read, requesting a new one");
}

/// Stored tokens cannot be read.
pub(crate) fn vault_unreadable(reason: impl Display) {
    error!(target: TARGET, event = "vault_unreadable", %reason, "tokens cannot be read");
}

/// One of an app's client secrets was refused, and another one was accepted.
pub(crate) fn secret_refused(oauth: &str, error: &dyn Display) {
    warn!(target: TARGET, event = "secret_refused", oauth, reason = %error, "one client secret was refused and another accepted: replace the refused one");
}

/// This machine's clock is wrong.
pub(crate) fn clock_wrong(reason: &str) {
    warn!(target: TARGET, event = "clock_wrong", reason, "the clock is wrong: certificates and tokens may be refused");
}

/// A server cannot send until somebody signs in.
pub(crate) fn needs_sign_in(server: &str) {
    warn!(target: TARGET, event = "needs_sign_in", server, "nobody has signed in, or the sign-in must be repeated: run `mailferry connect`");
}

/// A server's sign-in is for sending only, although the server is for reading too.
pub(crate) fn reading_needs_sign_in(server: &str) {
    warn!(target: TARGET, event = "reading_needs_sign_in", server,
        "the sign-in is for sending only, and sending still works: run `mailferry connect` for this server to add reading");
}

/// A session in which an app reads a mailbox.
pub(crate) struct Reading<'a> {
    /// The listener.
    pub listener: &'a str,
    /// The name that the app signed in with.
    pub user: &'a str,
    /// The server.
    pub server: &'a str,
    /// The protocol.
    pub protocol: &'a str,
    /// The client's address.
    pub peer: &'a IpAddr,
}

impl Reading<'_> {
    /// The app has signed in, and reads from now on.
    pub(crate) fn begun(&self) {
        let Self {
            listener,
            user,
            server,
            protocol,
            peer,
        } = self;
        info!(target: TARGET, event = "reading", listener, user, server, protocol, %peer, "reading");
    }

    /// The session has ended; `reason` is `None` if a side closed the connection, or the client was lost.
    pub(crate) fn ended(&self, after: Duration, reason: Option<&dyn Display>) {
        let Self {
            listener,
            user,
            server,
            protocol,
            peer,
        } = self;
        let reason = reason.map(ToString::to_string);
        info!(target: TARGET, event = "reading_ended", listener, user, server, protocol, %peer, seconds = after.as_secs(),
            reason, "reading ended");
    }
}

/// A client was refused before it could read a mailbox; `user` is empty if it is not known yet.
pub(crate) fn reading_refused(listener: &str, user: &str, peer: &IpAddr, reason: &dyn Display) {
    warn!(target: TARGET, event = "reading_refused", listener, user, %peer, %reason, "a client was refused before it could read a mailbox");
}

/// A mailbox cannot be read.
pub(crate) fn reading_failed(
    server: &str,
    protocol: &str,
    reason: &dyn Display,
    remedy: Option<&str>,
) {
    error!(target: TARGET, event = "reading_failed", server, protocol, %reason, remedy, "a mailbox cannot be read");
}

/// A mailbox can be read again.
pub(crate) fn reading_works(server: &str, protocol: &str) {
    info!(target: TARGET, event = "reading_works", server, protocol, "the mailbox can be read again");
}

/// A delivery report matches no message in the history, or more than one.
pub(crate) fn foreign_report(server: &str, report: &str) {
    info!(target: TARGET, event = "foreign_report", server, report,
        "no message in the history matches this delivery report; the report was left unchanged");
}

/// A delivery report was recorded, but the mail server refuses to mark, move or delete it.
pub(crate) fn report_stays(server: &str, wanted: &dyn Display, reason: &dyn Display) {
    warn!(target: TARGET, event = "report_stays", server, %wanted, %reason,
        "the bounce was recorded, but the mail server refused to change the report in the mailbox");
}

/// The delivery reports in a mailbox are read from now on.
pub(crate) fn reports_watched(server: &str) {
    info!(target: TARGET, event = "reports_watched", server, "reading the delivery reports in the mailbox");
}

/// Reading the delivery reports in a mailbox failed, although the sign-in succeeded.
pub(crate) fn reports_unread(server: &str, reason: &dyn Display) {
    error!(target: TARGET, event = "reports_unread", server, %reason,
        "reading the delivery reports failed; mailferry will try again");
}

/// A message in a watched mailbox cannot be read or compared with the history.
pub(crate) fn message_unread(server: &str, uid: u32, reason: &dyn Display) {
    warn!(target: TARGET, event = "message_unread", server, uid, %reason,
        "cannot examine a message in the mailbox; if it is a delivery report, the bounce was not recorded");
}

/// Tokens are stored for an account that no server uses.
pub(crate) fn tokens_unused(account: &str) {
    warn!(target: TARGET, event = "tokens_unused", account,
        "tokens are stored for an account that no server uses: was its [oauth] table or `account` renamed? `mailferry disconnect --unused` deletes them");
}

/// Somebody has signed in for a server.
pub(crate) fn signed_in(server: &str, user: &str) {
    info!(target: TARGET, event = "signed_in", server, user, "signed in");
}

/// A sign-in has ended without tokens.
pub(crate) fn sign_in_failed(server: &str, reason: &dyn Display) {
    warn!(target: TARGET, event = "sign_in_failed", server, %reason, "not signed in");
}

/// A server's tokens were deleted at an operator's request.
pub(crate) fn disconnected(server: &str) {
    info!(target: TARGET, event = "disconnected", server, "tokens deleted");
}

/// The vault was encrypted with a new key.
pub(crate) fn vault_rotated(accounts: usize) {
    info!(target: TARGET, event = "vault_rotated", accounts, "vault encrypted with a new key");
}

/// A browser has signed in with a link from `mailferry web`.
pub(crate) fn page_entered() {
    info!(target: TARGET, event = "page_entered", "web page: logged in with a link");
}

/// A person has logged in to the page: `by` is "password", or the provider's identifier of the person.
pub(crate) fn page_logged_in(name: &str, by: &str) {
    info!(target: TARGET, event = "page_logged_in", name, by, "web page: logged in");
}

/// Somebody tried to log in to the page with a wrong name or password.
pub(crate) fn page_refused(name: &str) {
    warn!(target: TARGET, event = "page_refused", name, "web page: wrong name or password");
}

/// A sign-in to the page at the OpenID provider did not succeed.
pub(crate) fn page_sign_in_failed(error: &str) {
    warn!(target: TARGET, event = "page_sign_in_failed", error, "web page: not logged in");
}

/// A person who signed in at the OpenID provider may not use the page.
pub(crate) fn page_not_admitted(name: &str, reason: &str) {
    warn!(target: TARGET, event = "page_not_admitted", name, reason, "web page: not an administrator or reader");
}

/// An operator's action was applied to messages; `ids` are the first of them, if they were named.
pub(crate) fn queue_action(action: &str, count: usize, ids: &str) {
    info!(target: TARGET, event = "queue_action", action, count, ids, "messages changed by an operator");
}

/// A person did something on the page; `on` is a server or a message.
pub(crate) fn page_action(name: &str, action: &str, on: &str) {
    info!(target: TARGET, event = "page_action", name, action, on, "web page: done by a person");
}

/// A problem needs a person; the configured channels send an alert.
pub(crate) fn alert(kind: &str, subject: &str, since: Timestamp, what: &str, remedy: &str) {
    error!(target: TARGET, event = "alert", kind, subject, %since, what, remedy, "alert");
}

/// The problem of an alert has ended.
pub(crate) fn alert_over(kind: &str, subject: &str, delivered: u64, waiting: usize) {
    info!(target: TARGET, event = "alert_over", kind, subject, delivered, waiting, "alert cleared");
}

/// An alert was sent.
pub(crate) fn alert_sent(channel: &str, title: &str) {
    info!(target: TARGET, event = "alert_sent", channel, title, "alert sent");
}

/// An alert could not be sent.
pub(crate) fn alert_failed(channel: &str, reason: &str) {
    error!(target: TARGET, event = "alert_failed", channel, reason, "alert not sent");
}

/// A client secret or certificate is about to expire, or has expired.
pub(crate) fn credential_expires(oauth: &str, expires: Timestamp) {
    warn!(target: TARGET, event = "credential_expires", oauth, expires = %expires, "the app's client secret or certificate expires soon, or has expired: make a new one and configure it");
}

/// A server is not used until this time; its mail stays queued.
pub(crate) fn server_held(server: &str, until: Timestamp, reason: &str) {
    error!(target: TARGET, event = "server_held", server, until = %until, reason, "server held, its mail stays queued");
}

/// A server is not used until an operator releases it.
pub(crate) fn server_held_by_hand(server: &str, reason: &str) {
    warn!(target: TARGET, event = "server_held", server, reason, "server held by hand, its mail stays queued");
}

/// A server is paused for a while; its mail stays queued.
pub(crate) fn server_slowed(server: &str, until: Timestamp, reason: &str) {
    warn!(target: TARGET, event = "server_slowed", server, until = %until, reason, "server paused, its mail stays queued");
}

/// A mailbox has more sessions, or sends faster, than the server allows.
pub(crate) fn server_crowded(server: &str, reason: &str) {
    warn!(target: TARGET, event = "server_crowded", server, reason, "over the server's limit, slowing down");
}

/// An upstream sent a reply that no rule explains.
pub(crate) fn unclassified(server: &str, answer: &dyn Display) {
    warn!(target: TARGET, event = "unclassified", server, reply = %answer, "unknown reply: its first digit decides whether it is temporary or permanent");
}

/// A tenant's mail to external recipients waits; other mail goes on.
pub(crate) fn external_held(tenant: &str, until: Timestamp, reason: &str) {
    error!(target: TARGET, event = "external_held", tenant, until = %until, reason,
        "mail to external recipients waits, mail within the tenant goes on");
}

/// A hold has ended, and one message tests whether the server can be used again.
pub(crate) fn server_probing(server: &str) {
    info!(target: TARGET, event = "server_probing", server, "the hold has ended, one message tests the server");
}

/// A server has proved to be usable again.
pub(crate) fn server_released(server: &str) {
    info!(target: TARGET, event = "server_released", server, "server in use again");
}

/// The outcomes of deliveries could not be written to the spool; the write is tried again.
pub(crate) fn finish_failed(count: usize, reason: &dyn Display) {
    error!(target: TARGET, event = "finish_failed", count, %reason, "cannot write to the spool, trying again; nothing is sent until that succeeds");
}

/// Another run of the program claimed a message while the message was being sent, so it may be sent twice.
pub(crate) fn claim_lost(id: MessageId) {
    warn!(target: TARGET, event = "claim_lost", %id, "another run of mailferry claimed this message while it was being sent; it may arrive twice");
}

/// Another node took a message over before it was sent here.
pub(crate) fn claim_taken(id: MessageId) {
    warn!(target: TARGET, event = "claim_taken", %id, "another node has taken this message over; it is not sent here");
}

/// The database that the nodes share does not answer.
pub(crate) fn heartbeat_failed(reason: &dyn Display) {
    error!(target: TARGET, event = "heartbeat_failed", %reason, "this node cannot tell the others that it is alive; it tries again");
}

/// This node could not tell the others that it stops.
pub(crate) fn not_left(reason: &dyn Display) {
    warn!(target: TARGET, event = "not_left", %reason, "this node could not tell the others that it stops; they find out by themselves");
}

/// The other nodes took over from this one.
pub(crate) fn node_taken_over() {
    warn!(target: TARGET, event = "node_taken_over", "the database had not heard from this node for a while, so the others have taken its messages over; it joins again");
}

/// This node took over from others.
pub(crate) fn node_dead(names: &str, messages: u64) {
    warn!(target: TARGET, event = "node_dead", names, messages, "a node has stopped without leaving; the other nodes take its messages over");
}

/// The spool can be written again, and all outcomes that were waiting are written.
pub(crate) fn finishes_written() {
    info!(target: TARGET, event = "finishes_written", "the spool can be written again, sending continues");
}

/// A message's record cannot be read. The message is set aside, and all other messages continue.
pub(crate) fn record_damaged(id: MessageId, reason: &dyn Display) {
    error!(target: TARGET, event = "record_damaged", %id, %reason,
        "the disk has damaged a message's record: `mailferry queue export` saves its content, `queue delete` removes it");
}

/// The database's log is damaged in the middle; `copy` is a copy of the whole log.
pub(crate) fn spool_log_damaged(commits: u64, copy: &Path) {
    error!(target: TARGET, event = "spool_log_damaged", commits, copy = %copy.display(),
        "the disk has damaged the log of spool.sqlite: the most recently accepted messages may be missing, and some delivered messages may be sent again");
}

/// Message contents without a record in the database were moved to this folder.
pub(crate) fn contents_without_rows(count: usize, folder: &Path) {
    warn!(target: TARGET, event = "contents_without_rows", count, folder = %folder.display(),
        "message contents without a record were moved to this folder: they arrived during a crash and were never accepted, or the disk has lost their records");
}

/// The queue could not be read; the read is tried again.
pub(crate) fn claim_failed(server: &str, reason: &dyn Display) {
    error!(target: TARGET, event = "claim_failed", server, %reason, "cannot read the spool, trying again");
}

/// The wall clock was set forward by this much, or back if `by` is negative.
pub(crate) fn clock_set(by: SignedDuration) {
    let how_far = humantime::format_duration(Duration::from_secs(by.unsigned_abs().as_secs()));
    let way = if by.is_negative() { "back" } else { "forward" };
    let by = format!("{way} {how_far}");
    warn!(target: TARGET, event = "clock_set", by, "the system clock changed; ages and retry times of queued messages stay as they were");
}

/// The configuration was read again, and is in force.
pub(crate) fn reloaded(path: &str) {
    info!(target: TARGET, event = "reloaded", path, "configuration reloaded");
}

/// No listener uses the socket that systemd passed under this name.
pub(crate) fn socket_unused(name: &str) {
    warn!(target: TARGET, event = "socket_unused", name,
        "systemd passed a socket that no [[listener]] uses, so clients that connect to it get no reply; add a [[listener]] with systemd = its name, or stop the .socket unit");
}

/// The members of the group cannot connect to the control socket.
pub(crate) fn group_not_admitted(group: &str, reason: &dyn Display) {
    warn!(target: TARGET, event = "group_not_admitted", group, %reason,
        "members of this group cannot use the control socket; add mailferry's user to the group. With systemd, the group must be the service's own: `systemctl edit mailferry`, and write [Service], Group= with this group, and SupplementaryGroups=mailferry");
}

/// The user that the program switched to cannot read the configuration.
pub(crate) fn unreadable_as(user: &str, reason: &dyn Display) {
    warn!(target: TARGET, event = "unreadable", user, %reason,
        "this user may not read the configuration, so a reload will fail, and renewed certificates are not noticed; give the user read access");
}

/// These keys have changed, but a running program keeps the old values.
pub(crate) fn needs_restart(keys: &str) {
    warn!(target: TARGET, event = "needs_restart", keys, "restart to apply the changes to these settings");
}

/// The configuration was read again and is invalid: the old one stays in force.
pub(crate) fn reload_failed(reason: &dyn Display) {
    error!(target: TARGET, event = "reload_failed", %reason, "configuration not reloaded, the old one stays in force");
}

/// This many lines were not written because standard error was not read.
pub(crate) fn lines_dropped(count: u64) {
    warn!(target: TARGET, event = "lines_dropped", count, "log lines are missing here: standard error was not read fast enough");
}

/// This node is being taken out of service.
pub(crate) fn draining() {
    info!(target: TARGET, event = "draining", "this node is being taken out of service: other nodes get its messages, and its listeners close soon");
}

/// Nothing is left on a node that is being taken out of service.
pub(crate) fn drained() {
    info!(target: TARGET, event = "drained", "this node is drained and can be stopped");
}

/// This node is in service again.
pub(crate) fn undrained() {
    info!(target: TARGET, event = "undrained", "this node is in service again");
}

/// The program is ending.
pub(crate) fn stopping(grace: Duration) {
    info!(target: TARGET, event = "stopping", grace_seconds = grace.as_secs(), "stopping: sessions and deliveries in progress have grace_seconds to finish");
}

/// The program has ended.
pub(crate) fn stopped() {
    info!(target: TARGET, event = "stopped", "stopped");
}
