use super::*;
use proptest::prelude::*;

fn settings() -> SessionSettings {
    SessionSettings {
        host: "relay.example".into(),
        message_size: 1_000,
        recipients: 3,
        commands: 50,
        errors: 5,
        reject_bare_newlines: false,
        offers_auth: true,
        bare_lf: false,
        postmaster: None,
    }
}

const LOOPBACK: Protection = Protection {
    offers_tls: false,
    tls: false,
    plaintext: true,
    plaintext_auth: true,
};

/// Feeds `input` in pieces and answers every question positively. Returns the replies and the messages.
fn talk(machine: &mut Machine, input: &[u8], cut: usize) -> (String, Vec<String>) {
    let (mut replies, mut messages, mut content) = (Vec::new(), Vec::new(), Vec::new());
    let mut buffer = BytesMut::new();
    let mut chunks = input.chunks(cut.max(1));
    loop {
        let event = machine.next(&mut buffer);
        match event {
            Event::NeedInput => match chunks.next() {
                Some(chunk) => buffer.extend_from_slice(chunk),
                None => break,
            },
            Event::Close => break,
            Event::Authenticate(_) => machine.answer(Reply::authenticated()),
            Event::Sender(_) => machine.answer(Reply::sender_ok()),
            Event::Recipient(_) => machine.answer(Reply::recipient_ok()),
            Event::Data => machine.answer(Reply::go_ahead()),
            Event::Content => content.extend(machine.take_content()),
            Event::Discard => content.clear(),
            Event::StartTls => machine.tls_established(),
            Event::Message(_) => {
                content.extend(machine.take_content());
                messages.push(String::from_utf8_lossy(&std::mem::take(&mut content)).into_owned());
                machine.answer(Reply::ok());
            }
        }
    }
    replies.extend(machine.take_output());
    (String::from_utf8(replies).unwrap(), messages)
}

fn codes(replies: &str) -> Vec<&str> {
    replies
        .lines()
        .filter(|line| line.as_bytes()[3] == b' ')
        .map(|line| &line[..3])
        .collect()
}

const WHOLE: &[u8] = b"EHLO me\r\nAUTH PLAIN AGEAYg==\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\nhi\r\n.\r\nQUIT\r\n";

#[test]
fn a_pipelined_conversation_comes_through_however_it_is_cut() {
    for cut in 1..40 {
        let mut machine = Machine::new(Arc::new(settings()), LOOPBACK, None);
        let (replies, messages) = talk(&mut machine, WHOLE, cut);
        assert_eq!(
            codes(&replies),
            ["220", "250", "235", "250", "250", "354", "250", "221"]
        );
        assert_eq!(messages, ["hi\r\n"]);
    }
}

#[test]
fn without_tls_nothing_goes_where_it_is_required() {
    let protection = Protection {
        offers_tls: true,
        tls: false,
        plaintext: false,
        plaintext_auth: false,
    };
    let mut machine = Machine::new(Arc::new(settings()), protection, None);
    let (replies, _) = talk(&mut machine, b"EHLO me\r\nAUTH PLAIN AGEAYg==\r\nMAIL FROM:<a@b.c>\r\nSTARTTLS\r\nMAIL FROM:<>\r\nEHLO me\r\n", 99);
    assert_eq!(
        codes(&replies),
        ["220", "250", "530", "530", "220", "503", "250"]
    );
    assert!(replies.contains("250-STARTTLS") || replies.contains("250 STARTTLS"));
    assert_eq!(replies.matches("AUTH PLAIN LOGIN").count(), 1);
}

/// A device sends one line at a time, and its message contains lines that look like commands.
#[test]
fn where_a_bare_lf_ends_commands_a_message_cannot_bring_any() {
    let mut lenient = settings();
    lenient.bare_lf = true;
    let mut machine = Machine::new(Arc::new(lenient), LOOPBACK, Some("scanner".into()));
    for line in ["HELO x\n", "MAIL FROM:<a@b.c>\n", "RCPT TO:<d@e.f>\n"] {
        talk(&mut machine, line.as_bytes(), 99);
    }
    let (replies, messages) = talk(&mut machine, b"DATA\n", 99);
    assert_eq!((codes(&replies), messages.len()), (vec!["354"], 0));
    let (replies, messages) = talk(&mut machine, b"a\n.\nMAIL FROM:<x@y>\n", 99);
    assert_eq!((codes(&replies), messages.len()), (vec!["421"], 0));
}

/// Generates a line that a client may send.
fn line() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "EHLO me",
        "HELO x",
        "HELO",
        "AUTH LOGIN",
        "AUTH LOGIN YQ==",
        "AUTH PLAIN AGEAYg==",
        "YQ==",
        "*",
        "MAIL FROM:<a@b.c>",
        "MAIL FROM:<a@b.c> SIZE=9999",
        "RCPT TO:<d@e.f>",
        "RSET",
        "NOOP",
        "HELP",
        "STARTTLS",
        "VRFY x",
        "EXPN x",
        "junk",
        "DATA",
        ".",
        "..",
        "",
        "BDAT 3",
    ]);
    let long = "[a-z]{4000,4300}";
    prop_oneof![
        8 => known.prop_map(str::to_owned),
        2 => "[ -AC-~][ -~]{0,80}",
        1 => long
    ]
}

proptest! {
    #[test]
    fn every_command_gets_one_reply(lines in prop::collection::vec(line(), 0..40), cut in 1usize..20) {
        let mut unlimited = settings();
        (unlimited.errors, unlimited.commands) = (1_000, 1_000);
        let mut machine = Machine::new(Arc::new(unlimited), LOOPBACK, None);
        let (greeting, _) = talk(&mut machine, b"", cut);
        prop_assert_eq!(codes(&greeting), ["220"]);
        let mut is_content = false;
        for line in lines {
            let said = format!("{line}\r\n");
            let (replies, messages) = talk(&mut machine, said.as_bytes(), cut);
            let codes = codes(&replies);
            let is_silent = is_content && line != ".";
            prop_assert_eq!(codes.len(), usize::from(!is_silent), "{:?}: {}", line, replies);
            prop_assert!(messages.is_empty() || codes == ["250"], "{}", replies);
            is_content = is_silent || codes == ["354"];
            if codes == ["421"] {
                break;
            }
        }
    }

    #[test]
    fn any_bytes_are_survived(input in prop::collection::vec(any::<u8>(), 0..400), cut in 1usize..50) {
        let mut machine = Machine::new(Arc::new(settings()), LOOPBACK, None);
        talk(&mut machine, &input, cut);
    }
}
