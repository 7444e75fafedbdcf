//! The conversation of a protocol up to the sign-in. After it, octets are only passed through. Pure.

use bytes::BytesMut;

use super::refused::Refused;
use crate::smtp::Transcript;
use crate::smtp::auth::Credentials;

/// The maximum number of octets of one command, its literals included. A sign-in needs a few hundred.
pub(super) const COMMAND: usize = 8 * 1024;

/// The request of the machine to its caller.
#[derive(Debug)]
pub enum Event {
    /// The machine needs more input.
    NeedInput,
    /// Send the output, drop the remaining input (RFC 2595 §4), do the TLS handshake, then call
    /// [`SignInMachine::tls_established`].
    StartTls,
    /// Check the credentials and reach the mailbox, then call [`SignInMachine::signed_in`] or
    /// [`SignInMachine::refuse`].
    SignIn(Credentials),
    /// Log that a command was refused for this reason; the session continues.
    Refused(Refused),
    /// Send the output, then close the connection. The reason is for the log; `None` if the client is done.
    Close(Option<Refused>),
}

/// The properties of a session that its sign-in depends on.
#[derive(Debug, Clone, Copy)]
pub struct Protection {
    /// True if the client may start TLS.
    pub offers_tls: bool,
    /// True if passwords are accepted now.
    pub takes_passwords: bool,
    /// The maximum number of commands that may fail, sign-ins included.
    pub errors: u32,
    /// The maximum number of commands before the sign-in.
    pub commands: u32,
}

/// The conversation of a protocol up to the sign-in. It performs no I/O: it takes octets and returns events
/// and octets.
pub trait SignInMachine: Send + Sync {
    /// Processes input until something is to be done. Consumed octets are removed from `input`.
    fn next(&mut self, input: &mut BytesMut) -> Event;

    /// Removes and returns the output so far.
    fn take_output(&mut self) -> Vec<u8>;

    /// Returns the record of the dialogue.
    fn transcript(&mut self) -> &mut Transcript;

    /// Continues after the TLS handshake.
    fn tls_established(&mut self);

    /// Tells the client that the sign-in succeeded. `greeting` is the capability list or the text of the
    /// mail server's own answer, if it gave one.
    fn signed_in(&mut self, greeting: Option<&str>);

    /// Tells the client why the sign-in did not succeed. The client may try again.
    fn refuse(&mut self, why: &Refused);

    /// Tells the client why the session ends. The next event is [`Event::Close`].
    fn close(&mut self, why: &Refused);
}

/// Counts commands and failures. A session with too many of either ends.
#[derive(Debug)]
pub(super) struct Patience {
    errors: u32,
    commands: u32,
}

impl Patience {
    pub(super) fn new(protection: &Protection) -> Self {
        Self {
            errors: protection.errors,
            commands: protection.commands,
        }
    }

    /// Counts a command. Returns false if it is one too many.
    pub(super) fn command(&mut self) -> bool {
        let is_allowed = self.commands > 0;
        self.commands = self.commands.saturating_sub(1);
        is_allowed
    }

    /// Counts a failed command. Returns false if it was the last one that is allowed.
    pub(super) fn error(&mut self) -> bool {
        self.errors = self.errors.saturating_sub(1);
        self.errors > 0
    }
}

/// True for the first line of an HTTP request. A web page can make a browser send one to a server that the page
/// itself cannot reach, with commands in its body.
pub(super) fn is_http(line: &str) -> bool {
    let mut words = line.split(' ');
    words.clone().count() == 3 && words.nth(2).is_some_and(|word| word.starts_with("HTTP/"))
}

/// Removes the next line from `input`, without its CRLF or LF. `None` if there is no whole line yet.
pub(super) fn line(input: &mut BytesMut) -> Option<BytesMut> {
    let end = memchr::memchr(b'\n', input)?;
    let mut line = input.split_to(end + 1);
    line.truncate(end);
    if line.ends_with(b"\r") {
        line.truncate(end - 1);
    }
    Some(line)
}

/// The parts that the tests of both machines share.
#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::base::secret::ExposeSecret;

    pub(in crate::incoming) fn protection(offers_tls: bool, takes_passwords: bool) -> Protection {
        Protection {
            offers_tls,
            takes_passwords,
            errors: 3,
            commands: 20,
        }
    }

    /// Feeds the input in pieces. Returns the output, with each event in braces; sign-ins are refused.
    pub(in crate::incoming) fn talk(mut machine: impl SignInMachine, pieces: &[&[u8]]) -> String {
        let (mut input, mut said) = (BytesMut::new(), String::new());
        for piece in [&b""[..]].iter().chain(pieces) {
            input.extend_from_slice(piece);
            loop {
                let event = machine.next(&mut input);
                said += &String::from_utf8(machine.take_output()).unwrap();
                match event {
                    Event::NeedInput => break,
                    Event::StartTls => {
                        said += "{TLS}\r\n";
                        input.clear();
                        machine.tls_established();
                    }
                    Event::SignIn(Credentials { name, password }) => {
                        said += &format!("{{{name}:{}}}\r\n", password.expose_secret());
                        machine.refuse(&Refused::Wrong);
                    }
                    Event::Close(_) => return said + "{close}",
                    Event::Refused(_) => {}
                }
            }
        }
        said
    }
}
