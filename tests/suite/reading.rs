//! Apps read their mailbox through the program, by IMAP and POP3.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;

use crate::support::{
    Lab, Plan, Smtp, USUAL, admitted, by_refresh_token, for_reading, have, id_of, reading,
};

const MAILBOX: &str = "notifications@example.com";

fn lab(protocol: &str) -> Lab {
    Lab::with(Plan {
        configuration: reading(protocol),
        mailboxes: vec![MAILBOX, "jane@example.com"],
        ..Plan::default()
    })
}

/// Connects, and reads the greeting.
fn connect(lab: &Lab) -> Smtp {
    let mut client = Smtp::silent(lab.address);
    let greeting = client.line();
    assert!(greeting.contains("mailferry is ready"), "{greeting}");
    client
}

/// Signs in by IMAP. Returns the last line of the answer.
fn login(client: &mut Smtp, name: &str) -> String {
    client.raw(format!("l LOGIN {name} load\r\n").as_bytes());
    client.until("l ").pop().expect("an answer")
}

fn message(number: usize) -> Vec<u8> {
    format!("From: a@example.net\r\nSubject: {number}\r\n\r\nline\r\n.dot {number}\r\n")
        .into_bytes()
}

#[test]
fn the_dialogue_up_to_the_sign_in_is_logged_without_secrets() {
    for (protocol, sign_in, answers, shown) in [
        (
            "imap",
            &b"c2VjcmV0LXBhc3N3b3Jk\r\na LOGIN erp load\r\nb SELECT INBOX\r\n"[..],
            "a OK",
            ["text=\"LOGIN (secret)\"", "text=\"OK "],
        ),
        (
            "pop3",
            b"c2VjcmV0LXBhc3N3b3Jk\r\nUSER erp\r\nPASS load\r\n",
            "+OK",
            ["text=\"PASS (secret)\"", "text=\"+OK "],
        ),
    ] {
        let configuration = format!("{}\n[log]\ndebug_users = [\"erp\"]\n", reading(protocol));
        let lab = Lab::with(Plan {
            configuration,
            mailboxes: vec![MAILBOX],
            ..Plan::default()
        });
        let mut client = connect(&lab);
        client.raw(sign_in);
        client.until(answers);
        for text in shown {
            lab.logged(&["event=\"dialogue\"", "user=\"erp\"", text]);
        }
        let log = lab.log();
        assert!(
            !log.contains("b SELECT") && !log.contains("erp load") && !log.contains("PASS load"),
            "{log}"
        );
    }
}

#[test]
fn an_app_reads_its_mailbox_by_imap() {
    let lab = lab("imap");
    for number in 0..3 {
        lab.state().deposit(MAILBOX, message(number));
    }
    let mut client = connect(&lab);
    // The commands after LOGIN are for the mail server, even if they come in the same packet.
    client.raw(b"a LOGIN {3+}\r\nerp {4+}\r\nload\r\nb SELECT INBOX\r\nc FETCH 2 BODY.PEEK[]\r\n");
    let signed_in = client.until("a ").pop().expect("an answer");
    assert!(
        signed_in.starts_with("a OK [CAPABILITY IMAP4 IMAP4rev1 "),
        "{signed_in}"
    );
    assert!(client.until("b OK").contains(&"* 3 EXISTS".to_owned()));
    let wanted = message(1);
    assert_eq!(
        client.line(),
        format!("* 2 FETCH (BODY[] {{{}}}", wanted.len())
    );
    assert_eq!(client.octets(wanted.len()), wanted);
    client.until("c OK");
    client.raw(b"d IDLE\r\n");
    client.until("+");
    lab.state().deposit(MAILBOX, message(3));
    assert_eq!(client.line(), "* 4 EXISTS");
    client.raw(b"DONE\r\ne LOGOUT\r\n");
    client.until("e OK");
    assert!(client.is_closed());
    lab.logged(&[
        "event=\"reading\"",
        "protocol=\"imap\"",
        "server=\"notifications\"",
    ]);
}

#[test]
fn an_app_reads_its_mailbox_by_pop3() {
    let lab = lab("pop3");
    lab.state().deposit(MAILBOX, message(0));
    let mut client = connect(&lab);
    client.raw(b"USER erp\r\nPASS load\r\nSTAT\r\nRETR 1\r\nDELE 1\r\nQUIT\r\n");
    client.until("+OK Send the password");
    assert_eq!(client.line(), "+OK User successfully authenticated.");
    assert_eq!(client.line(), format!("+OK 1 {}", message(0).len()));
    assert_eq!(client.line(), "+OK");
    let mut stuffed = message(0);
    let dot = stuffed.windows(4).position(|it| it == b".dot");
    stuffed.insert(dot.expect("a dot"), b'.');
    assert_eq!(client.octets(stuffed.len()), stuffed);
    assert_eq!(client.line(), ".");
    client.until("+OK Microsoft Exchange Server POP3 server signing off.");
    lab.wait_for("a deletion", || {
        lab.state().inbox(MAILBOX).is_empty().then_some(())
    });
}

#[test]
fn a_user_reads_its_own_mailboxes_only() {
    let other = for_reading(crate::support::SERVER).replace("notifications", "jane");
    let plan = Plan {
        configuration: reading("imap") + &other,
        mailboxes: vec![MAILBOX, "jane@example.com"],
        ..Plan::default()
    };
    let lab = Lab::with(plan);
    for (name, expected) in [
        ("erp", "l OK "),
        ("erp/notifications", "l OK "),
        ("erp/Notifications@Example.com", "l OK "),
        (
            "erp/jane",
            "l NO [AUTHORIZATIONFAILED] User erp may not read the mailbox jane",
        ),
        (
            "nobody",
            "l NO [AUTHENTICATIONFAILED] Wrong user name or password",
        ),
        (
            "nobody/jane",
            "l NO [AUTHENTICATIONFAILED] Wrong user name or password",
        ),
    ] {
        let answer = login(&mut connect(&lab), name);
        assert!(answer.starts_with(expected), "{name}: {answer}");
    }
    lab.logged(&["event=\"reading_refused\"", "user=\"erp\"", "jane"]);
    let explained = lab.stdout(&["mailbox", "erp"]);
    assert!(
        explained.contains("mailbox:   notifications@example.com\nprotocol:  IMAP"),
        "{explained}"
    );
    for (arguments, why) in [
        (
            &["mailbox", "erp", "--protocol", "pop3"][..],
            "there is no listener for POP3",
        ),
        (
            &["mailbox", "nobody"],
            "there is no [[user]] with the name nobody",
        ),
    ] {
        let refused = lab.run(arguments);
        assert_eq!(refused.status.code(), Some(1));
        let said = String::from_utf8_lossy(&refused.stdout);
        assert!(said.contains(why), "{said}");
    }
    let refused = lab.run(&["mailbox", "erp/jane", "--json"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stdout).contains("may not read the mailbox jane"));
    let said = lab.stdout(&["check"]);
    assert!(
        said.contains("reads the mailboxes of notifications"),
        "{said}"
    );
}

#[test]
fn a_token_that_is_refused_is_renewed_once() {
    let lab = lab("imap");
    let refuse = |times: u32| {
        lab.fault(&format!(
            r#"{{"stage":"reading_auth","action":{{"reply":"NO AUTHENTICATE failed."}},"times":{times}}}"#
        ));
    };
    refuse(1);
    assert!(login(&mut connect(&lab), "erp").starts_with("l OK "));
    assert_eq!(lab.state().stats().token_requests, 2);
    refuse(4);
    let mut client = connect(&lab);
    for _ in 0..2 {
        let answer = login(&mut client, "erp");
        assert!(
            answer.starts_with("l NO [UNAVAILABLE] The mail server rejected mailferry's sign-in"),
            "{answer}"
        );
    }
    assert!(
        login(&mut client, "erp").starts_with("l OK "),
        "the same session goes on"
    );
    lab.logged(&[
        "reading_failed",
        "AUTHENTICATE failed",
        "Set-CASMailbox -Identity notifications@example.com -ImapEnabled $true",
    ]);
    lab.logged(&["event=\"reading_works\""]);
    assert_eq!(
        lab.log().matches("reading_failed").count(),
        1,
        "trouble is told once"
    );
}

#[test]
fn a_throttled_mailbox_gets_its_pause() {
    let lab = lab("pop3");
    lab.fault(
        r#"{"stage":"reading_auth","action":{"reply":"-ERR Request is throttled. Suggested Backoff Time: 500000 milliseconds"}}"#,
    );
    let mut client = connect(&lab);
    for _ in 0..2 {
        client.raw(b"USER erp\r\nPASS load\r\n");
        let answer = client.until("-ERR").pop().expect("an answer");
        assert!(answer.starts_with("-ERR [SYS/TEMP] "), "{answer}");
    }
    lab.logged(&[
        "reading_failed",
        "throttled",
        "signs in again after the pause",
    ]);
}

#[test]
fn the_test_of_a_server_goes_the_incoming_way_too() {
    let mut lab = lab("imap");
    lab.state().deposit(MAILBOX, message(0));
    for is_running in [true, false] {
        let said = lab.stdout(&["test", "notifications"]);
        let names = said
            .lines()
            .filter_map(|line| line.split_whitespace().nth(1));
        let names: Vec<&str> = names.skip_while(|name| *name != "AUTH").collect();
        assert_eq!(
            names,
            [
                "AUTH", "IMAP", "sign-in", "INBOX", "POP3", "sign-in", "INBOX"
            ],
            "{said}"
        );
        assert!(said.contains("INBOX    1 message"), "{said}");
        if is_running {
            lab.stop();
        }
    }
    for (stage, answer, step, remedy) in [
        (
            "reading_auth",
            "NO AUTHENTICATE failed.",
            "sign-in",
            "IMAP.AccessAsApp",
        ),
        (
            "reading_first",
            "BAD User is authenticated but not connected.",
            "sign-in",
            "Add-MailboxPermission -Identity notifications@example.com",
        ),
        (
            "reading_connect",
            "* BYE busy",
            "IMAP",
            "does not answer as expected",
        ),
    ] {
        lab.fault(&format!(
            r#"{{"stage":"{stage}","action":{{"reply":"{answer}"}},"times":2}}"#
        ));
        let output = lab.run(&["test", "notifications"]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success(), "{said}");
        let failed = said.lines().find(|line| line.starts_with("FAILED"));
        assert!(failed.is_some_and(|line| line.contains(step)), "{said}");
        assert!(said.contains(remedy), "{said}");
        lab.state().script.clear();
    }
}

#[test]
fn a_hold_of_sending_does_not_stop_reading() {
    let lab = lab("imap");
    lab.stdout(&["hold", "notifications", "--reason", "for now"]);
    assert!(login(&mut connect(&lab), "erp").starts_with("l OK "));
}

#[test]
fn adding_reading_disturbs_no_sending_until_somebody_signs_in_again() {
    let server = by_refresh_token();
    let smtp = Plan {
        configuration: USUAL.to_owned() + &server,
        ..Plan::default()
    };
    let mut lab = Lab::stopped(smtp);
    lab.write_private("refresh", "refresh-notifications@example.com");
    lab.start();
    id_of(&lab.send(MAILBOX, &admitted("before")));
    lab.delivered(1);
    let listener =
        "\n[[listener]]\nname = \"imap\"\nprotocol = \"imap\"\naddress = \"127.0.0.2:0\"\n";
    let usual = USUAL.replace(
        "name = \"erp\"",
        "name = \"erp\"\nmailboxes = [\"notifications\"]",
    );
    lab.configure(&(usual + listener + &for_reading(&server)));
    lab.signal("HUP");
    let line = lab.logged(&["event=\"listening\"", "listener=\"imap\""]);
    let address = line
        .split("address=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    let asked = lab.state().stats().token_requests;
    id_of(&lab.send(MAILBOX, &admitted("after")));
    lab.delivered(2);
    assert_eq!(
        lab.state().stats().token_requests,
        asked,
        "the cached token still serves"
    );
    let address = address.and_then(|it| it.parse().ok()).expect("an address");
    let answer = || {
        let mut client = Smtp::silent(address);
        client.line();
        login(&mut client, "erp")
    };
    assert!(answer().starts_with("l NO [UNAVAILABLE] "));
    lab.logged(&["event=\"reading_needs_sign_in\"", "mailferry connect"]);
    lab.logged(&["event=\"reading_failed\"", "for sending only"]);
    assert!(
        lab.stdout(&["tokens"])
            .contains("sign in again to add reading")
    );
    id_of(&lab.send(MAILBOX, &admitted("still")));
    lab.delivered(3);
    // The person consents, with a new sign-in elsewhere, and the new refresh token is configured.
    lab.state().consent(MAILBOX, "https://outlook.office.com/IMAP.AccessAsUser.All https://outlook.office.com/POP.AccessAsUser.All");
    lab.write_private("refresh", &lab.state().issue_refresh(MAILBOX));
    lab.signal("HUP");
    lab.wait_for("reading", || answer().starts_with("l OK ").then_some(()));
}

#[test]
fn open_sessions_are_told_when_the_program_stops() {
    let mut lab = lab("imap");
    let mut idle = connect(&lab);
    login(&mut idle, "erp");
    idle.raw(b"a SELECT INBOX\r\nb IDLE\r\n");
    idle.until("+");
    let mut waiting = connect(&lab);
    lab.stop();
    for client in [&mut idle, &mut waiting] {
        assert_eq!(
            client.line(),
            "* BYE [UNAVAILABLE] mailferry is stopping, connect again later"
        );
        assert!(client.is_closed());
    }
}

#[test]
fn a_reload_changes_the_protocol_of_a_listener() {
    let lab = lab("imap");
    lab.configure(&reading("pop3"));
    lab.signal("HUP");
    lab.wait_for("POP3", || {
        let greeting = Smtp::silent(lab.address).line();
        (greeting == "+OK mailferry is ready").then_some(())
    });
}

#[test]
fn a_client_is_told_in_its_protocol_why_it_is_turned_away() {
    for (protocol, expected) in [
        (
            "imap",
            "* BYE [CANNOT] 127.0.0.1 may not connect here (see the listener's `networks`)",
        ),
        (
            "pop3",
            "-ERR [SYS/PERM] 127.0.0.1 may not connect here (see the listener's `networks`)",
        ),
    ] {
        let configuration =
            reading(protocol).replace("protocol =", "networks = [\"192.0.2.0/24\"]\nprotocol =");
        let lab = Lab::with(Plan {
            configuration,
            ..Plan::default()
        });
        assert_eq!(Smtp::silent(lab.address).line(), expected);
    }
}

/// A mail server without TLS that this test plays itself. Returns the configuration that uses it.
fn played(protocol: &str) -> (TcpListener, Lab) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener
        .local_addr()
        .expect("an address")
        .port()
        .to_string();
    let configuration = reading(protocol)
        .replace("{imap} }", &format!("{port}, tls = \"none\" }}"))
        .replace("{pop3} }", &format!("{port}, tls = \"none\" }}"));
    let lab = Lab::with(Plan {
        configuration,
        ..Plan::default()
    });
    (listener, lab)
}

/// Accepts a connection, and signs mailferry in by IMAP.
fn accept(listener: &TcpListener) -> BufReader<TcpStream> {
    let (mut stream, _) = listener.accept().expect("a connection");
    stream.write_all(b"* OK ready\r\n").expect("writes");
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).expect("AUTHENTICATE");
    assert_eq!(line, "m2 AUTHENTICATE XOAUTH2\r\n");
    reader.get_mut().write_all(b"+ \r\n").expect("writes");
    reader.read_line(&mut line).expect("the response");
    let answer = b"m2 OK [CAPABILITY IMAP4rev1] done\r\n* OK at once\r\n";
    reader.get_mut().write_all(answer).expect("writes");
    reader
}

#[test]
fn octets_pass_unchanged_in_both_directions() {
    const COUNT: usize = 30_000_000;
    let octet = |at: usize| (at.wrapping_mul(2_654_435_761) >> 13) as u8;
    let (listener, lab) = played("imap");
    let server = std::thread::spawn(move || {
        let mut connection = accept(&listener);
        let mut writer = connection.get_ref().try_clone().expect("a clone");
        let sent: Vec<u8> = (0..COUNT).map(octet).collect();
        let sends = std::thread::spawn(move || writer.write_all(&sent).expect("writes"));
        let mut received = vec![0; COUNT];
        connection.read_exact(&mut received).expect("reads");
        sends.join().expect("ends");
        assert!(
            received
                .iter()
                .enumerate()
                .all(|(at, found)| *found == octet(at))
        );
    });
    let mut client = connect(&lab);
    assert_eq!(
        login(&mut client, "erp"),
        "l OK [CAPABILITY IMAP4rev1] Signed in"
    );
    assert_eq!(client.line(), "* OK at once");
    let sent: Vec<u8> = (0..COUNT).map(octet).collect();
    // Half at a time, so that neither side waits for the other with full buffers.
    for part in sent.chunks(100_000) {
        client.raw(part);
        assert!(client.octets(part.len()) == part);
    }
    server.join().expect("the server");
}

#[test]
fn a_mail_server_that_misbehaves_makes_a_clear_answer() {
    let (listener, lab) = played("imap");
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let greetings: [Vec<u8>; 5] = [
            Vec::new(),
            b"220 smtp.example.com\r\n".to_vec(),
            vec![b'x'; 1_000_000],
            b"* BYE too many connections\r\n".to_vec(),
            b"* OK ready\r\nm2 NO [UNAVAILABLE] later\r\n".to_vec(),
        ];
        for greeting in greetings {
            let (mut stream, _) = listener.accept().expect("a connection");
            let _ = stream.write_all(&greeting);
            // Closing with unread input would reset the connection.
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
            let _ = tell.send(());
        }
    });
    let mut client = connect(&lab);
    for reason in [
        "the server closed the connection",
        "expected the greeting of IMAP, got",
        "a line is longer than 65536 octets",
        "expected the greeting of IMAP, got",
        "m2 NO [UNAVAILABLE] later",
    ] {
        let answer = login(&mut client, "erp");
        assert!(
            answer.starts_with("l NO [UNAVAILABLE] "),
            "{reason}: {answer}"
        );
        told.recv().expect("a connection");
    }
    for part in [
        "closed the connection",
        "longer than 65536 octets",
        "smtp.example.com",
    ] {
        lab.logged(&["reading_failed", part]);
    }
}

#[test]
fn a_mail_server_that_breaks_off_is_reported_to_the_client() {
    let (listener, lab) = played("imap");
    let mut client = connect(&lab);
    let server = std::thread::spawn(move || {
        let connection = accept(&listener);
        let socket = rustix::net::sockopt::set_socket_linger(
            connection.get_ref(),
            Some(std::time::Duration::ZERO),
        );
        socket.expect("SO_LINGER");
        listener
    });
    login(&mut client, "erp");
    assert_eq!(client.line(), "* OK at once");
    let _listener = server.join().expect("the server");
    let last = client.line();
    assert_eq!(
        last,
        "* BYE [UNAVAILABLE] The connection to the mail server was lost",
        "{}",
        lab.log()
    );
    assert!(client.is_closed());
}

#[test]
fn commands_that_were_injected_before_tls_are_dropped() {
    let configuration = reading("imap").replace("protocol =", "tls = \"starttls\"\nprotocol =");
    let lab = Lab::with(Plan {
        configuration,
        ..Plan::default()
    });
    let mut client = connect(&lab);
    client.raw(b"a STARTTLS\r\nb LOGIN erp load\r\n");
    assert_eq!(client.line(), "a OK Begin TLS negotiation now");
    let own = lab.path("data/tls/self-signed.pem");
    let mut client = client.protected("relay.example.com", &own).expect("TLS");
    client.raw(b"c NOOP\r\n");
    assert_eq!(client.line(), "c OK NOOP completed");
}

#[test]
fn a_shared_mailbox_is_read_with_its_own_name() {
    const JANE: &str = "jane@example.com";
    let configuration = reading("imap").replace(
        "username = \"notifications@example.com\"\n",
        &format!("username = \"{MAILBOX}\"\naccount = \"{JANE}\"\n"),
    );
    let refresh = "grant = \"refresh_token\"\nrefresh_token = { file = \"refresh\" }";
    let mut lab = Lab::stopped(Plan {
        configuration: configuration.replace("grant = \"client_credentials\"", refresh),
        mailboxes: vec![MAILBOX, JANE],
        shared: Some((MAILBOX, JANE)),
        ..Plan::default()
    });
    let resource = "https://outlook.office.com";
    let scopes = format!(
        "{resource}/SMTP.Send {resource}/IMAP.AccessAsUser.All {resource}/POP.AccessAsUser.All"
    );
    lab.state().consent(JANE, &scopes);
    lab.write_private("refresh", &lab.state().issue_refresh(JANE));
    lab.state().deposit(MAILBOX, message(7));
    lab.start();
    let mut client = connect(&lab);
    assert!(login(&mut client, "erp").starts_with("l OK "));
    client.raw(b"s SELECT INBOX\r\nf FETCH 1 BODY.PEEK[]\r\n");
    assert!(client.until("f OK").contains(&"Subject: 7".to_owned()));
}

#[test]
fn a_proxy_says_who_reads() {
    let configuration = reading("imap").replace(
        "protocol =",
        "proxies = [\"127.0.0.1\"]\nnetworks = [\"192.0.2.0/24\"]\nprotocol =",
    );
    let lab = Lab::with(Plan {
        configuration,
        ..Plan::default()
    });
    let mut client = Smtp::silent(lab.address);
    client.raw(b"PROXY TCP4 192.0.2.7 127.0.0.1 4000 143\r\n");
    // Only version 2 is accepted.
    assert!(client.is_closed());
    let ends = (
        (std::net::Ipv4Addr::new(192, 0, 2, 7), 4_000),
        (std::net::Ipv4Addr::LOCALHOST, 143),
    );
    let ends: (std::net::SocketAddr, std::net::SocketAddr) = (ends.0.into(), ends.1.into());
    let version = ppp::v2::Version::Two | ppp::v2::Command::Proxy;
    let header = ppp::v2::Builder::with_addresses(version, ppp::v2::Protocol::Stream, ends);
    let mut client = Smtp::silent(lab.address);
    client.raw(&header.build().expect("a header"));
    client.line();
    assert!(login(&mut client, "erp").starts_with("l OK "));
    lab.logged(&["event=\"reading\"", "peer=\"192.0.2.7\""]);
}

#[test]
fn a_socket_of_systemd_speaks_imap_too() {
    if !have("reading::systemd", &["systemd-socket-activate"]) {
        return;
    }
    let systemd = "systemd = \"imap\"\nallow_plaintext = true";
    let mut lab = Lab::stopped(Plan {
        configuration: reading("imap").replace("address = \"127.0.0.1:0\"", systemd),
        ..Plan::default()
    });
    lab.started_by_systemd("imap");
    assert!(login(&mut connect(&lab), "erp").starts_with("l OK "));
}

#[test]
fn who_may_no_longer_read_is_told_at_once() {
    let other = "[[user]]\nname = \"other\"\npassword = { file = \"erp.argon2\" }\nmailboxes = [\"notifications\"]\n\n[delivery]";
    let configuration = reading("imap").replace("[delivery]", other);
    let lab = Lab::with(Plan {
        configuration: configuration.clone(),
        ..Plan::default()
    });
    let mut client = connect(&lab);
    assert!(login(&mut client, "erp").starts_with("l OK "));
    // A reload that takes no right away leaves the session alone.
    lab.signal("HUP");
    lab.logged(&["event=\"reloaded\""]);
    client.raw(b"n NOOP\r\n");
    client.until("n OK");
    lab.configure(&configuration.replacen("mailboxes = [\"notifications\"]", "", 1));
    lab.signal("HUP");
    assert_eq!(
        client.line(),
        "* BYE [AUTHORIZATIONFAILED] You may no longer read this mailbox"
    );
    assert!(client.is_closed());
    lab.logged(&[
        "event=\"reading_ended\"",
        "user=\"erp\"",
        "You may no longer",
    ]);
}

#[test]
fn a_client_that_never_rests_is_told_when_the_program_stops() {
    let mut lab = lab("imap");
    let mut client = connect(&lab);
    assert!(login(&mut client, "erp").starts_with("l OK "));
    let polling = std::thread::spawn(move || {
        loop {
            if client.try_raw(b"n NOOP\r\n").is_err() {
                return String::new();
            }
            let line = client.line();
            if !line.starts_with("n OK") {
                return line;
            }
            std::thread::park_timeout(std::time::Duration::from_millis(300));
        }
    });
    let (is_well, after) = lab.stop();
    assert!(
        is_well && after < std::time::Duration::from_secs(15),
        "{after:?}"
    );
    let last = polling.join().expect("ends");
    assert!(
        last.starts_with("* BYE [UNAVAILABLE] mailferry is stopping"),
        "{last}"
    );
}

#[test]
fn a_refused_conversation_is_in_the_log() {
    let configuration = reading("imap").replace(
        "protocol =",
        "tls = \"starttls\"\nallow_plaintext = false\nprotocol =",
    );
    let configuration = configuration.replace("127.0.0.1:0", "0.0.0.0:0");
    let lab = Lab::with(Plan {
        configuration,
        ..Plan::default()
    });
    let mut client = Smtp::silent((std::net::Ipv4Addr::LOCALHOST, lab.address.port()).into());
    client.line();
    assert!(login(&mut client, "erp").starts_with("l NO [PRIVACYREQUIRED] "));
    lab.logged(&["event=\"reading_refused\"", "only inside TLS"]);
    client.raw(b"GET / HTTP/1.1\r\na LOGIN erp load\r\n");
    assert_eq!(client.line(), "* BYE This is IMAP and not HTTP, closing");
    assert!(client.is_closed());
    lab.logged(&["event=\"reading_refused\"", "not HTTP"]);
}
