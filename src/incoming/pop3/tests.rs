use proptest::prelude::*;

use super::*;
use crate::incoming::machine::testing::{self, protection};

fn talk(protection: Protection, pieces: &[&[u8]]) -> String {
    testing::talk(Pop3Machine::new(protection), pieces)
}

fn after_greeting(protection: Protection, input: &str) -> String {
    let said = talk(protection, &[input.as_bytes()]);
    said.strip_prefix("+OK mailferry is ready\r\n")
        .unwrap()
        .to_owned()
}

#[test]
fn each_way_to_sign_in_gives_the_same_credentials() {
    let open = protection(false, true);
    for input in [
        "USER erp\r\nPASS se cret\r\n",
        "user erp\r\npass se cret\n",
        "AUTH PLAIN AGVycABzZSBjcmV0\r\n",
        "AUTH PLAIN\r\nAGVycABzZSBjcmV0\r\n",
        "AUTH LOGIN\r\nZXJw\r\nc2UgY3JldA==\r\n",
        "AUTH login ZXJw\r\nc2UgY3JldA==\r\n",
    ] {
        let said = after_greeting(open, input);
        assert!(said.contains("{erp:se cret}\r\n"), "{input}: {said}");
        assert!(
            said.ends_with("-ERR [AUTH] Wrong user name or password\r\n"),
            "{said}"
        );
    }
}

#[test]
fn commands_get_their_answers() {
    let open = protection(false, true);
    for (input, expected) in [
        ("STAT\r\n", "-ERR Sign in first\r\n"),
        (
            "APOP erp digest\r\n",
            "-ERR Unknown command; this is POP3\r\n",
        ),
        ("\r\n", "-ERR Unknown command; this is POP3\r\n"),
        ("PASS secret\r\n", "-ERR Send USER first\r\n"),
        (
            "USER erp\r\nNOOP\r\nPASS secret\r\n",
            "+OK Send the password\r\n+OK\r\n-ERR Send USER first\r\n",
        ),
        ("USER\r\n", "-ERR Expected USER and a name\r\n"),
        ("STLS\r\n", "-ERR STLS is not available\r\n"),
        (
            "AUTH GSSAPI\r\n",
            "-ERR Only PLAIN and LOGIN are available\r\n",
        ),
        (
            "AUTH\r\n",
            "+OK Mechanisms follow\r\nPLAIN\r\nLOGIN\r\n.\r\n",
        ),
        ("AUTH PLAIN\r\n*\r\n", "+ \r\n-ERR AUTH cancelled\r\n"),
        ("QUIT\r\n", "+OK Goodbye\r\n{close}"),
    ] {
        assert_eq!(after_greeting(open, input), expected, "{input}");
    }
    let listed = after_greeting(open, "CAPA\r\n");
    assert!(
        listed.contains("\r\nUSER\r\nSASL PLAIN LOGIN\r\n") && !listed.contains("STLS"),
        "{listed}"
    );
    let closed = after_greeting(protection(true, false), "CAPA\r\nUSER erp\r\n");
    assert!(
        closed.contains("STLS\r\n") && !closed.contains("SASL"),
        "{closed}"
    );
    assert!(
        closed.ends_with("-ERR [AUTH] Passwords are accepted only inside TLS: use STLS first\r\n")
    );
}

#[test]
fn what_is_too_much_ends_the_session() {
    let open = protection(false, true);
    for input in [
        "x".repeat(COMMAND + 1),
        "X\r\n".repeat(3),
        "NOOP\r\n".repeat(21),
    ] {
        let said = after_greeting(open, &input);
        assert!(
            said.contains("-ERR [SYS/TEMP] ") && said.ends_with("{close}"),
            "{said}"
        );
    }
}

#[test]
fn commands_before_tls_are_forgotten() {
    let said = after_greeting(
        protection(true, false),
        "STLS\r\nUSER erp\r\nPASS injected\r\n",
    );
    assert_eq!(said, "+OK Begin TLS negotiation\r\n{TLS}\r\n");
}

#[test]
fn the_mail_servers_text_is_passed_on() {
    let mut machine = Pop3Machine::new(protection(false, true));
    let mut input = BytesMut::from("USER erp\r\nPASS secret\r\nSTAT\r\n");
    assert!(matches!(machine.next(&mut input), Event::SignIn(_)));
    machine.take_output();
    machine.signed_in(Some("2 messages"));
    assert_eq!(machine.take_output(), b"+OK 2 messages\r\n");
    assert_eq!(&input[..], b"STAT\r\n");
}

proptest! {
    /// The pieces in which input arrives make no difference, and no input makes the machine fail.
    #[test]
    fn pieces_make_no_difference(
        input in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            "((USER|PASS|AUTH PLAIN|AUTH LOGIN|NOOP|CAPA)( [xyz=]{1,5})?\r?\n|[xyz=]{1,9}\r\n){0,9}".prop_map(String::into_bytes),
        ],
        size in 1usize..40,
    ) {
        let open = protection(false, true);
        let pieces: Vec<&[u8]> = input.chunks(size).collect();
        prop_assert_eq!(talk(open, &[&input]), talk(open, &pieces));
    }
}

#[test]
fn the_log_shows_no_secrets() {
    assert_eq!(shown("USER erp hunter2"), "USER erp");
    assert_eq!(shown("pass hunter2 and more"), "PASS (secret)");
    assert_eq!(shown("AUTH PLAIN AGVy"), "AUTH PLAIN (secret)");
    assert_eq!(shown("AUTH AGVy"), "AUTH (secret)");
    assert_eq!(shown("hunter2"), "(not a command)");
    assert_eq!(shown("PASS\thunter2"), "(not a command)");
}
