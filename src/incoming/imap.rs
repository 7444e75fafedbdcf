//! IMAP up to the sign-in: the not authenticated state (RFC 9051 §3.1, RFC 3501 §3.1). Pure.

mod command;

use bytes::BytesMut;
use command::{Command, Part};

use super::machine::{COMMAND, Event, Patience, Protection, SignInMachine, is_http, line};
use super::refused::Refused;
use crate::smtp::Transcript;
use crate::smtp::auth::{self, Credentials};

/// The machine of one IMAP session.
#[derive(Debug)]
pub struct ImapMachine {
    protection: Protection,
    patience: Patience,
    output: Vec<u8>,
    transcript: Transcript,
    state: State,
}

/// The position in the conversation.
#[derive(Debug)]
enum State {
    /// A command arrives.
    Command(Arriving),
    /// The response to an AUTHENTICATE challenge is awaited.
    Response { tag: String, step: Step },
    /// The caller checks the credentials of the command with this tag.
    Asked { tag: String },
    /// The session is over; the reason is for the log.
    Closed(Option<Refused>),
}

/// A command of which some parts have arrived.
#[derive(Debug, Default)]
struct Arriving {
    parts: Vec<Part>,
    octets: usize,
    /// Octets of the current literal that have not arrived.
    literal: Option<usize>,
}

/// The step of an AUTHENTICATE exchange.
#[derive(Debug)]
enum Step {
    /// The only response of PLAIN.
    Plain,
    /// The name, of LOGIN.
    Name,
    /// The password, of LOGIN.
    Password { name: String },
}

impl ImapMachine {
    /// A session that begins with the greeting.
    pub fn new(protection: Protection) -> Self {
        let mut machine = Self {
            patience: Patience::new(&protection),
            protection,
            output: Vec::new(),
            transcript: Transcript::default(),
            state: State::Command(Arriving::default()),
        };
        let greeting = format!("* OK [{}] mailferry is ready", machine.capabilities());
        machine.say(&greeting);
        machine
    }

    /// The capabilities before the sign-in (RFC 9051 §7.2.2). After it, the mail server's own count.
    fn capabilities(&self) -> String {
        let mut list = String::from("CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID");
        if self.protection.offers_tls {
            list.push_str(" STARTTLS");
        }
        list.push_str(match self.protection.takes_passwords {
            true => " AUTH=PLAIN AUTH=LOGIN",
            false => " LOGINDISABLED",
        });
        list
    }

    fn say(&mut self, text: &str) {
        self.transcript.server(|| command::without_tag(text));
        self.output.extend_from_slice(text.as_bytes());
        self.output.extend_from_slice(b"\r\n");
    }

    /// Answers a command that failed.
    fn fail(&mut self, answer: &str) {
        self.say(answer);
        if !self.patience.error() {
            self.close(&Refused::TooMany);
        }
    }

    /// Takes the next part of a command. Returns the whole command once its last line has arrived.
    fn arrive(&mut self, input: &mut BytesMut) -> Option<Vec<Part>> {
        loop {
            let State::Command(arriving) = &mut self.state else {
                return None;
            };
            if let Some(left) = arriving.literal {
                if input.len() < left {
                    return None;
                }
                let octets = input.split_to(left).to_vec();
                arriving.parts.push(Part::Literal(octets.into()));
                arriving.literal = None;
            }
            let Some(text) = line(input) else {
                if arriving.octets + input.len() > COMMAND {
                    self.close(&Refused::TooLong);
                }
                return None;
            };
            arriving.octets += text.len();
            if arriving.octets > COMMAND {
                self.close(&Refused::TooLong);
                return None;
            }
            let (text, literal) = command::split_literal(&text);
            arriving.parts.push(Part::Line(text.to_vec().into()));
            let Some(literal) = literal else {
                let arrived = std::mem::take(arriving);
                return Some(arrived.parts);
            };
            let fits = literal.octets <= (COMMAND - arriving.octets) as u64;
            if !fits {
                self.refuse_literal(literal.is_awaiting);
                continue;
            }
            arriving.octets += literal.octets as usize;
            arriving.literal = Some(literal.octets as usize);
            if literal.is_awaiting {
                self.say("+ Ready for the literal");
            }
        }
    }

    /// A client that waits for our consent sends no literal after a refusal. One that does not wait is sending
    /// it already, so the session ends (RFC 7888 §4).
    fn refuse_literal(&mut self, is_awaiting: bool) {
        let State::Command(arriving) = &mut self.state else {
            return;
        };
        let arrived = std::mem::take(arriving);
        match command::tag(&arrived.parts) {
            Some(tag) if is_awaiting => {
                self.fail(&format!("{tag} BAD [TOOBIG] The literal is too long"))
            }
            _ => self.close(&Refused::TooLong),
        }
    }

    fn command(&mut self, parts: &[Part]) -> Option<Event> {
        let Some(tag) = command::tag(parts) else {
            self.fail("* BAD A command begins with a tag, such as a1");
            return None;
        };
        if let [Part::Line(line)] = parts
            && is_http(&String::from_utf8_lossy(line))
        {
            self.close(&Refused::Http { protocol: "IMAP" });
            return None;
        }
        if !self.patience.command() {
            self.close(&Refused::TooMany);
            return None;
        }
        match command::parse(parts) {
            Ok(Command::Capability) => {
                self.say(&format!("* {}", self.capabilities()));
                self.say(&format!("{tag} OK CAPABILITY completed"));
            }
            Ok(Command::Noop) => self.say(&format!("{tag} OK NOOP completed")),
            Ok(Command::Id) => {
                self.say("* ID (\"name\" \"mailferry\")");
                self.say(&format!("{tag} OK ID completed"));
            }
            Ok(Command::Logout) => {
                self.say("* BYE Goodbye");
                self.say(&format!("{tag} OK LOGOUT completed"));
                self.state = State::Closed(None);
            }
            Ok(Command::StartTls) if self.protection.offers_tls => {
                self.say(&format!("{tag} OK Begin TLS negotiation now"));
                return Some(Event::StartTls);
            }
            Ok(Command::StartTls) => self.fail(&format!("{tag} BAD STARTTLS is not available")),
            Ok(Command::Login { .. } | Command::Authenticate { .. })
                if !self.protection.takes_passwords =>
            {
                let why = Refused::NeedsTls {
                    command: "STARTTLS",
                };
                self.fail(&format!("{tag} NO {}{why}", why.imap_code()));
                return Some(Event::Refused(why));
            }
            Ok(Command::Login { name, password }) => {
                return Some(self.ask(tag, Credentials { name, password }));
            }
            Ok(Command::Authenticate { mechanism, initial }) => {
                return self.authenticate(tag, &mechanism, initial);
            }
            Ok(Command::AfterSignIn) => self.fail(&format!("{tag} BAD Sign in first")),
            Err(why) => self.fail(&format!("{tag} BAD {why}")),
        }
        None
    }

    fn ask(&mut self, tag: String, credentials: Credentials) -> Event {
        self.state = State::Asked { tag };
        Event::SignIn(credentials)
    }

    fn authenticate(
        &mut self,
        tag: String,
        mechanism: &str,
        initial: Option<String>,
    ) -> Option<Event> {
        let (step, prompt) = match mechanism {
            "PLAIN" => (Step::Plain, ""),
            "LOGIN" => (Step::Name, auth::USERNAME_PROMPT),
            _ => {
                self.fail(&format!(
                    "{tag} NO [CANNOT] Only PLAIN and LOGIN are available"
                ));
                return None;
            }
        };
        match initial {
            Some(response) => self.response(tag, step, &response),
            None => self.challenge(tag, step, prompt),
        }
    }

    fn challenge(&mut self, tag: String, step: Step, prompt: &str) -> Option<Event> {
        self.say(&format!("+ {prompt}"));
        self.state = State::Response { tag, step };
        None
    }

    /// Takes the client's response; `*` cancels the exchange (RFC 9051 §6.2.2).
    fn response(&mut self, tag: String, step: Step, response: &str) -> Option<Event> {
        self.transcript.secret();
        if response == "*" {
            self.fail(&format!("{tag} BAD AUTHENTICATE cancelled"));
            return None;
        }
        let credentials = match step {
            Step::Plain => auth::plain(response),
            Step::Name => match auth::decode(response) {
                Some(name) => {
                    return self.challenge(tag, Step::Password { name }, auth::PASSWORD_PROMPT);
                }
                None => None,
            },
            Step::Password { name } => auth::decode(response).map(|password| Credentials {
                name,
                password: password.into(),
            }),
        };
        match credentials {
            Some(credentials) => Some(self.ask(tag, credentials)),
            None => {
                let words = "The response must be base64, and an authorization identity must be the user's own name";
                self.fail(&format!("{tag} BAD {words}"));
                None
            }
        }
    }

    fn wants_next_command(&mut self) {
        self.state = State::Command(Arriving::default());
    }
}

impl SignInMachine for ImapMachine {
    fn next(&mut self, input: &mut BytesMut) -> Event {
        loop {
            let event = match &mut self.state {
                State::Closed(why) => return Event::Close(why.take()),
                State::Asked { .. } => return Event::NeedInput,
                State::Response { .. } => {
                    let Some(text) = line(input) else {
                        if input.len() > COMMAND {
                            self.close(&Refused::TooLong);
                            continue;
                        }
                        return Event::NeedInput;
                    };
                    let next = State::Command(Arriving::default());
                    let State::Response { tag, step } = std::mem::replace(&mut self.state, next)
                    else {
                        continue;
                    };
                    let response =
                        zeroize::Zeroizing::new(String::from_utf8_lossy(&text).into_owned());
                    self.response(tag, step, &response)
                }
                State::Command(_) => match self.arrive(input) {
                    Some(parts) => {
                        self.transcript.client(|| command::shown(&parts));
                        self.command(&parts)
                    }
                    None if matches!(self.state, State::Closed(_)) => continue,
                    None => return Event::NeedInput,
                },
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
        self.wants_next_command();
    }

    fn signed_in(&mut self, capabilities: Option<&str>) {
        if let State::Asked { tag } = std::mem::replace(&mut self.state, State::Closed(None)) {
            let code = capabilities.map_or(String::new(), |list| format!("[CAPABILITY {list}] "));
            self.say(&format!("{tag} OK {code}Signed in"));
        }
    }

    fn refuse(&mut self, why: &Refused) {
        let next = State::Command(Arriving::default());
        if let State::Asked { tag } = std::mem::replace(&mut self.state, next) {
            self.fail(&format!("{tag} NO {}{why}", why.imap_code()));
        }
    }

    fn close(&mut self, why: &Refused) {
        let text = format!("* BYE {}{why}", why.imap_code());
        self.say(&text);
        self.state = State::Closed(Some(why.clone()));
    }
}

/// What a client is told that the door turns away, in place of the greeting (RFC 9051 §7.1.5).
pub(super) fn farewell(why: &Refused) -> Vec<u8> {
    format!("* BYE {}{why}\r\n", why.imap_code()).into_bytes()
}

#[cfg(test)]
mod tests;
