//! The replies of the protocol itself, each with the code and the enhanced code (RFC 3463) that the standard
//! defines for it. All other replies are in `submission/wording.rs`.

use std::borrow::Cow;

use crate::base::{MessageId, limits};

/// A reply: code, enhanced code, text. Lines of the text are separated by `\n`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The three digits of RFC 5321 §4.2.
    pub code: u16,
    /// The enhanced code, empty if the reply has none (220, 250 to EHLO, 334, 354).
    pub enhanced: Cow<'static, str>,
    /// The text.
    pub text: Cow<'static, str>,
}

impl Reply {
    /// Creates a reply with this text. Prefer a named reply below.
    pub fn new(
        code: u16,
        enhanced: impl Into<Cow<'static, str>>,
        text: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            code,
            enhanced: enhanced.into(),
            text: text.into(),
        }
    }

    /// True if the reply means yes (2yz) or go on (3yz).
    pub fn is_positive(&self) -> bool {
        self.code < 400
    }

    /// True for a positive completion reply, 2yz (RFC 5321 §4.2.1): the command has done its work.
    pub fn is_completion(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// True if the reply means try again later (4yz).
    pub fn is_transient(&self) -> bool {
        (400..500).contains(&self.code)
    }

    /// Writes the reply as lines of at most [`limits::REPLY_LINE`] octets. Control characters in the text
    /// become spaces, so the text cannot end a line.
    pub fn write(&self, out: &mut Vec<u8>) {
        let lead = 4 + if self.enhanced.is_empty() {
            0
        } else {
            self.enhanced.len() + 1
        };
        let room = limits::REPLY_LINE - 2 - lead;
        let lines: Vec<&str> = self
            .text
            .split('\n')
            .flat_map(|line| pieces(line, room))
            .collect();
        for (place, line) in lines.iter().enumerate() {
            let sign = if place + 1 == lines.len() { ' ' } else { '-' };
            out.extend_from_slice(format!("{}{sign}", self.code).as_bytes());
            if !self.enhanced.is_empty() {
                out.extend_from_slice(self.enhanced.as_bytes());
                out.push(b' ');
            }
            out.extend(
                line.chars()
                    .map(|c| if c.is_control() { ' ' } else { c })
                    .collect::<String>()
                    .bytes(),
            );
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Greets a new connection (RFC 5321 §3.1).
    pub fn greeting(host: &str) -> Self {
        Self::new(220, "", format!("{host} ESMTP mailferry ready"))
    }

    /// Answers EHLO with the host, then a line for each extension.
    pub fn extensions(host: &str, keywords: &[String]) -> Self {
        Self::new(
            250,
            "",
            format!("{host} at your service\n{}", keywords.join("\n")),
        )
    }

    /// Answers HELO.
    pub fn hello(host: &str) -> Self {
        Self::new(250, "", host.to_owned())
    }

    /// Answers RSET and NOOP.
    pub const fn ok() -> Self {
        Self::fixed(250, "2.0.0", "Ok")
    }

    /// Accepts MAIL.
    pub const fn sender_ok() -> Self {
        Self::fixed(250, "2.1.0", "Sender ok")
    }

    /// Accepts RCPT.
    pub const fn recipient_ok() -> Self {
        Self::fixed(250, "2.1.5", "Recipient ok")
    }

    /// Accepts DATA.
    pub const fn go_ahead() -> Self {
        Self::fixed(354, "", "Go ahead, end with <CRLF>.<CRLF>")
    }

    /// Accepts a message that is on stable storage.
    pub fn queued(id: MessageId) -> Self {
        Self::new(250, "2.0.0", format!("Ok: queued as {id}"))
    }

    /// Answers QUIT.
    pub const fn bye() -> Self {
        Self::fixed(221, "2.0.0", "Bye")
    }

    /// Accepts STARTTLS (RFC 3207).
    pub const fn ready_for_tls() -> Self {
        Self::fixed(220, "2.0.0", "Ready to start TLS")
    }

    /// Answers VRFY (RFC 5321 §7.3).
    pub const fn cannot_verify() -> Self {
        Self::fixed(
            252,
            "2.5.2",
            "Cannot VRFY user, but will accept message and attempt delivery",
        )
    }

    /// Answers HELP.
    pub const fn help() -> Self {
        Self::fixed(
            214,
            "2.0.0",
            "EHLO HELO STARTTLS AUTH MAIL RCPT DATA RSET NOOP VRFY QUIT",
        )
    }

    /// Sends a challenge of AUTH, which is already in base64.
    pub fn challenge(base64: &'static str) -> Self {
        Self::new(334, "", base64)
    }

    /// Accepts the name and password (RFC 4954 §4).
    pub const fn authenticated() -> Self {
        Self::fixed(235, "2.7.0", "Authentication successful")
    }

    /// Refuses a wrong name or password, without saying which of them is wrong.
    pub const fn bad_credentials() -> Self {
        Self::fixed(
            535,
            "5.7.8",
            "Authentication failed: wrong user or password",
        )
    }

    /// Confirms that the client cancelled AUTH with `*` (RFC 4954 §4).
    pub const fn auth_cancelled() -> Self {
        Self::fixed(501, "5.7.0", "Authentication cancelled")
    }

    /// Refuses an AUTH response that is not base64, or not in the mechanism's form.
    pub const fn auth_malformed() -> Self {
        Self::fixed(
            501,
            "5.5.2",
            "Malformed AUTH response: it must be base64, and an authorization identity must be the user's own name",
        )
    }

    /// Refuses an AUTH mechanism that is not offered (RFC 4954 §4).
    pub const fn auth_unknown_mechanism() -> Self {
        Self::fixed(
            504,
            "5.5.4",
            "Unknown mechanism: PLAIN and LOGIN are offered",
        )
    }

    /// Refuses AUTH because passwords cannot be checked just now (RFC 4954 §6).
    pub const fn auth_unavailable() -> Self {
        Self::fixed(454, "4.7.0", "Temporary authentication failure, try again")
    }

    /// Refuses a command that is allowed only after AUTH (RFC 4954 §6).
    pub const fn auth_required() -> Self {
        Self::fixed(530, "5.7.0", "Authentication required")
    }

    /// Refuses AUTH at a listener where no user may sign in.
    pub const fn auth_unavailable_here() -> Self {
        Self::fixed(502, "5.5.1", "AUTH is not available here")
    }

    /// Refuses a second AUTH (RFC 4954 §4).
    pub const fn authenticated_already() -> Self {
        Self::fixed(503, "5.5.1", "Already authenticated")
    }

    /// Refuses mail from an IP address that belongs to no user, at a listener without AUTH.
    pub const fn unknown_client() -> Self {
        Self::fixed(
            550,
            "5.7.1",
            "Your IP address is in no user's `networks`, and AUTH is not available here",
        )
    }

    /// Refuses a TLS handshake on a port that does not expect one (a handshake begins with 0x16 0x03, RFC
    /// 8446 §5.1).
    pub const fn tls_in_clear() -> Self {
        Self::fixed(
            421,
            "4.7.0",
            "This port does not start with TLS: set the app to STARTTLS or no TLS, or the listener's `tls` to \"implicit\"",
        )
    }

    /// Refuses a command that is allowed only inside TLS (RFC 3207 §4).
    pub const fn tls_required() -> Self {
        Self::fixed(530, "5.7.0", "Must issue a STARTTLS command first")
    }

    /// Refuses a password in clear (RFC 4954 §6).
    pub const fn encryption_required() -> Self {
        Self::fixed(
            538,
            "5.7.11",
            "Passwords are accepted only inside TLS: use STARTTLS first",
        )
    }

    /// Refuses STARTTLS if no certificate is configured, or if the session already has TLS.
    pub const fn tls_unavailable() -> Self {
        Self::fixed(502, "5.5.1", "STARTTLS is not available here")
    }

    /// Refuses STARTTLS after AUTH in clear.
    pub const fn tls_too_late() -> Self {
        Self::fixed(503, "5.5.1", "STARTTLS comes before AUTH, not after it")
    }

    /// Refuses an unknown verb.
    pub const fn unknown_command() -> Self {
        Self::fixed(500, "5.5.2", "Unknown command")
    }

    /// Refuses an HTTP request. Its body may contain commands that the browser's user has never seen.
    pub const fn not_http() -> Self {
        Self::fixed(421, "4.7.0", "This is SMTP and not HTTP, closing")
    }

    /// Refuses bytes that a command must not contain: a bare CR or LF, NUL, or text that is not UTF-8.
    pub const fn illegal_bytes() -> Self {
        Self::fixed(
            500,
            "5.5.2",
            "A command must be one line of UTF-8 text that ends in CRLF, without NUL, bare CR or LF",
        )
    }

    /// Refuses a line longer than [`limits::COMMAND_LINE`], or longer than [`limits::AUTH_LINE`] in AUTH.
    pub const fn line_too_long() -> Self {
        Self::fixed(500, "5.5.6", "Line too long")
    }

    /// Refuses a known command with a malformed argument; `usage` is the correct form.
    pub fn bad_argument(usage: &'static str) -> Self {
        Self::new(501, "5.5.4", format!("Syntax: {usage}"))
    }

    /// Refuses a path of MAIL or RCPT that is not an address; `what` is the reason.
    pub fn bad_address(sender: bool, what: impl std::fmt::Display) -> Self {
        Self::new(
            501,
            if sender { "5.1.7" } else { "5.1.3" },
            shortened(&what.to_string()),
        )
    }

    /// Refuses a parameter that is not offered (RFC 5321 §4.1.1.11).
    pub fn unknown_parameter(keyword: &str) -> Self {
        Self::new(
            555,
            "5.5.4",
            format!(
                "Parameter {} is not offered or its value is not understood",
                shortened(keyword)
            ),
        )
    }

    /// Refuses a command out of order; `first` is the command that must come before it.
    pub fn bad_sequence(first: &'static str) -> Self {
        Self::new(
            503,
            "5.5.1",
            format!("Bad sequence of commands: {first} first"),
        )
    }

    /// Refuses DATA after all recipients were refused.
    pub const fn no_valid_recipients() -> Self {
        Self::fixed(554, "5.5.1", "No valid recipients")
    }

    /// Refuses a recipient over the limit: the client sends the rest in another transaction (RFC 5321
    /// §4.5.3.1.10).
    pub const fn too_many_recipients() -> Self {
        Self::fixed(
            452,
            "4.5.3",
            "Too many recipients (setting `recipients`): send the rest in another message",
        )
    }

    /// Refuses a message because SIZE, or the message itself, is over the limit (RFC 1870 §6.1).
    pub fn too_large(limit: u64) -> Self {
        Self::new(
            552,
            "5.3.4",
            format!("Message too large: {limit} octets are allowed (setting `message_size`)"),
        )
    }

    /// Refuses a message with a bare CR or LF, if `bare_newlines = "reject"`.
    pub const fn bare_newline() -> Self {
        Self::fixed(
            550,
            "5.6.0",
            "The message has a bare CR or LF: lines must end in CRLF",
        )
    }

    /// Reports a failure on this host; the log has the reason.
    pub const fn try_again() -> Self {
        Self::fixed(451, "4.3.0", "Local error, try again later")
    }

    /// Disconnects a client that does not wait for replies, at a listener that requires clients to wait.
    pub const fn pipelined() -> Self {
        Self::fixed(
            421,
            "4.7.0",
            "PIPELINING is not offered here: wait for each reply, closing",
        )
    }

    /// Ends a session after too many commands without an accepted message.
    pub const fn too_many_commands() -> Self {
        Self::fixed(
            421,
            "4.7.0",
            "Too many commands without a message (setting `commands`), closing",
        )
    }

    /// Ends a session after too many failed commands.
    pub const fn too_many_errors() -> Self {
        Self::fixed(421, "4.7.0", "Too many errors (setting `errors`), closing")
    }

    const fn fixed(code: u16, enhanced: &'static str, text: &'static str) -> Self {
        Self {
            code,
            enhanced: Cow::Borrowed(enhanced),
            text: Cow::Borrowed(text),
        }
    }
}

/// Writes `550 5.7.1 text`, with the lines joined by a space, for logs and explanations.
impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.code)?;
        if !self.enhanced.is_empty() {
            write!(f, " {}", self.enhanced)?;
        }
        write!(f, " {}", self.text.replace('\n', " "))
    }
}

/// Returns the start of a client's text, short enough for a reply and for the log.
fn shortened(text: &str) -> String {
    const MOST: usize = 200;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Cuts a line into pieces of at most `room` octets, between characters.
fn pieces(line: &str, room: usize) -> impl Iterator<Item = &str> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let mut cut = line.len().min(room);
        while !line.is_char_boundary(cut) {
            cut -= 1;
        }
        rest = (cut < line.len()).then(|| &line[cut..]);
        Some(&line[..cut])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(reply: Reply) -> String {
        let mut out = Vec::new();
        reply.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn writes_one_line_and_several() {
        assert_eq!(written(Reply::ok()), "250 2.0.0 Ok\r\n");
        assert_eq!(
            written(Reply::new(550, "5.1.1", "a\nb")),
            "550-5.1.1 a\r\n550 5.1.1 b\r\n"
        );
        assert_eq!(
            written(Reply::challenge("VXNlcm5hbWU6")),
            "334 VXNlcm5hbWU6\r\n"
        );
        assert_eq!(written(Reply::challenge("")), "334 \r\n");
    }

    proptest! {
        #[test]
        fn lines_stay_short_and_whole(text in "\\PC{0,1500}|[\r\n -~]{0,50}") {
            let out = written(Reply::new(554, "5.0.0", text));
            prop_assert!(out.ends_with("\r\n"));
            for line in out[..out.len() - 2].split("\r\n") {
                prop_assert!(line.len() + 2 <= limits::REPLY_LINE && line.starts_with("554"));
                prop_assert!(!line.contains(['\r', '\n']));
            }
        }
    }
}
