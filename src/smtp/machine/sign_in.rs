//! The AUTH exchange (RFC 4954; LOGIN as common clients use it).

use super::{Event, Machine, Phase, Question};
use crate::smtp::auth::{self, Credentials};
use crate::smtp::reply::Reply;

impl Machine {
    /// Handles AUTH, with or without an initial response.
    pub(super) fn auth(&mut self, mechanism: &str, initial: Option<String>) -> Option<Event> {
        match (mechanism, initial) {
            ("PLAIN", Some(response)) => self.plain_response(&response),
            ("PLAIN", None) => self.challenge(Phase::PlainResponse, ""),
            ("LOGIN", Some(name)) => self.login_name(&name),
            ("LOGIN", None) => self.challenge(Phase::LoginName, auth::USERNAME_PROMPT),
            _ => {
                self.error(&Reply::auth_unknown_mechanism());
                None
            }
        }
    }

    fn challenge(&mut self, phase: Phase, prompt: &'static str) -> Option<Event> {
        self.phase = phase;
        self.reply(&Reply::challenge(prompt));
        None
    }

    fn plain_response(&mut self, response: &str) -> Option<Event> {
        match auth::plain(response) {
            Some(credentials) => self.authenticate(credentials),
            None => self.auth_malformed(),
        }
    }

    fn login_name(&mut self, response: &str) -> Option<Event> {
        match auth::decode(response) {
            Some(name) => self.challenge(Phase::LoginPassword { name }, auth::PASSWORD_PROMPT),
            None => self.auth_malformed(),
        }
    }

    fn auth_malformed(&mut self) -> Option<Event> {
        self.error(&Reply::auth_malformed());
        None
    }

    fn authenticate(&mut self, credentials: Credentials) -> Option<Event> {
        let name = credentials.name.clone();
        self.ask(
            Question::Authenticate { name },
            Event::Authenticate(credentials),
        )
    }

    /// Handles the next line of the exchange; `*` cancels it.
    pub(super) fn auth_response(&mut self, phase: Phase, text: &str) -> Option<Event> {
        match phase {
            _ if text == "*" => {
                self.error(&Reply::auth_cancelled());
                None
            }
            Phase::LoginName => self.login_name(text),
            Phase::LoginPassword { name } => match auth::decode(text) {
                Some(password) => self.authenticate(Credentials {
                    name,
                    password: password.into(),
                }),
                None => self.auth_malformed(),
            },
            _ => self.plain_response(text),
        }
    }
}
