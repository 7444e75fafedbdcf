//! The stand-in for Exchange's POP3.

use std::collections::HashSet;
use std::io;

use super::client::Client;
use crate::sandbox::script::FaultStage;

pub(super) async fn converse(mut client: Client) -> io::Result<()> {
    match client.fault(FaultStage::ReadingConnect, "pop3").await? {
        Some(greeting) => client.say(&greeting),
        None => client.say("+OK The Microsoft Exchange POP3 service is ready."),
    }
    loop {
        let line = client.line().await?;
        let upper = line.to_ascii_uppercase();
        match upper.as_str() {
            "CAPA" => capabilities(&mut client),
            "QUIT" => return goodbye(client).await,
            "AUTH XOAUTH2" => {
                client.say("+ ");
                let response = client.line().await?;
                if let Some(answer) = client.fault(FaultStage::ReadingAuth, "pop3").await? {
                    client.say(&answer);
                } else if let Some(mailbox) = client.signs_in(&response, "POP.AccessAsUser.All") {
                    client.say("+OK User successfully authenticated.");
                    return read(client, &mailbox).await;
                } else {
                    client.say("-ERR Authentication failure: unknown user name or bad password.");
                }
            }
            _ => client.say("-ERR Command is not valid in this state."),
        }
    }
}

fn capabilities(client: &mut Client) {
    for line in ["+OK", "TOP", "UIDL", "SASL PLAIN XOAUTH2", "USER", "."] {
        client.say(line);
    }
}

async fn goodbye(mut client: Client) -> io::Result<()> {
    client.say("+OK Microsoft Exchange Server POP3 server signing off.");
    client.flush().await
}

/// The TRANSACTION state (RFC 1939 §5). Messages are deleted at QUIT.
async fn read(mut client: Client, mailbox: &str) -> io::Result<()> {
    let messages = client.state.inbox(mailbox);
    let mut deleted = HashSet::new();
    loop {
        let line = client.line().await?;
        if let Some(answer) = client.fault(FaultStage::ReadingFirst, &line).await? {
            client.say(&answer);
            continue;
        }
        let mut words = line.split_ascii_whitespace();
        let name = words.next().unwrap_or_default().to_ascii_uppercase();
        let number = words.next().and_then(|word| word.parse::<usize>().ok());
        let lines: Option<usize> = words.next().and_then(|word| word.parse().ok());
        let message = number.and_then(|number| messages.get(number.checked_sub(1)?));
        let kept = messages
            .iter()
            .enumerate()
            .filter(|(_, message)| !deleted.contains(&message.uid));
        match (name.as_str(), message) {
            ("CAPA", _) => capabilities(&mut client),
            ("NOOP", _) => client.say("+OK"),
            ("RSET", _) => {
                deleted.clear();
                client.say("+OK");
            }
            ("STAT", _) => {
                let octets: usize = kept.clone().map(|(_, message)| message.text.len()).sum();
                client.say(&format!("+OK {} {octets}", kept.count()));
            }
            ("LIST" | "UIDL", None) => {
                let listed = kept.map(|(at, message)| match name.as_str() {
                    "LIST" => format!("{} {}", at + 1, message.text.len()),
                    _ => format!("{} {}", at + 1, message.uid),
                });
                let listed: Vec<String> = listed.collect();
                client.say("+OK");
                listed.iter().for_each(|line| client.say(line));
                client.say(".");
            }
            ("LIST", Some(message)) => {
                let octets = message.text.len();
                client.say(&format!("+OK {} {octets}", number.unwrap_or_default()));
            }
            ("UIDL", Some(message)) => {
                let uid = message.uid;
                client.say(&format!("+OK {} {uid}", number.unwrap_or_default()));
            }
            ("RETR", Some(message)) => {
                client.say("+OK");
                stuffed(&mut client, &message.text, usize::MAX);
            }
            ("TOP", Some(message)) => {
                client.say("+OK");
                stuffed(&mut client, &message.text, lines.unwrap_or_default());
            }
            ("DELE", Some(message)) => {
                deleted.insert(message.uid);
                client.say("+OK");
            }
            ("QUIT", _) => {
                client.state.change_inbox(mailbox, |inbox| {
                    inbox.retain(|message| !deleted.contains(&message.uid));
                });
                return goodbye(client).await;
            }
            _ => client.say("-ERR There is no such message, or the command is unknown."),
        }
    }
}

/// Sends the header and this many lines of the body, with dot-stuffing (RFC 1939 §3).
fn stuffed(client: &mut Client, text: &[u8], lines: usize) {
    let (mut is_body, mut left) = (false, lines);
    for line in text.split_inclusive(|octet| *octet == b'\n') {
        if is_body {
            let Some(less) = left.checked_sub(1) else {
                break;
            };
            left = less;
        }
        is_body = is_body || line == b"\r\n";
        if line.starts_with(b".") {
            client.output.push(b'.');
        }
        client.output.extend_from_slice(line);
    }
    if !client.output.ends_with(b"\r\n") {
        client.output.extend_from_slice(b"\r\n");
    }
    client.say(".");
}
