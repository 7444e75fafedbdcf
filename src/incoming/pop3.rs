//! POP3 up to the sign-in: the AUTHORIZATION state (RFC 1939 §4, RFC 2449, RFC 5034). Pure.

use bytes::BytesMut;
use zeroize::Zeroizing;

use super::machine::{COMMAND, Event, Patience, Protection, SignInMachine, is_http, line};
use super::refused::Refused;
use crate::smtp::auth::{self, Credentials};
use crate::smtp::transcript::{self, Transcript};

/// The commands that are known, but allowed only after the sign-in.
const AFTER_SIGN_IN: [&str; 7] = ["STAT", "LIST", "RETR", "DELE", "RSET", "TOP", "UIDL"];

/// The machine of one POP3 session.
#[derive(Debug)]
pub struct Pop3Machine {
    protection: Protection,
    patience: Patience,
    output: Vec<u8>,
    transcript: Transcript,
    state: State,
}

/// The position in the conversation.
#[derive(Debug)]
enum State {
    /// A command is awaited; after USER, with the name.
    Command { user: Option<String> },
    /// The response to an AUTH challenge is awaited.
    Response(Step),
    /// The caller checks the credentials.
    Asked,
    /// The session is over; the reason is for the log.
    Closed(Option<Refused>),
}

/// The step of an AUTH exchange.
#[derive(Debug)]
enum Step {
    /// The only response of PLAIN.
    Plain,
    /// The name, of LOGIN.
    Name,
    /// The password, of LOGIN.
    Password { name: String },
}

impl Pop3Machine {
    /// A session that begins with the greeting. It offers no APOP, for which a password must be stored in clear.
    pub fn new(protection: Protection) -> Self {
        let mut machine = Self {
            patience: Patience::new(&protection),
            protection,
            output: Vec::new(),
            transcript: Transcript::default(),
            state: State::Command { user: None },
        };
        machine.say("+OK mailferry is ready");
        machine
    }

    fn say(&mut self, text: &str) {
        self.transcript.server(|| text.to_owned());
        self.output.extend_from_slice(text.as_bytes());
        self.output.extend_from_slice(b"\r\n");
    }

    /// Answers a command that failed.
    fn fail(&mut self, text: &str) {
        self.say(&format!("-ERR {text}"));
        if !self.patience.error() {
            self.close(&Refused::TooMany);
        }
    }

    /// The capabilities before the sign-in (RFC 2449 §5). After it, the mail server's own count.
    fn capabilities(&mut self) {
        self.say("+OK Capabilities follow");
        if self.protection.takes_passwords {
            self.say("USER");
            self.say("SASL PLAIN LOGIN");
        }
        if self.protection.offers_tls {
            self.say("STLS");
        }
        for name in [
            "RESP-CODES",
            "AUTH-RESP-CODE",
            "PIPELINING",
            "IMPLEMENTATION mailferry",
            ".",
        ] {
            self.say(name);
        }
    }

    fn command(&mut self, text: &str, user: Option<String>) -> Option<Event> {
        self.transcript.client(|| shown(text));
        if !self.patience.command() {
            self.close(&Refused::TooMany);
            return None;
        }
        if is_http(text) {
            self.close(&Refused::Http { protocol: "POP3" });
            return None;
        }
        let (name, argument) = text.split_once(' ').unwrap_or((text, ""));
        match name.to_ascii_uppercase().as_str() {
            "CAPA" => self.capabilities(),
            "NOOP" => self.say("+OK"),
            "QUIT" => {
                self.say("+OK Goodbye");
                self.state = State::Closed(None);
            }
            "STLS" if self.protection.offers_tls => {
                self.say("+OK Begin TLS negotiation");
                return Some(Event::StartTls);
            }
            "STLS" => self.fail("STLS is not available"),
            "USER" | "PASS" | "AUTH" if !self.protection.takes_passwords => {
                let why = Refused::NeedsTls { command: "STLS" };
                self.fail(&format!("{}{why}", why.pop3_code()));
                return Some(Event::Refused(why));
            }
            "USER" if argument.is_empty() => self.fail("Expected USER and a name"),
            "USER" => {
                self.state = State::Command {
                    user: Some(argument.to_owned()),
                };
                self.say("+OK Send the password");
            }
            "PASS" => match user {
                Some(name) => {
                    let password = argument.to_owned().into();
                    return Some(self.ask(Credentials { name, password }));
                }
                None => self.fail("Send USER first"),
            },
            "AUTH" => return self.auth(argument),
            known if AFTER_SIGN_IN.contains(&known) => self.fail("Sign in first"),
            _ => self.fail("Unknown command; this is POP3"),
        }
        None
    }

    /// AUTH without a mechanism lists the mechanisms, as clients older than RFC 5034 expect.
    fn auth(&mut self, argument: &str) -> Option<Event> {
        let (mechanism, initial) = match argument.split_once(' ') {
            Some((mechanism, response)) => (mechanism, Some(response)),
            None => (argument, None),
        };
        let (step, prompt) = match mechanism.to_ascii_uppercase().as_str() {
            "" => {
                for text in ["+OK Mechanisms follow", "PLAIN", "LOGIN", "."] {
                    self.say(text);
                }
                return None;
            }
            "PLAIN" => (Step::Plain, ""),
            "LOGIN" => (Step::Name, auth::USERNAME_PROMPT),
            _ => {
                self.fail("Only PLAIN and LOGIN are available");
                return None;
            }
        };
        match initial {
            Some(response) => self.response(step, response),
            None => self.challenge(step, prompt),
        }
    }

    fn challenge(&mut self, step: Step, prompt: &str) -> Option<Event> {
        self.say(&format!("+ {prompt}"));
        self.state = State::Response(step);
        None
    }

    /// Takes the client's response; `*` cancels the exchange (RFC 5034 §4).
    fn response(&mut self, step: Step, response: &str) -> Option<Event> {
        self.transcript.secret();
        if response == "*" {
            self.fail("AUTH cancelled");
            return None;
        }
        let credentials = match step {
            Step::Plain => auth::plain(response),
            Step::Name => match auth::decode(response) {
                Some(name) => {
                    return self.challenge(Step::Password { name }, auth::PASSWORD_PROMPT);
                }
                None => None,
            },
            Step::Password { name } => auth::decode(response).map(|password| Credentials {
                name,
                password: password.into(),
            }),
        };
        match credentials {
            Some(credentials) => Some(self.ask(credentials)),
            None => {
                self.fail("The response must be base64, and an authorization identity must be the user's own name");
                None
            }
        }
    }

    fn ask(&mut self, credentials: Credentials) -> Event {
        self.state = State::Asked;
        Event::SignIn(credentials)
    }
}

/// Returns a command as the log shows it, without secrets.
fn shown(text: &str) -> String {
    let (name, argument) = text.split_once(' ').unwrap_or((text, ""));
    match name.to_ascii_uppercase().as_str() {
        "PASS" => "PASS (secret)".to_owned(),
        "AUTH" if argument.is_empty() => "AUTH".to_owned(),
        "AUTH" => format!("AUTH {}", transcript::mechanism(argument.split(' '))),
        "USER" => format!("USER {}", argument.split(' ').next().unwrap_or_default()),
        "CAPA" | "NOOP" | "QUIT" | "STLS" => name.to_owned(),
        known if AFTER_SIGN_IN.contains(&known) => name.to_owned(),
        _ => transcript::unknown(),
    }
}

impl SignInMachine for Pop3Machine {
    fn next(&mut self, input: &mut BytesMut) -> Event {
        loop {
            match &mut self.state {
                State::Closed(why) => return Event::Close(why.take()),
                State::Asked => return Event::NeedInput,
                State::Command { .. } | State::Response(_) => {}
            }
            let Some(text) = line(input) else {
                if input.len() > COMMAND {
                    self.close(&Refused::TooLong);
                    continue;
                }
                return Event::NeedInput;
            };
            let text = Zeroizing::new(String::from_utf8_lossy(&text).into_owned());
            let next = State::Command { user: None };
            let event = match std::mem::replace(&mut self.state, next) {
                State::Response(step) => self.response(step, &text),
                State::Command { user } => self.command(&text, user),
                State::Asked | State::Closed(_) => None,
            };
            if let Some(event) = event {
                return event;
            }
        }
    }

    fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    fn transcript(&mut self) -> &mut Transcript {
        &mut self.transcript
    }

    fn tls_established(&mut self) {
        self.protection.offers_tls = false;
        self.protection.takes_passwords = true;
        self.state = State::Command { user: None };
    }

    fn signed_in(&mut self, greeting: Option<&str>) {
        self.say(&format!("+OK {}", greeting.unwrap_or("Signed in")));
        self.state = State::Closed(None);
    }

    fn refuse(&mut self, why: &Refused) {
        self.state = State::Command { user: None };
        self.fail(&format!("{}{why}", why.pop3_code()));
    }

    fn close(&mut self, why: &Refused) {
        self.say(&format!("-ERR {}{why}", why.pop3_code()));
        self.state = State::Closed(Some(why.clone()));
    }
}

/// What a client is told that the door turns away, in place of the greeting (RFC 2449 §8).
pub(super) fn farewell(why: &Refused) -> Vec<u8> {
    format!("-ERR {}{why}\r\n", why.pop3_code()).into_bytes()
}

#[cfg(test)]
mod tests;
