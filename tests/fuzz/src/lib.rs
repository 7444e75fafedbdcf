//! Shared by the targets: a session of the machine, whose environment chooses its answers by the input.

use std::sync::Arc;

use bytes::BytesMut;
use mailferry::incoming::{self, Refused, SignInMachine};
use mailferry::message::Address;
use mailferry::smtp::{Event, Machine, Protection, Reply, SessionSettings};

/// The results of a session.
#[derive(Debug, PartialEq, Eq)]
pub struct Heard {
    pub replies: String,
    pub messages: Vec<Vec<u8>>,
    /// True if the machine started TLS; input that had already arrived is then dropped.
    pub tls: bool,
}

const MESSAGE_SIZE: usize = 2_000;
const RECIPIENTS: usize = 3;

/// The settings of a session, one per bit.
#[derive(Debug, Clone, Copy)]
pub struct Setup(pub u8);

impl Setup {
    pub fn bare_lf(self) -> bool {
        self.0 & 1 != 0
    }

    fn machine(self) -> Machine {
        let has = |bit: u8| self.0 & bit != 0;
        let settings = SessionSettings {
            host: "relay.example".into(),
            message_size: MESSAGE_SIZE as u64,
            recipients: RECIPIENTS,
            commands: 100,
            errors: 20,
            reject_bare_newlines: has(2),
            offers_auth: true,
            bare_lf: self.bare_lf(),
            postmaster: None,
        };
        let protection = Protection {
            offers_tls: has(4),
            tls: false,
            plaintext: !has(8),
            plaintext_auth: !has(16),
        };
        let user = has(32).then(|| "scanner".to_owned());
        let mut machine = Machine::new(Arc::new(settings), protection, user);
        let assumed = has(64).then(|| Address::parse("scanner@example.com").expect("an address"));
        machine.assume_from(assumed);
        machine
    }
}

/// Feeds the input in pieces of `cut` octets. Names and addresses that contain "no" are refused.
///
/// # Panics
/// If the machine breaks one of its limits.
pub fn talk(setup: Setup, input: &[u8], cut: usize) -> Heard {
    let mut machine = setup.machine();
    let (mut buffer, mut chunks) = (BytesMut::new(), input.chunks(cut.max(1)));
    let (mut content, mut recipients) = (Vec::new(), 0);
    let mut heard = Heard {
        replies: String::new(),
        messages: Vec::new(),
        tls: false,
    };
    loop {
        let event = machine.next(&mut buffer);
        match event {
            Event::NeedInput => match chunks.next() {
                Some(chunk) => buffer.extend_from_slice(chunk),
                None => break,
            },
            Event::Close => break,
            Event::Authenticate(credentials) => {
                machine.answer(answer(&credentials.name, Reply::authenticated()));
            }
            Event::Sender(sender) => {
                recipients = 0;
                machine.answer(answer(&sender.to_string(), Reply::sender_ok()));
            }
            Event::Recipient(recipient) => {
                let reply = answer(recipient.address.as_str(), Reply::recipient_ok());
                recipients += usize::from(reply.is_positive());
                assert!(recipients <= RECIPIENTS);
                machine.answer(reply);
            }
            Event::Data => machine.answer(Reply::go_ahead()),
            Event::Content => content.extend(machine.take_content()),
            Event::Discard => content.clear(),
            Event::StartTls => {
                buffer.clear();
                heard.tls = true;
                machine.tls_established();
            }
            Event::Message(envelope) => {
                assert!((1..=RECIPIENTS).contains(&envelope.recipients.len()));
                content.extend(machine.take_content());
                assert!(content.len() <= MESSAGE_SIZE);
                heard.messages.push(std::mem::take(&mut content));
                machine.answer(Reply::ok());
            }
        }
        assert!(machine.content_held() <= MESSAGE_SIZE);
        let said = String::from_utf8(machine.take_output()).expect("replies are UTF-8");
        heard.replies.push_str(&said);
    }
    let said = String::from_utf8(machine.take_output()).expect("replies are UTF-8");
    heard.replies.push_str(&said);
    heard
}

fn answer(name: &str, yes: Reply) -> Reply {
    match name.contains("no") {
        true => Reply::new(550, "5.7.1", "no"),
        false => yes,
    }
}

/// Checks that each reply is complete, and that each of its lines begins with its code.
///
/// # Panics
/// If a reply is malformed.
pub fn well_formed(replies: &str) {
    assert!(replies.is_empty() || replies.ends_with("\r\n"));
    for line in replies.split_terminator("\r\n") {
        let bytes = line.as_bytes();
        assert!(
            bytes.len() >= 4 && bytes[..3].iter().all(u8::is_ascii_digit),
            "{line:?}"
        );
        assert!(
            matches!(bytes[3], b' ' | b'-') && !line.contains(['\r', '\n']),
            "{line:?}"
        );
    }
}

/// Feeds a conversation up to the sign-in in pieces of this size; sign-ins are refused. Returns the output, and
/// true if TLS was started: input that had already arrived is then dropped.
pub fn sign_in(mut machine: impl SignInMachine, input: &[u8], piece: usize) -> (String, bool) {
    let (mut buffer, mut said, mut tls) = (BytesMut::new(), Vec::new(), false);
    for part in input.chunks(piece.max(1)) {
        buffer.extend_from_slice(part);
        loop {
            let event = machine.next(&mut buffer);
            said.extend(machine.take_output());
            match event {
                incoming::Event::NeedInput => break,
                incoming::Event::StartTls => {
                    tls = true;
                    buffer.clear();
                    machine.tls_established();
                }
                incoming::Event::SignIn(_) => machine.refuse(&Refused::Wrong),
                incoming::Event::Refused(_) => {}
                incoming::Event::Close(_) => {
                    return (String::from_utf8(said).expect("UTF-8"), tls);
                }
            }
        }
        assert!(
            buffer.len() <= piece.saturating_add(20_000),
            "too much is kept"
        );
    }
    (String::from_utf8(said).expect("UTF-8"), tls)
}

/// The properties of a session for reading, one per bit.
pub fn reading(setup: u8) -> incoming::Protection {
    incoming::Protection {
        offers_tls: setup & 1 != 0,
        takes_passwords: setup & 2 != 0,
        errors: 20,
        commands: 100,
    }
}

/// Checks a conversation: the same result however the input is cut, and whole lines.
pub fn same_however_cut<M: SignInMachine>(machine: impl Fn() -> M, input: &[u8], piece: usize) {
    let (said, tls) = sign_in(machine(), input, piece);
    assert!(said.is_empty() || said.ends_with("\r\n"));
    assert!(!said.replace("\r\n", "").contains(['\r', '\n']));
    let whole = sign_in(machine(), input, usize::MAX);
    if !tls && !whole.1 {
        assert_eq!(said, whole.0);
    }
}
