//! Questions at the terminal.

use std::io::Write;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::message::Address;

/// A conversation with a person. Without a terminal nobody is asked, and the defaults are the answers.
pub(super) struct Talk {
    is_terminal: bool,
}

impl Talk {
    pub(super) fn new(is_terminal: bool) -> Self {
        Self { is_terminal }
    }

    /// Asks a question. An empty answer means the default.
    pub(super) fn ask(&mut self, question: &str, default: &str) -> Result<String, String> {
        if !self.is_terminal {
            return Ok(default.to_owned());
        }
        match default {
            "" => print!("{question}: "),
            default => print!("{question} [{default}]: "),
        }
        let failed = |error: std::io::Error| error.to_string();
        std::io::stdout().flush().map_err(failed)?;
        let mut line = String::new();
        if std::io::stdin().read_line(&mut line).map_err(failed)? == 0 {
            return Err("the input ended before the last question".to_owned());
        }
        Ok(match line.trim() {
            "" => default.to_owned(),
            answer => answer.to_owned(),
        })
    }

    /// Asks for a value, again if the answer is wrong.
    pub(super) fn value<T>(
        &mut self,
        question: &str,
        default: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, String> {
        loop {
            match parse(&self.ask(question, default)?) {
                Err(error) if self.is_terminal => println!("{error}"),
                done => return done,
            }
        }
    }

    /// Asks for a list, again if one of its parts is wrong.
    fn list<T>(
        &mut self,
        question: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        loop {
            let answer = self.ask(question, "")?;
            let parts = answer.split(',').map(str::trim);
            let parts = parts.filter(|part| !part.is_empty());
            match parts.map(&parse).collect::<Result<Vec<T>, String>>() {
                Ok(list) => return Ok(list),
                Err(error) if self.is_terminal => println!("{error}"),
                Err(error) => return Err(error),
            }
        }
    }

    /// Asks for addresses; at least one.
    pub(super) fn addresses(&mut self, question: &str) -> Result<Vec<Address>, String> {
        let parse = |text: &str| Address::parse(text).map_err(|error| error.to_string());
        loop {
            let addresses = self.list(question, parse)?;
            match addresses.is_empty() {
                true if self.is_terminal => println!("Name at least one."),
                true => return Err("no mailbox was named".to_owned()),
                false => return Ok(addresses),
            }
        }
    }

    /// Asks for networks.
    pub(super) fn networks(&mut self, question: &str) -> Result<Vec<IpNet>, String> {
        let wrong = |text: &str| format!("{text:?} is not a network such as 192.168.7.0/24");
        let parse = |text: &str| {
            let alone = || text.parse::<IpAddr>().map(IpNet::from);
            text.parse().or_else(|_| alone()).map_err(|_| wrong(text))
        };
        self.list(question, parse)
    }

    /// Asks what each mailbox sends as besides its own address.
    pub(super) fn filters(
        &mut self,
        mailboxes: &[Address],
    ) -> Result<Vec<(Address, String)>, String> {
        let mut filters = Vec::new();
        for mailbox in mailboxes {
            let question = format!(
                "Addresses or domains that {mailbox} may send as besides itself (with commas between)"
            );
            let theirs = self.list(&question, |text| Ok(text.to_owned()))?;
            filters.extend(theirs.into_iter().map(|filter| (mailbox.clone(), filter)));
        }
        Ok(filters)
    }
}
