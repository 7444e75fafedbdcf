//! Parses one command line (RFC 5321 §4.1.1).

use crate::base::limits;
use crate::message::{Address, AddressError, Parameters, ReversePath};

/// A command with its argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// EHLO with the name that the client gives itself.
    Ehlo(String),
    /// HELO, the older form of EHLO.
    Helo(String),
    /// STARTTLS (RFC 3207).
    StartTls,
    /// AUTH (RFC 4954): the mechanism in capitals, the initial response in base64.
    Auth {
        /// `PLAIN`, `LOGIN`, ...
        mechanism: String,
        /// The initial response, if there is one.
        initial: Option<String>,
    },
    /// MAIL FROM.
    Mail(ReversePath, Parameters),
    /// RCPT TO.
    Rcpt(Address, Parameters),
    /// DATA.
    Data,
    /// RSET.
    Rset,
    /// NOOP.
    Noop,
    /// QUIT.
    Quit,
    /// VRFY.
    Vrfy,
    /// HELP.
    Help,
}

/// The reason why a line is not a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// An unknown verb.
    #[error("unknown command")]
    Unknown,
    /// An HTTP request. A web page can make a browser send one to a server that the page itself cannot reach.
    #[error("this is HTTP")]
    Http,
    /// A known verb with an argument of the wrong form. The value is the correct form.
    #[error("syntax: {0}")]
    Argument(&'static str),
    /// The path of MAIL is not an address.
    #[error(transparent)]
    Sender(AddressError),
    /// The path of RCPT is not an address.
    #[error(transparent)]
    Recipient(AddressError),
}

const MAIL: &str = "MAIL FROM:<address> [parameters]";
const RCPT: &str = "RCPT TO:<address> [parameters]";

/// Substitutes for addresses that a client omits.
#[derive(Debug, Clone, Default)]
pub struct Assumed {
    /// The sender for messages whose own sender is null or not an address.
    pub from: Option<Address>,
    /// The address of `<Postmaster>`.
    pub postmaster: Option<Address>,
}

/// Parses a line without its CRLF. Verbs are case-insensitive (RFC 5321 §2.4). `assumed.from` replaces a
/// sender that is null or not an address. `assumed.postmaster` replaces a recipient `<Postmaster>` without
/// a domain (RFC 5321 §4.5.1).
pub fn parse(line: &str, assumed: &Assumed) -> Result<Command, CommandError> {
    let assume_from = assumed.from.as_ref();
    let (verb, argument) = match line.split_once(' ') {
        Some((verb, argument)) => (verb, argument.trim()),
        None => (line.trim_end(), ""),
    };
    let bare = |command, usage| {
        if argument.is_empty() {
            Ok(command)
        } else {
            Err(CommandError::Argument(usage))
        }
    };
    match verb.to_ascii_uppercase().as_str() {
        "EHLO" => Ok(Command::Ehlo(name(argument))),
        "HELO" => Ok(Command::Helo(name(argument))),
        "STARTTLS" => bare(Command::StartTls, "STARTTLS"),
        "AUTH" => auth(argument),
        "MAIL" => {
            let (path, parameters) = match path_and_parameters(argument, "FROM:", MAIL) {
                Err(_) if assume_from.is_some() && is_nobody(argument) => {
                    ("", Parameters::default())
                }
                read => read?,
            };
            let sender = match (sender(path), assume_from) {
                (Ok(ReversePath::Null) | Err(_), Some(assumed)) => {
                    ReversePath::Mailbox(assumed.clone())
                }
                (sender, _) => sender.map_err(CommandError::Sender)?,
            };
            Ok(Command::Mail(sender, parameters))
        }
        "RCPT" => {
            let (path, parameters) = path_and_parameters(argument, "TO:", RCPT)?;
            let recipient = match &assumed.postmaster {
                Some(postmaster) if path.eq_ignore_ascii_case("postmaster") => postmaster.clone(),
                _ => address(path).map_err(CommandError::Recipient)?,
            };
            Ok(Command::Rcpt(recipient, parameters))
        }
        "DATA" => bare(Command::Data, "DATA"),
        "RSET" => bare(Command::Rset, "RSET"),
        "QUIT" => bare(Command::Quit, "QUIT"),
        "NOOP" => Ok(Command::Noop),
        "VRFY" | "EXPN" => Ok(Command::Vrfy),
        "HELP" => Ok(Command::Help),
        "CONNECT" | "DELETE" | "GET" | "HEAD" | "OPTIONS" | "PATCH" | "POST" | "PRI" | "PUT"
        | "TRACE" => Err(CommandError::Http),
        _ => Err(CommandError::Unknown),
    }
}

fn sender(path: &str) -> Result<ReversePath, AddressError> {
    match path {
        "" => Ok(ReversePath::Null),
        path => address(path).map(ReversePath::Mailbox),
    }
}

/// True for `MAIL FROM:` with nothing after it.
fn is_nobody(argument: &str) -> bool {
    argument.eq_ignore_ascii_case("FROM:")
}

/// Reads the name that a client gives itself: the first word of the argument. Some devices send several
/// words, or none. The name appears in `Received` and in logs. It therefore keeps only characters of host
/// names and address literals (and the underscores of real devices) and at most the length of a domain (RFC
/// 5321 §4.1.3, §4.5.3.1.2).
fn name(argument: &str) -> String {
    let word = argument.split_whitespace().next().unwrap_or_default();
    let is_harmless = |c: &char| c.is_ascii_alphanumeric() || ".-_:[]".contains(*c);
    word.chars()
        .filter(is_harmless)
        .take(limits::DOMAIN)
        .collect()
}

fn auth(argument: &str) -> Result<Command, CommandError> {
    let mut words = argument.split_ascii_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(mechanism), initial, None) => Ok(Command::Auth {
            mechanism: mechanism.to_ascii_uppercase(),
            initial: initial.map(str::to_owned),
        }),
        _ => Err(CommandError::Argument("AUTH mechanism [initial-response]")),
    }
}

/// Splits `FROM:<path> parameters`. Real clients put a space after the colon, and old devices omit the
/// brackets; RFC 5321 allows neither.
fn path_and_parameters<'a>(
    argument: &'a str,
    keyword: &str,
    usage: &'static str,
) -> Result<(&'a str, Parameters), CommandError> {
    let wrong = CommandError::Argument(usage);
    let after = match argument.get(..keyword.len()) {
        Some(start) if start.eq_ignore_ascii_case(keyword) => &argument[keyword.len()..],
        _ => return Err(wrong),
    };
    let after = after.trim_start_matches(' ');
    let Some(inner) = after.strip_prefix('<') else {
        let (path, rest) = after.split_once(' ').unwrap_or((after, ""));
        return if path.is_empty() || path.contains(['<', '>', '"']) {
            Err(wrong)
        } else {
            Ok((path, Parameters::parse(rest).ok_or(wrong)?))
        };
    };
    let Some(end) = closing_bracket(inner) else {
        return Err(wrong);
    };
    let (path, rest) = (&inner[..end], &inner[end + 1..]);
    if !rest.is_empty() && !rest.starts_with(' ') {
        return Err(wrong);
    }
    // Some clients put blanks inside the brackets.
    Ok((path.trim(), Parameters::parse(rest).ok_or(wrong)?))
}

/// Returns the position of the first `>` outside a quoted local part.
fn closing_bracket(inner: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (place, byte) in inner.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(place),
            _ => {}
        }
    }
    None
}

/// Parses an address and ignores a source route before it (RFC 5321 §4.1.1.3).
fn address(path: &str) -> Result<Address, AddressError> {
    let path = match path
        .strip_prefix('@')
        .and_then(|route| route.split_once(':'))
    {
        Some((_, address)) => address,
        None => path,
    };
    Address::parse(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(line: &str) -> Result<Command, CommandError> {
        super::parse(line, &Assumed::default())
    }

    fn sender(line: &str) -> String {
        match parse(line) {
            Ok(Command::Mail(sender, _)) => sender.to_string(),
            other => panic!("{line:?} gives {other:?}"),
        }
    }

    #[test]
    fn reads_senders_as_they_come() {
        assert_eq!(sender("MAIL FROM:<a@b.c>"), "a@b.c");
        assert_eq!(sender("mail from: <a@b.c> SIZE=5"), "a@b.c");
        assert_eq!(sender("MAIL FROM:<>"), "");
        assert_eq!(sender("MAIL FROM:<\"a>b c\"@b.c>"), "\"a>b c\"@b.c");
        assert_eq!(sender("MAIL FROM:<@r.net,@s.net:a@b.c>"), "a@b.c");
        assert_eq!(sender("MAIL FROM:<a@[192.0.2.1]>"), "a@[192.0.2.1]");
        assert_eq!(sender("MAIL FROM: a@b.c SIZE=5"), "a@b.c");
        assert_eq!(sender("MAIL FROM:< a@b.c >"), "a@b.c");
    }

    #[test]
    fn a_device_without_a_mailbox_is_given_one() {
        let assumed = Assumed {
            from: Some(Address::parse("scanner@b.c").unwrap()),
            postmaster: Some(Address::parse("postmaster@b.c").unwrap()),
        };
        let sender = |line| match super::parse(line, &assumed) {
            Ok(Command::Mail(sender, _)) => sender.to_string(),
            other => panic!("{line:?} gives {other:?}"),
        };
        for line in [
            "MAIL FROM:<>",
            "MAIL FROM:<scanner>",
            "MAIL FROM: Xerox",
            "MAIL FROM:",
        ] {
            assert_eq!(sender(line), "scanner@b.c", "{line:?}");
        }
        assert_eq!(sender("MAIL FROM:<a@b.c>"), "a@b.c");
        let Ok(Command::Mail(_, parameters)) = super::parse("MAIL FROM:<x> SIZE=5", &assumed)
        else {
            panic!("it is read");
        };
        assert_eq!(parameters.get("SIZE"), Some("5"));
        for line in [
            "MAIL FROM:<a@b.c>SIZE=1",
            "MAIL FROM:<a@b.c",
            "MAIL TO:<a@b.c>",
            "MAIL",
        ] {
            assert!(super::parse(line, &assumed).is_err(), "{line:?}");
        }
        assert!(super::parse("RCPT TO:<>", &assumed).is_err());
    }

    #[test]
    fn refuses_what_is_no_path() {
        for line in [
            "MAIL",
            "MAIL FROM",
            "MAIL FROM:",
            "MAIL FROM:a",
            "MAIL FROM:a@b.c>",
            "MAIL FROM:<a@b.c",
            "MAIL TO:<a@b.c>",
            "MAIL FROM:<a@b.c>SIZE=1",
            "MAIL FROM:<a@b.c> SIZE=",
            "MAIL FROM:<<a@b.c>>",
            "RCPT TO:<>",
            "MAIL FROM:<a>",
            "RCPT TO:<a b@c.d>",
        ] {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn reads_the_others() {
        assert_eq!(parse("ehlo x"), Ok(Command::Ehlo("x".into())));
        assert_eq!(parse("HELO"), Ok(Command::Helo(String::new())));
        assert_eq!(parse("HELO Room 7"), Ok(Command::Helo("Room".into())));
        assert_eq!(parse("quit "), Ok(Command::Quit));
        assert_eq!(parse("DATA now"), Err(CommandError::Argument("DATA")));
        assert_eq!(parse("FOO"), Err(CommandError::Unknown));
        assert_eq!(parse("POST / HTTP/1.1"), Err(CommandError::Http));
        assert_eq!(
            parse("auth plain AGEAYg=="),
            Ok(Command::Auth {
                mechanism: "PLAIN".into(),
                initial: Some("AGEAYg==".into())
            })
        );
    }

    /// smtp-proto parses the same commands. If both parsers understand a path, they must agree on it.
    #[test]
    fn agrees_with_another_parser() {
        use smtp_proto::request::receiver::RequestReceiver;
        for line in [
            "MAIL FROM:<a@b.c>",
            "MAIL FROM:<> SIZE=10",
            "MAIL FROM:<a.b+c@d-e.f> BODY=8BITMIME",
        ] {
            let bytes = format!("{line}\r\n");
            let mut receiver = RequestReceiver::default();
            let theirs = receiver.ingest(&mut bytes.as_bytes().iter());
            let Ok(smtp_proto::Request::Mail { from }) = theirs else {
                panic!("{line:?}: {theirs:?}");
            };
            assert_eq!(sender(line), from.address);
        }
    }

    proptest! {
        #[test]
        fn never_panics(line in "(MAIL FROM:|RCPT TO:|AUTH |EHLO )?[ -~é]{0,60}") {
            let _ = parse(&line);
        }
    }
}
