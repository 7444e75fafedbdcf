//! The fixed limits, each with its unit and where it comes from. What an administrator may want to
//! change is a setting in the configuration and has its default here.

use std::time::Duration;

/// Octets in a command line with its CRLF. RFC 5321 §4.5.3.1.4 says 512, and each extension adds to
/// it (SIZE 26, AUTH= 500, ENVID 100, ORCPT 500, SMTPUTF8 addresses); generous, still small.
pub(crate) const COMMAND_LINE: usize = 4_096;

/// Octets in an AUTH line or in a continuation of it (RFC 4954 §4).
pub(crate) const AUTH_LINE: usize = 12_288;

/// Octets in a reply line with its CRLF (RFC 5321 §4.5.3.1.5).
pub(crate) const REPLY_LINE: usize = 512;

/// Octets in a local part and in a domain (RFC 5321 §4.5.3.1.1 and §4.5.3.1.2).
pub(crate) const LOCAL_PART: usize = 64;
/// See [`LOCAL_PART`].
pub(crate) const DOMAIN: usize = 255;

/// Octets in a header section: the largest that Exchange's receive connectors take (MaxHeaderSize).
pub(crate) const HEADER_SECTION: usize = 256 * 1024;

/// Received fields with which a message is taken to go in a circle (RFC 5321 §6.3: at least 100).
pub(crate) const RECEIVED: usize = 100;

/// A body up to this size (octets) is kept in the spool's database and in memory while it is
/// received; a larger one streams to a file. At 64 KiB SQLite and a file for each are equally fast
/// (16 writers), and a row is rewritten whole when its message is deferred, so it must stay small.
pub(crate) const BODY_IN_MEMORY: usize = 64 * 1024;

/// Octets read from a connection at a time.
pub(crate) const READ_CHUNK: usize = 8 * 1024;

/// Octets of a body that stands in a file, read at a time on its way out.
pub(crate) const FILE_CHUNK: usize = 64 * 1024;

/// Default message size in octets: what a mailbox of Exchange Online takes by default
/// (`transport/smtp/exchange_online.md`, "The SMTP session").
pub(crate) const MESSAGE_SIZE: u64 = 35 * 1024 * 1024;

/// Default for recipients in one message (RFC 5321 §4.5.3.1.8 asks for 100 at least; Exchange
/// Online takes up to 1,000).
pub(crate) const RECIPIENTS: usize = 1_000;

/// Default for commands between two accepted messages; an app that talks this long without sending
/// anything is lost or hostile.
pub(crate) const COMMANDS: u32 = 2_000;

/// Default for commands in error in one session (Postfix: smtpd_hard_error_limit = 20).
pub(crate) const ERRORS: u32 = 20;

/// Default for the time a session may be silent (RFC 5321 §4.5.3.2.7: 5 minutes at least).
pub(crate) const IDLE_TIME: Duration = Duration::from_secs(300);

/// Default for a session's total time.
pub(crate) const SESSION_TIME: Duration = Duration::from_secs(3_600);

/// Default for sessions at once, all listeners together.
pub(crate) const SESSIONS: usize = 10_000;

/// Default for sessions at once of one address, and of one user: a tenth of all.
pub(crate) const SESSIONS_PER_ADDRESS: usize = 1_000;

/// Default for the octets of memory that messages take while they come in, all together.
pub(crate) const MEMORY: u64 = 256 * 1024 * 1024;

/// Default for the octets a second that a message comes with at least: a quarter of the slowest line
/// that people still send mail over (Postfix asks for 500 under stress: smtpd_min_data_rate).
pub(crate) const MINIMUM_RATE: u64 = 100;

/// The minimum rate is not enforced during this time at the start of a message.
pub(crate) const RATE_GRACE: Duration = Duration::from_secs(60);

/// Default for the failed sign-ins that shut an address out, for the time in which they are counted,
/// and for how long it is shut out (fail2ban's own: 5 in 10 minutes, for 10 minutes; apps retry).
pub(crate) const AUTH_FAILURES: u64 = 10;
/// See [`AUTH_FAILURES`].
pub(crate) const AUTH_TIME: Duration = Duration::from_secs(600);

/// Clients at once that are given a second to read why their session is over.
pub(crate) const LEAVING: usize = 1_000;

/// How long a TLS handshake may take.
pub(crate) const TLS_HANDSHAKE: Duration = Duration::from_secs(30);

/// The waits of a client for its server, phase by phase (RFC 5321 §4.5.3.2).
pub(crate) mod upstream {
    use std::time::Duration;

    /// TCP connection, TLS handshake; RFC 5321 leaves this to the system.
    pub(crate) const CONNECT: Duration = Duration::from_secs(30);
    /// Initial 220 message (§4.5.3.2.1), and EHLO and AUTH, for which it names no time.
    pub(crate) const GREETING: Duration = Duration::from_secs(300);
    /// MAIL, and RCPT (§4.5.3.2.2, §4.5.3.2.3).
    pub(crate) const ENVELOPE: Duration = Duration::from_secs(300);
    /// DATA until its 354 (§4.5.3.2.4).
    pub(crate) const DATA: Duration = Duration::from_secs(120);
    /// One block of the message (§4.5.3.2.5).
    pub(crate) const BLOCK: Duration = Duration::from_secs(180);
    /// The reply to the final dot (§4.5.3.2.6).
    pub(crate) const FINAL_DOT: Duration = Duration::from_secs(600);
    /// One more look when a wait has ended. The whole process may have stood still for all of it, on a
    /// suspended machine, and what has come since was not looked at.
    pub(crate) const LAST_LOOK: Duration = Duration::from_secs(1);
    /// QUIT: a courtesy, not worth waiting for.
    pub(crate) const QUIT: Duration = Duration::from_secs(5);
    /// How long an unused session is kept: well before a server closes it (Exchange Online: minutes).
    pub(crate) const KEEP: Duration = Duration::from_secs(30);
}
