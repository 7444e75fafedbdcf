//! The dialogue of a session of any protocol, without secrets, for the log. Pure.

use super::reply::Reply;

/// The maximum number of lines that wait to be logged. While it is not known yet whether the session's user is
/// one whose dialogue is logged, lines wait.
const WAITING: usize = 200;

/// The commands that are logged. A line that begins with another word may be a password.
const COMMANDS: [&str; 14] = [
    "EHLO", "HELO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "QUIT", "VRFY", "EXPN", "HELP",
    "STARTTLS", "AUTH",
];

/// The SASL mechanisms whose names are logged. Another word may be a password.
const MECHANISMS: [&str; 6] = [
    "PLAIN",
    "LOGIN",
    "XOAUTH2",
    "CRAM-MD5",
    "NTLM",
    "OAUTHBEARER",
];

/// A line of the dialogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// True if the client sent it, false if we did.
    pub by_client: bool,
    /// The text, without secrets.
    pub text: String,
}

/// The lines of a dialogue that were not logged yet; `None` if the dialogue is not recorded.
#[derive(Debug, Default)]
pub struct Transcript(Option<Vec<Said>>);

impl Transcript {
    /// True if the dialogue is recorded.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Records the dialogue from now on, or stops recording it.
    pub fn switch(&mut self, on: bool) {
        if on {
            self.0.get_or_insert_default();
        } else {
            self.0 = None;
        }
    }

    /// Takes the recorded lines.
    pub fn take(&mut self) -> Vec<Said> {
        self.0.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn add(&mut self, by_client: bool, text: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.0
            && lines.len() < WAITING
        {
            let text = text();
            lines.push(Said { by_client, text });
        }
    }

    /// Records what the client sent, without its secrets.
    pub(crate) fn client(&mut self, text: impl FnOnce() -> String) {
        self.add(true, text);
    }

    /// Records what we sent.
    pub(crate) fn server(&mut self, text: impl FnOnce() -> String) {
        self.add(false, text);
    }

    /// Records a command of SMTP.
    pub(super) fn command(&mut self, line: &str) {
        self.client(|| masked(line));
    }

    /// Records that the client sent a line that is or may be a secret.
    pub(crate) fn secret(&mut self) {
        self.client(|| "(secret)".to_owned());
    }

    /// Records a message's content.
    pub(super) fn content(&mut self, octets: u64) {
        self.client(|| format!("(content, {octets} octets)"));
    }

    /// Records a reply.
    pub(super) fn reply(&mut self, reply: &Reply) {
        self.server(|| reply.to_string());
    }
}

/// Returns a command without its secrets.
fn masked(line: &str) -> String {
    let mut words = line.split_ascii_whitespace();
    let verb = words.next().unwrap_or_default().to_ascii_uppercase();
    if !COMMANDS.contains(&verb.as_str()) {
        return unknown();
    }
    match verb.as_str() {
        "AUTH" => format!("AUTH {}", mechanism(words)),
        _ => line.to_owned(),
    }
}

/// Returns the words after AUTH (SMTP, POP3) or AUTHENTICATE (IMAP), without a secret.
pub(crate) fn mechanism<'a>(mut words: impl Iterator<Item = &'a str>) -> String {
    // A client may send its response without the name of a mechanism.
    let mechanism = words.next().filter(|it| {
        MECHANISMS
            .iter()
            .any(|known| it.eq_ignore_ascii_case(known))
    });
    match (mechanism, words.next()) {
        (Some(mechanism), None) => mechanism.to_owned(),
        (Some(mechanism), Some(_)) => format!("{mechanism} (secret)"),
        (None, _) => "(secret)".to_owned(),
    }
}

/// Returns the words for a line that is no command. It may be a password, so its length is not shown either.
pub(crate) fn unknown() -> String {
    "(not a command)".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn secrets_are_masked() {
        assert_eq!(masked("AUTH PLAIN AGVycABzZWNyZXQ="), "AUTH PLAIN (secret)");
        assert_eq!(masked("auth login"), "AUTH login");
        assert_eq!(
            masked("AUTH\tPLAIN\tAGVycABzZWNyZXQ="),
            "AUTH PLAIN (secret)"
        );
        assert_eq!(masked("AUTH AGVycABzZWNyZXQ="), "AUTH (secret)");
        assert_eq!(masked("c2VjcmV0"), "(not a command)");
        assert_eq!(
            masked("MAIL FROM:<a@x.com> SIZE=5"),
            "MAIL FROM:<a@x.com> SIZE=5"
        );
    }

    #[test]
    fn what_is_off_records_nothing_and_what_is_on_has_a_bound() {
        let mut transcript = Transcript::default();
        transcript.command("NOOP");
        assert_eq!(transcript.take(), []);
        transcript.switch(true);
        (0..2 * WAITING).for_each(|_| transcript.command("NOOP"));
        assert_eq!(transcript.take().len(), WAITING);
        transcript.secret();
        assert_eq!(transcript.take()[0].text, "(secret)");
    }

    proptest! {
        #[test]
        fn an_initial_response_is_never_shown(mechanism in "[A-Za-z0-9]{0,9}", gap in "[ \t]{1,3}", secret in "[A-Za-z0-9+/=]{12,40}") {
            let shown = masked(&format!("AUTH{gap}{mechanism}{gap}{secret}"));
            prop_assert!(!shown.contains(&secret));
            prop_assert!(!masked(&secret).contains(&secret));
        }
    }
}
