//! Conversations as plain files, `tests/dialogues/*.txt`, and for IMAP and POP3 up to the sign-in in its folders
//! `imap` and `pop3`. The state machine receives each conversation in one piece, in small pieces, and byte by
//! byte.
//!
//! `C:` is a line of the client (escapes `\r \n \0 \\ \xNN`), and `C+` is one without the CRLF. `S:` is the
//! beginning of the server's next line, `M:` the whole next message, `set:` a difference from the usual
//! settings, and `#` a remark.

use std::path::Path;
use std::sync::Arc;

use bytes::BytesMut;
use mailferry::incoming::imap::ImapMachine;
use mailferry::incoming::pop3::Pop3Machine;
use mailferry::incoming::{self, Refused, SignInMachine};
use mailferry::message::Address;
use mailferry::routing::NotRouted;
use mailferry::smtp::{Event, Machine, Protection, Reply, SessionSettings};
use mailferry::submission::wording;

#[derive(Debug)]
enum Line {
    Server(String),
    Message(Vec<u8>),
}

struct Dialogue {
    settings: SessionSettings,
    protection: Protection,
    user: Option<String>,
    assume_from: Option<Address>,
    client: Vec<u8>,
    expected: Vec<Line>,
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next() {
                Some('r') => out.push(b'\r'),
                Some('n') => out.push(b'\n'),
                Some('0') => out.push(0),
                Some('x') => {
                    let digits: String = rest.by_ref().take(2).collect();
                    out.push(u8::from_str_radix(&digits, 16).expect("two digits"));
                }
                Some('L') => out.extend(std::iter::repeat_n(b'x', 13_000)),
                other => out.extend(other.map(|c| c as u8)),
            },
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out
}

fn read(text: &str) -> Dialogue {
    let mut dialogue = Dialogue {
        settings: SessionSettings {
            host: "relay.example".into(),
            message_size: 10_000,
            recipients: 5,
            commands: 40,
            errors: 10,
            reject_bare_newlines: false,
            offers_auth: true,
            bare_lf: false,
            postmaster: None,
        },
        protection: Protection {
            offers_tls: false,
            tls: false,
            plaintext: true,
            plaintext_auth: true,
        },
        user: None,
        assume_from: None,
        client: Vec::new(),
        expected: Vec::new(),
    };
    for line in text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (kind, rest) = line.split_at(2);
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        match kind {
            "C:" => {
                dialogue.client.extend(unescaped(rest));
                dialogue.client.extend_from_slice(b"\r\n");
            }
            "C+" => dialogue.client.extend(unescaped(rest)),
            "S:" => dialogue.expected.push(Line::Server(rest.to_owned())),
            "M:" => dialogue.expected.push(Line::Message(unescaped(rest))),
            "se" => set(&mut dialogue, rest.trim_start_matches("t:").trim()),
            other => panic!("{other:?} in {line:?}"),
        }
    }
    dialogue
}

fn set(dialogue: &mut Dialogue, what: &str) {
    match what {
        "reject bare newlines" => dialogue.settings.reject_bare_newlines = true,
        "no passwords" => dialogue.settings.offers_auth = false,
        "tls offered" => dialogue.protection.offers_tls = true,
        "tls required" => {
            dialogue.protection = Protection {
                offers_tls: true,
                tls: false,
                plaintext: false,
                plaintext_auth: false,
            };
        }
        "no passwords in clear" => {
            dialogue.protection.offers_tls = true;
            dialogue.protection.plaintext_auth = false;
        }
        "bare LF" => dialogue.settings.bare_lf = true,
        "assume scanner@example.com" => {
            dialogue.assume_from = Some(Address::parse("scanner@example.com").expect("an address"));
        }
        "network user" => dialogue.user = Some("scanner".into()),
        other => panic!("no setting {other:?}"),
    }
}

/// Plays a dialogue. The password is "right"; senders and recipients that begin with `refused@` are refused.
fn drive(dialogue: &Dialogue, cut: usize) -> Vec<Line> {
    let mut machine = Machine::new(
        Arc::new(dialogue.settings.clone()),
        dialogue.protection,
        dialogue.user.clone(),
    );
    machine.assume_from(dialogue.assume_from.clone());
    let (mut input, mut chunks) = (BytesMut::new(), dialogue.client.chunks(cut));
    let (mut content, mut heard) = (Vec::new(), Vec::new());
    loop {
        let event = machine.next(&mut input);
        match event {
            Event::NeedInput => match chunks.next() {
                Some(chunk) => input.extend_from_slice(chunk),
                None => break,
            },
            Event::Close => break,
            Event::Authenticate(credentials) => {
                use secrecy::ExposeSecret;
                machine.answer(match credentials.password.expose_secret() {
                    "right" => Reply::authenticated(),
                    _ => Reply::bad_credentials(),
                });
            }
            Event::Sender(sender) if sender.to_string().starts_with("refused@") => {
                let refused = NotRouted::Sender {
                    sender: sender.to_string(),
                    which: "",
                };
                machine.answer(wording::not_routed(&refused));
            }
            Event::Sender(sender) => {
                let mut reply = Reply::sender_ok();
                reply.text = format!("<{sender}> ok").into();
                machine.answer(reply);
            }
            Event::Recipient(recipient) if recipient.address.as_str().starts_with("refused@") => {
                machine.answer(Reply::new(550, "5.1.1", "no"));
            }
            Event::Recipient(_) => machine.answer(Reply::recipient_ok()),
            Event::Data => machine.answer(Reply::go_ahead()),
            Event::Content => content.extend(machine.take_content()),
            Event::Discard => content.clear(),
            Event::StartTls => {
                // The buffer holds data that arrived in clear: drop it.
                input.clear();
                machine.tls_established();
            }
            Event::Message(_) => {
                content.extend(machine.take_content());
                hear(&mut machine, &mut heard);
                heard.push(Line::Message(std::mem::take(&mut content)));
                machine.answer(Reply::ok());
            }
        }
        hear(&mut machine, &mut heard);
    }
    hear(&mut machine, &mut heard);
    heard
}

/// Plays a dialogue of IMAP or POP3 up to the sign-in. The password is "right".
fn drive_sign_in(machine: &mut dyn SignInMachine, dialogue: &Dialogue, cut: usize) -> Vec<Line> {
    use secrecy::ExposeSecret;
    let (mut input, mut chunks) = (BytesMut::new(), dialogue.client.chunks(cut));
    let mut said = Vec::new();
    loop {
        match machine.next(&mut input) {
            incoming::Event::NeedInput => match chunks.next() {
                Some(chunk) => input.extend_from_slice(chunk),
                None => break,
            },
            incoming::Event::Close(_) => break,
            incoming::Event::Refused(_) => {}
            incoming::Event::SignIn(credentials) => match credentials.password.expose_secret() {
                "right" => machine.signed_in(Some("what the mail server said")),
                _ => machine.refuse(&Refused::Wrong),
            },
            incoming::Event::StartTls => {
                input.clear();
                machine.tls_established();
            }
        }
        said.extend(machine.take_output());
    }
    said.extend(machine.take_output());
    let text = String::from_utf8(said).expect("UTF-8");
    text.lines()
        .map(|line| Line::Server(line.to_owned()))
        .collect()
}

fn hear(machine: &mut Machine, heard: &mut Vec<Line>) {
    let text = String::from_utf8(machine.take_output()).expect("replies are UTF-8");
    heard.extend(text.lines().map(|line| Line::Server(line.to_owned())));
}

/// Plays a dialogue, and compares what the program says.
fn play(name: &str, dialogue: &Dialogue, cut: usize) {
    let protection = incoming::Protection {
        offers_tls: dialogue.protection.offers_tls,
        takes_passwords: dialogue.protection.plaintext_auth,
        errors: 5,
        commands: 20,
    };
    let heard = match name.split('/').next() {
        Some("imap") => drive_sign_in(&mut ImapMachine::new(protection), dialogue, cut),
        Some("pop3") => drive_sign_in(&mut Pop3Machine::new(protection), dialogue, cut),
        _ => drive(dialogue, cut),
    };
    for (place, expected) in dialogue.expected.iter().enumerate() {
        let good = match (expected, heard.get(place)) {
            (Line::Server(wanted), Some(Line::Server(line))) => line.starts_with(wanted.as_str()),
            (Line::Message(wanted), Some(Line::Message(message))) => wanted == message,
            _ => false,
        };
        let got = heard.get(place);
        assert!(
            good,
            "{name}, {cut} bytes at a time, line {}: wanted {expected:?}, got {got:?}",
            place + 1
        );
    }
    assert_eq!(
        heard.len(),
        dialogue.expected.len(),
        "{name}, {cut} at a time, says more: {heard:?}"
    );
}

#[test]
fn every_dialogue_goes_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues");
    let mut count = 0;
    for name in files(&folder) {
        let text = std::fs::read_to_string(folder.join(&name)).expect("reads");
        let dialogue = read(&text);
        // Some dialogues depend on the pieces. Bytes after STARTTLS in the same piece are dropped. Without
        // PIPELINING, a client that sends several commands in one piece is disconnected.
        let stem = name.rsplit('/').next().unwrap_or_default();
        let cuts: &[usize] = match stem.split('.').next().unwrap_or_default() {
            "starttls-injection" | "bare-lf-pipelined" => &[usize::MAX],
            "auth-in-clear" | "bare-lf" | "bare-lf-crlf" => &[1],
            _ => &[usize::MAX, 1, 2, 7],
        };
        cuts.iter().for_each(|&cut| play(&name, &dialogue, cut));
        count += 1;
    }
    assert!(count >= 25, "only {count} dialogues were found");
}

/// Returns the dialogues of a folder and of the folders `imap` and `pop3` in it, with their folder's name.
fn files(folder: &Path) -> Vec<String> {
    let of = |name: &str| {
        let entries = std::fs::read_dir(folder.join(name)).expect("the folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let name = name.to_owned();
        let names: Vec<String> = names
            .map(|file| format!("{name}{}", file.to_string_lossy()))
            .collect();
        names
    };
    let all = ["", "imap/", "pop3/"].map(of).concat();
    all.into_iter()
        .filter(|name| name.ends_with(".txt"))
        .collect()
}
