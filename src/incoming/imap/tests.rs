use proptest::prelude::*;

use super::*;
use crate::incoming::machine::testing::{self, protection};

fn talk(protection: Protection, pieces: &[&[u8]]) -> String {
    testing::talk(ImapMachine::new(protection), pieces)
}

fn after_greeting(protection: Protection, input: &str) -> String {
    let said = talk(protection, &[input.as_bytes()]);
    said.split_once("\r\n").unwrap().1.to_owned()
}

#[test]
fn the_greeting_shows_what_is_possible() {
    let greeting = |offers, takes| talk(protection(offers, takes), &[]);
    assert!(greeting(false, true).contains(" AUTH=PLAIN AUTH=LOGIN] "));
    assert!(greeting(true, false).contains(" STARTTLS LOGINDISABLED] "));
}

#[test]
fn each_way_to_sign_in_gives_the_same_credentials() {
    let open = protection(false, true);
    for input in [
        "a LOGIN erp secret\r\n",
        "a login \"erp\" \"secret\"\r\n",
        "a LOGIN \"e\\rp\" secret\r\n",
        "a LOGIN {3}\r\nerp {6}\r\nsecret\r\n",
        "a LOGIN {3+}\r\nerp {6+}\r\nsecret\r\n",
        "a LOGIN erp {6+}\r\nsecret\r\n",
        "a LOGIN {3+}\r\nerp \"secret\"\r\n",
        "a AUTHENTICATE PLAIN AGVycABzZWNyZXQ=\r\n",
        "a authenticate plain\r\nAGVycABzZWNyZXQ=\r\n",
        "a AUTHENTICATE LOGIN\r\nZXJw\r\nc2VjcmV0\r\n",
        "a AUTHENTICATE LOGIN ZXJw\r\nc2VjcmV0\r\n",
        "a LOGIN erp secret\n",
    ] {
        let said = after_greeting(open, input);
        assert!(said.contains("{erp:secret}\r\n"), "{input}: {said}");
        assert!(
            said.ends_with("a NO [AUTHENTICATIONFAILED] Wrong user name or password\r\n"),
            "{said}"
        );
    }
}

#[test]
fn a_password_may_contain_anything() {
    let said = after_greeting(
        protection(false, true),
        "a LOGIN erp {12+}\r\n a\"\\{9}\r\n\u{e4} \r\n",
    );
    assert!(said.contains("{erp: a\"\\{9}\r\n\u{e4} }"), "{said}");
    let said = after_greeting(protection(false, true), "a LOGIN erp \"a\\\"b\\\\c d\"\r\n");
    assert!(said.contains("{erp:a\"b\\c d}"), "{said}");
}

#[test]
fn wrong_commands_get_their_answers() {
    let open = protection(false, true);
    for (input, expected) in [
        ("a SELECT INBOX\r\n", "a BAD Sign in first\r\n"),
        ("a XYZ\r\n", "a BAD Unknown command\r\n"),
        ("a\r\n", "a BAD A command has a name after its tag\r\n"),
        ("\r\n", "* BAD A command begins with a tag, such as a1\r\n"),
        (
            "+ OK\r\n",
            "* BAD A command begins with a tag, such as a1\r\n",
        ),
        ("a STARTTLS\r\n", "a BAD STARTTLS is not available\r\n"),
        (
            "a LOGIN erp\r\n",
            "a BAD Expected LOGIN, a user name and a password; put each into quotes\r\n",
        ),
        (
            "a LOGIN \"erp secret\r\n",
            "a BAD Expected LOGIN, a user name and a password; put each into quotes\r\n",
        ),
        (
            "a LOGIN erp secret more\r\n",
            "a BAD Expected LOGIN, a user name and a password; put each into quotes\r\n",
        ),
        (
            "a AUTHENTICATE GSSAPI\r\n",
            "a NO [CANNOT] Only PLAIN and LOGIN are available\r\n",
        ),
        (
            "a AUTHENTICATE PLAIN\r\n*\r\n",
            "+ \r\na BAD AUTHENTICATE cancelled\r\n",
        ),
        (
            "a LOGIN erp {4294967296}\r\n",
            "a BAD [TOOBIG] The literal is too long\r\n",
        ),
        ("a NOOP\r\n", "a OK NOOP completed\r\n"),
        (
            "a ID NIL\r\n",
            "* ID (\"name\" \"mailferry\")\r\na OK ID completed\r\n",
        ),
        (
            "a LOGOUT\r\n",
            "* BYE Goodbye\r\na OK LOGOUT completed\r\n{close}",
        ),
    ] {
        assert_eq!(after_greeting(open, input), expected, "{input}");
    }
    let closed = after_greeting(protection(true, false), "a LOGIN erp secret\r\n");
    assert!(closed.starts_with("a NO [PRIVACYREQUIRED] "), "{closed}");
}

#[test]
fn what_is_too_much_ends_the_session() {
    let open = protection(false, true);
    for input in [
        "a LOGIN erp {99999999999999999999+}\r\n".to_owned(),
        format!("a LOGIN erp {{{COMMAND}+}}\r\n"),
        "x".repeat(COMMAND + 1),
        format!("{}\r\n", "x".repeat(COMMAND + 1)),
        "a X\r\n".repeat(3),
        "a NOOP\r\n".repeat(21),
        format!("a AUTHENTICATE PLAIN\r\n{}", "x".repeat(COMMAND + 1)),
    ] {
        let said = after_greeting(open, &input);
        assert!(
            said.contains("* BYE [LIMIT] ") && said.ends_with("{close}"),
            "{said}"
        );
    }
}

#[test]
fn commands_before_tls_are_forgotten() {
    let said = after_greeting(
        protection(true, false),
        "a STARTTLS\r\nb LOGIN erp injected\r\n",
    );
    assert_eq!(said, "a OK Begin TLS negotiation now\r\n{TLS}\r\n");
}

#[test]
fn what_follows_the_sign_in_is_left_for_the_mail_server() {
    let mut machine = ImapMachine::new(protection(false, true));
    let mut input = BytesMut::from("a LOGIN erp secret\r\nb SELECT INBOX\r\n");
    assert!(matches!(machine.next(&mut input), Event::SignIn(_)));
    machine.take_output();
    machine.signed_in(Some("IMAP4rev1 IDLE"));
    let said = machine.take_output();
    assert_eq!(said, b"a OK [CAPABILITY IMAP4rev1 IDLE] Signed in\r\n");
    assert_eq!(&input[..], b"b SELECT INBOX\r\n");
}

proptest! {
    /// The pieces in which input arrives make no difference, and no input makes the machine fail.
    #[test]
    fn pieces_make_no_difference(
        input in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            "(a (LOGIN|NOOP|AUTHENTICATE PLAIN|ID)( (x|\"y\"|\\{[0-9]{1,2}\\+?\\}))*\r?\n|[xyz=]{1,9}\r\n){0,9}".prop_map(String::into_bytes),
        ],
        size in 1usize..40,
    ) {
        let open = protection(false, true);
        let pieces: Vec<&[u8]> = input.chunks(size).collect();
        prop_assert_eq!(talk(open, &[&input]), talk(open, &pieces));
    }
}

/// Records the dialogue of a session in which the client sends these lines; no sign-in succeeds.
fn recorded(lines: &[&str], takes_passwords: bool) -> String {
    let mut machine = ImapMachine::new(protection(false, takes_passwords));
    machine.transcript().switch(true);
    let mut input = BytesMut::from(lines.join("\r\n").as_str());
    input.extend_from_slice(b"\r\n");
    loop {
        match machine.next(&mut input) {
            Event::SignIn(_) => machine.refuse(&Refused::Wrong),
            Event::NeedInput | Event::Close(_) | Event::StartTls => break,
            Event::Refused(_) => {}
        }
    }
    let said = machine.transcript().take();
    said.into_iter().map(|said| said.text + "\n").collect()
}

proptest! {
    #[test]
    fn neither_side_of_a_recorded_dialogue_has_a_secret(secret in "[a-zA-Z0-9/=]{17,40}", at in 0_usize..7, tls in any::<bool>()) {
        let line = match at {
            0 => secret.clone(),
            1 => format!("{secret} foo"),
            2 => format!("{secret} LIST"),
            3 => format!("a LOGIN erp {secret}"),
            4 => format!("a {secret}"),
            5 => format!("a AUTHENTICATE {secret}"),
            _ => format!("a AUTHENTICATE PLAIN {secret}"),
        };
        let said = recorded(&["a AUTHENTICATE LOGIN", "not base64", &line, &secret], tls);
        prop_assert!(!said.contains(&secret), "{}", said);
    }
}
