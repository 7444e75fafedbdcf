//! The fixed limits, each with its unit and its source. Limits that an administrator may want to change are
//! settings in the configuration; only their defaults are here.

use std::time::Duration;

/// Octets in a command line with its CRLF. RFC 5321 §4.5.3.1.4 says 512, and each extension adds to it
/// (SIZE 26, AUTH= 500, ENVID 100, ORCPT 500, SMTPUTF8 addresses). This limit is generous, but still small.
pub(crate) const COMMAND_LINE: usize = 4_096;

/// Octets in an AUTH line or in a continuation of it (RFC 4954 §4).
pub(crate) const AUTH_LINE: usize = 12_288;

/// Octets in a reply line with its CRLF (RFC 5321 §4.5.3.1.5).
pub(crate) const REPLY_LINE: usize = 512;

/// Octets in a local part (RFC 5321 §4.5.3.1.1).
pub(crate) const LOCAL_PART: usize = 64;
/// Octets in a domain (RFC 5321 §4.5.3.1.2).
pub(crate) const DOMAIN: usize = 255;

/// Octets in a header section: the largest that Exchange's receive connectors accept (MaxHeaderSize).
pub(crate) const HEADER_SECTION: usize = 256 * 1024;

/// The number of `Received` fields at which a message counts as looping (RFC 5321 §6.3: at least 100).
pub(crate) const RECEIVED: usize = 100;

/// A body up to this size (octets) is kept in memory while it is received, and in the spool's database; a
/// larger one streams to a file. At 64 KiB, SQLite and one file per body are equally fast (16 writers). A
/// row is rewritten as a whole when its message is deferred, so it must stay small.
pub(crate) const BODY_IN_MEMORY: usize = 64 * 1024;

/// Octets read from a connection at a time.
pub(crate) const READ_CHUNK: usize = 8 * 1024;

/// Octets that are read at a time when a body in a file is sent.
pub(crate) const FILE_CHUNK: usize = 64 * 1024;

/// Default for the maximum message size in octets: a mailbox of Exchange Online accepts this size by default
/// (`transport/smtp/exchange_online.md`, "The SMTP session").
pub(crate) const MESSAGE_SIZE: u64 = 35 * 1024 * 1024;

/// Default for recipients in one message (RFC 5321 §4.5.3.1.8 requires at least 100; Exchange Online
/// accepts up to 1,000).
pub(crate) const RECIPIENTS: usize = 1_000;

/// Default for commands between two accepted messages. An app that sends this many commands but no message
/// is broken or hostile.
pub(crate) const COMMANDS: u32 = 2_000;

/// Default for failed commands in one session (Postfix: smtpd_hard_error_limit = 20).
pub(crate) const ERRORS: u32 = 20;

/// Default for the time for which a session may be silent (RFC 5321 §4.5.3.2.7: at least 5 minutes).
pub(crate) const IDLE_TIME: Duration = Duration::from_secs(300);

/// Default for a session's total time.
pub(crate) const SESSION_TIME: Duration = Duration::from_secs(3_600);

/// Default for simultaneous sessions, all listeners together.
pub(crate) const SESSIONS: usize = 10_000;

/// Default for simultaneous sessions of one address, and of one user: a tenth of all.
pub(crate) const SESSIONS_PER_ADDRESS: usize = 1_000;

/// The maximum length of a Message-ID by which a message can be found (octets): a line of RFC 5322 §2.1.1.
pub(crate) const MESSAGE_ID: usize = 998;

/// Default for the octets of memory that all arriving messages together may use.
pub(crate) const MEMORY: u64 = 256 * 1024 * 1024;

/// Default for the minimum rate of an arriving message (octets per second): a quarter of the speed of the
/// slowest line over which people still send mail (Postfix requires 500 under stress: smtpd_min_data_rate).
pub(crate) const MINIMUM_RATE: u64 = 100;

/// The minimum rate is not enforced during this time at the start of a message.
pub(crate) const RATE_GRACE: Duration = Duration::from_secs(60);

/// Default for the number of failed sign-ins after which an address is shut out. [`AUTH_TIME`] is both the
/// time in which the failures are counted and the time for which the address is shut out. fail2ban's defaults
/// are 5 in 10 minutes, for 10 minutes; this number is higher because apps retry.
pub(crate) const AUTH_FAILURES: u64 = 10;
/// See [`AUTH_FAILURES`].
pub(crate) const AUTH_TIME: Duration = Duration::from_secs(600);

/// The number of simultaneous clients that get a second to read why their session has ended.
pub(crate) const LINGERING: usize = 1_000;

/// The time that a TLS handshake may take.
pub(crate) const TLS_HANDSHAKE: Duration = Duration::from_secs(30);

/// Our timeouts as the client of a server, phase by phase (RFC 5321 §4.5.3.2).
pub(crate) mod upstream {
    use std::time::Duration;

    /// TCP connection, TLS handshake; RFC 5321 leaves this to the system.
    pub(crate) const CONNECT: Duration = Duration::from_secs(30);
    /// Initial 220 message (§4.5.3.2.1), and EHLO and AUTH, for which the RFC names no time.
    pub(crate) const GREETING: Duration = Duration::from_secs(300);
    /// MAIL, and RCPT (§4.5.3.2.2, §4.5.3.2.3).
    pub(crate) const ENVELOPE: Duration = Duration::from_secs(300);
    /// DATA until its 354 (§4.5.3.2.4).
    pub(crate) const DATA: Duration = Duration::from_secs(120);
    /// One block of the message (§4.5.3.2.5).
    pub(crate) const BLOCK: Duration = Duration::from_secs(180);
    /// The reply to the final dot (§4.5.3.2.6).
    pub(crate) const FINAL_DOT: Duration = Duration::from_secs(600);
    /// One more read after a timeout. If the machine was suspended during the timeout, the process may not
    /// have read the data that arrived.
    pub(crate) const LAST_CHECK: Duration = Duration::from_secs(1);
    /// QUIT: a courtesy, not worth waiting for.
    pub(crate) const QUIT: Duration = Duration::from_secs(5);
    /// The time for which an unused session is kept. This is well below the time after which servers close an
    /// unused session (Exchange Online: minutes).
    pub(crate) const KEEP: Duration = Duration::from_secs(30);
}
