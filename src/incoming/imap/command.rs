//! Parses a command of IMAP before the sign-in (RFC 9051 §9, RFC 3501 §9). Pure.

use zeroize::Zeroizing;

use crate::base::Secret;
use crate::smtp::transcript;

/// A part of a command: a line or piece of a line, or a literal. It may contain a password.
#[derive(Debug)]
pub(super) enum Part {
    /// Text without its line end, and without the announcement of a literal.
    Line(Zeroizing<Vec<u8>>),
    /// The octets of a literal.
    Literal(Zeroizing<Vec<u8>>),
}

/// The announcement of a literal at the end of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Literal {
    /// The number of octets; `u64::MAX` stands for more than fits.
    pub(super) octets: u64,
    /// True if the client waits for our consent; false for `{N+}` (RFC 7888).
    pub(super) is_awaiting: bool,
}

/// A command.
#[derive(Debug)]
pub(super) enum Command {
    Capability,
    Noop,
    Id,
    Logout,
    StartTls,
    Login {
        name: String,
        password: Secret,
    },
    Authenticate {
        mechanism: String,
        initial: Option<String>,
    },
    /// A command that is allowed only after the sign-in.
    AfterSignIn,
}

/// Commands that are known, but allowed only after the sign-in.
const AFTER_SIGN_IN: [&str; 25] = [
    "APPEND",
    "CHECK",
    "CLOSE",
    "COMPRESS",
    "COPY",
    "CREATE",
    "DELETE",
    "ENABLE",
    "EXAMINE",
    "EXPUNGE",
    "FETCH",
    "IDLE",
    "LIST",
    "LSUB",
    "MOVE",
    "NAMESPACE",
    "RENAME",
    "SEARCH",
    "SELECT",
    "STATUS",
    "STORE",
    "SUBSCRIBE",
    "UID",
    "UNSELECT",
    "UNSUBSCRIBE",
];

/// The commands that are allowed before the sign-in, and contain no secret.
const BEFORE_SIGN_IN: [&str; 5] = ["CAPABILITY", "NOOP", "ID", "LOGOUT", "STARTTLS"];

/// Returns a command as the log shows it: its name, without its arguments. Its tag is not shown, because it may be a
/// password that a client sends at the wrong moment.
pub(super) fn shown(parts: &[Part]) -> String {
    let mut words = Words::of(parts);
    words.atom();
    let name = words.atom().unwrap_or_default().to_ascii_uppercase();
    match name.as_str() {
        "LOGIN" => "LOGIN (secret)".to_owned(),
        "AUTHENTICATE" => {
            let words = [words.atom(), words.atom()];
            let words = words.iter().flatten().map(String::as_str);
            format!("AUTHENTICATE {}", transcript::mechanism(words))
        }
        known if BEFORE_SIGN_IN.contains(&known) || AFTER_SIGN_IN.contains(&known) => name,
        _ => transcript::unknown(),
    }
}

/// Returns an answer as the log shows it, without the command's tag.
pub(super) fn without_tag(answer: &str) -> String {
    match answer.split_once(' ') {
        Some((first, rest)) if first != "*" && first != "+" => rest.to_owned(),
        _ => answer.to_owned(),
    }
}

/// Splits a line into its text and the literal that it announces: `{N}` or `{N+}` at its end.
pub(super) fn split_literal(line: &[u8]) -> (&[u8], Option<Literal>) {
    let announced = || {
        let inside = line.strip_suffix(b"}")?;
        let start = memchr::memrchr(b'{', inside)?;
        let number = &inside[start + 1..];
        let (digits, is_awaiting) = match number.strip_suffix(b"+") {
            Some(digits) => (digits, false),
            None => (number, true),
        };
        let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        let text = std::str::from_utf8(digits).ok().filter(|_| is_number)?;
        let octets = text.parse().unwrap_or(u64::MAX);
        Some((
            &line[..start],
            Literal {
                octets,
                is_awaiting,
            },
        ))
    };
    match announced() {
        Some((text, literal)) => (text, Some(literal)),
        None => (line, None),
    }
}

/// The tag that a command begins with, if it has a valid one.
pub(super) fn tag(parts: &[Part]) -> Option<String> {
    let Some(Part::Line(line)) = parts.first() else {
        return None;
    };
    let tag = line.split(|octet| *octet == b' ').next()?;
    let is_valid = !tag.is_empty() && tag.len() <= 64 && tag.iter().all(|octet| is_tag(*octet));
    is_valid.then(|| String::from_utf8_lossy(tag).into_owned())
}

/// Parses a command with a valid tag.
pub(super) fn parse(parts: &[Part]) -> Result<Command, &'static str> {
    let mut words = Words::of(parts);
    words.atom();
    let name = words.atom().unwrap_or_default().to_ascii_uppercase();
    match name.as_str() {
        "CAPABILITY" => Ok(Command::Capability),
        "NOOP" => Ok(Command::Noop),
        "ID" => Ok(Command::Id),
        "LOGOUT" => Ok(Command::Logout),
        "STARTTLS" => Ok(Command::StartTls),
        "LOGIN" => {
            let (name, password) = (words.astring(), words.astring());
            match (name, password, words.is_at_end()) {
                (Some(name), Some(password), true) => Ok(Command::Login {
                    name: name.to_string(),
                    password: password.to_string().into(),
                }),
                _ => Err("Expected LOGIN, a user name and a password; put each into quotes"),
            }
        }
        "AUTHENTICATE" => {
            let mechanism = words.atom().map(|name| name.to_ascii_uppercase());
            let initial = words.atom();
            match (mechanism, words.is_at_end()) {
                (Some(mechanism), true) => Ok(Command::Authenticate { mechanism, initial }),
                _ => Err("Expected AUTHENTICATE and a mechanism"),
            }
        }
        known if AFTER_SIGN_IN.contains(&known) => Ok(Command::AfterSignIn),
        "" => Err("A command has a name after its tag"),
        _ => Err("Unknown command"),
    }
}

/// True if a tag may have this octet (`tag` in RFC 9051 §9).
fn is_tag(octet: u8) -> bool {
    octet.is_ascii_graphic() && !b"(){%*\"\\+".contains(&octet)
}

/// The words of a command.
struct Words<'a> {
    parts: &'a [Part],
    /// The rest of the first part, if that is a line.
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    fn of(parts: &'a [Part]) -> Self {
        let mut words = Self { parts, rest: b"" };
        words.enter();
        words
    }

    /// Begins with the first of the parts, if it is a line.
    fn enter(&mut self) {
        self.rest = match self.parts.first() {
            Some(Part::Line(line)) => line,
            _ => b"",
        };
    }

    /// The next word, up to a space.
    fn atom(&mut self) -> Option<String> {
        let end = memchr::memchr(b' ', self.rest).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.strip_prefix(b" ").unwrap_or(rest);
        let word = std::str::from_utf8(word).ok()?;
        (!word.is_empty()).then(|| word.to_owned())
    }

    /// An atom, a quoted string or a literal (`astring` in RFC 9051 §9).
    fn astring(&mut self) -> Option<Zeroizing<String>> {
        if self.rest.is_empty() {
            return self.literal();
        }
        if let Some(quoted) = self.rest.strip_prefix(b"\"") {
            return self.quoted(quoted);
        }
        self.atom().map(Zeroizing::new)
    }

    fn literal(&mut self) -> Option<Zeroizing<String>> {
        let [_, Part::Literal(octets), after @ ..] = self.parts else {
            return None;
        };
        let text = Zeroizing::new(std::str::from_utf8(octets).ok()?.to_owned());
        self.parts = after;
        self.enter();
        self.rest = self.rest.strip_prefix(b" ").unwrap_or(self.rest);
        Some(text)
    }

    fn quoted(&mut self, quoted: &'a [u8]) -> Option<Zeroizing<String>> {
        let mut text = Zeroizing::new(Vec::new());
        let mut octets = quoted.iter().enumerate();
        loop {
            match octets.next()? {
                (_, b'\\') => text.push(*octets.next()?.1),
                (at, b'"') => {
                    let rest = &quoted[at + 1..];
                    self.rest = match rest.first() {
                        None => rest,
                        Some(b' ') => &rest[1..],
                        Some(_) => return None,
                    };
                    let text = std::str::from_utf8(&text).ok()?.to_owned();
                    return Some(Zeroizing::new(text));
                }
                (_, octet) => text.push(*octet),
            }
        }
    }

    fn is_at_end(&self) -> bool {
        self.rest.is_empty() && self.parts.len() <= 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(line: &str) -> String {
        super::shown(&[Part::Line(line.as_bytes().to_vec().into())])
    }

    #[test]
    fn the_log_shows_the_name() {
        assert_eq!(shown("a1 login erp hunter2"), "LOGIN (secret)");
        assert_eq!(
            shown("a1 AUTHENTICATE PLAIN AGVy"),
            "AUTHENTICATE PLAIN (secret)"
        );
        assert_eq!(shown("a1 AUTHENTICATE LOGIN"), "AUTHENTICATE LOGIN");
        assert_eq!(shown("a1 AUTHENTICATE AGVy"), "AUTHENTICATE (secret)");
        assert_eq!(shown("a1 ID (\"name\" \"x\")"), "ID");
        assert_eq!(shown("a1 SELECT INBOX"), "SELECT");
        assert_eq!(shown("hunter2"), "(not a command)");
    }

    proptest! {
        #[test]
        fn an_argument_is_never_shown(name in "[A-Za-z]{0,12}", gap in "[ \t]{1,2}", secret in "[a-z0-9+/=]{17,40}") {
            let lines = [format!("a1{gap}{name}{gap}{secret}"), format!("{secret}{gap}{name}x"), secret.clone()];
            for line in lines {
                let shown = shown(&line);
                prop_assert!(!shown.contains(&secret), "{}", shown);
            }
        }
    }
}
