//! One command line: an address that was parsed is parsed again as the same address.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailferry::message::{Address, ReversePath};
use mailferry::smtp::auth;
use mailferry::smtp::command::{Assumed, Command, parse};

fuzz_target!(|line: &str| {
    let _ = auth::plain(line);
    match parse(line, &Assumed::default()) {
        Ok(Command::Mail(ReversePath::Mailbox(address), _) | Command::Rcpt(address, _)) => {
            assert_eq!(Address::parse(address.as_str()), Ok(address.clone()));
            assert!(!address.as_str().contains(['\r', '\n', '\0']));
        }
        Ok(Command::Ehlo(name) | Command::Helo(name)) => {
            assert!(!name.contains(|c: char| c.is_whitespace() || c.is_control()));
        }
        _ => {}
    }
});
