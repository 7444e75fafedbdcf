//! Messages as real apps and devices send them, taken from public bug reports of many tools: no author,
//! name or header is lost.

use std::process::Command;

use crate::support::{Asked, Lab, Plan, SERVER, Smarthost, Smtp, USUAL, admitted, have, id_of};

const N: &str = "notifications@example.com";

/// Starts a laboratory that admits example.com and the default sender address.
fn lab() -> Lab {
    let filter = "from_filter = \"notifications@example.com, example.com\"";
    let server = SERVER.replace("from_filter = \"notifications@example.com\"", filter);
    Lab::with(Plan {
        configuration: USUAL.to_owned() + &server,
        send_as: vec!["john@example.com", "a@example.com"],
        ..Plan::default()
    })
}

/// Sends octets as they are, without dot-stuffing. Returns the reply to the final dot.
fn send_raw(lab: &Lab, sender: &str, message: &[u8]) -> String {
    let mut client = lab.client();
    client.expect(&format!("MAIL FROM:<{sender}>"), "250");
    client.expect("RCPT TO:<b@example.net>", "250");
    client.expect("DATA", "354");
    client.raw(&[message, b"\r\n.\r\n"].concat());
    client.reply()
}

/// Sends a message with this From. Returns the header section that the server receives, with folded lines
/// joined.
fn leaves_with(lab: &Lab, number: u64, from: &[u8]) -> String {
    let rest = b"\r\nDate: d\r\nMessage-ID: <1@x>\r\n\r\nhi";
    let message = [b"From: ", from, rest].concat();
    id_of(&send_raw(lab, "app@elsewhere.org", &message));
    let text = lab.delivered(number).pop().expect("it came").text;
    let head = text.split("\r\n\r\n").next().expect("a header");
    head.replace("\r\n ", " ")
}

/// Opens a session and sends commands up to DATA: the client may now send the message's octets.
fn in_data(lab: &Lab) -> Smtp {
    let mut client = lab.client();
    client.expect(&format!("MAIL FROM:<{N}>"), "250");
    client.expect("RCPT TO:<b@example.net>", "250");
    client.expect("DATA", "354");
    client
}

#[test]
fn authors_of_malformed_fields_are_found_and_answered() {
    let lab = lab();
    let cases: [(&str, &str, &str); 6] = [
        // OCA/mail PR#45, TRC-Loop/Pelton#312, Dolibarr/dolibarr#8152
        (
            "Schmid, J\u{fc}rgen <jane@elsewhere.org>",
            "=?utf-8?Q?Schmid=2C_J=C3=BCrgen?=",
            "jane@elsewhere.org",
        ),
        // odoo/odoo PR#16594
        (
            "Machin &amp; Brol <sales@elsewhere.org>",
            "\"Machin &amp; Brol\"",
            "sales@elsewhere.org",
        ),
        // 4teamwork/opengever.core PR#1180
        (
            "=?utf-8?q?J=C3=B6hn_=3Cjohn=40elsewhere=2Eorg=3E?=",
            "=?utf-8?B?SsO2aG4=?=",
            "john@elsewhere.org",
        ),
        (
            "John Doe john@elsewhere.org",
            "\"John Doe\"",
            "john@elsewhere.org",
        ),
        (
            "Team: Jane <jane@elsewhere.org>",
            "\"Team: Jane\"",
            "jane@elsewhere.org",
        ),
        ("<jane@elsewhere.org", "\"jane\"", "jane@elsewhere.org"),
    ];
    for (number, (from, name, reply_to)) in (1..).zip(cases) {
        let head = leaves_with(&lab, number, from.as_bytes());
        for line in [
            format!("From: {name} <{N}>"),
            format!("Reply-To: {reply_to}"),
        ] {
            assert!(head.lines().any(|it| it == line), "{line}\n{head}");
        }
    }
    lab.logged(&["event=\"author_guessed\"", "jane@elsewhere.org"]);
}

#[test]
fn an_author_that_is_admitted_leaves_well_formed() {
    let lab = lab();
    let head = leaves_with(&lab, 1, b"Doe, John <john@example.com>");
    assert!(
        head.contains("From: \"Doe, John\" <john@example.com>"),
        "{head}"
    );
    assert!(!head.contains("Reply-To"), "{head}");
}

#[test]
fn a_from_without_an_author_is_told() {
    let lab = lab();
    let head = leaves_with(&lab, 1, b"a@x.org, b <c@y.org> <d@z.org>");
    assert!(head.contains(&format!("From: {N}")), "{head}");
    lab.logged(&["event=\"author_unknown\"", "d@z.org"]);
}

#[test]
fn names_in_any_character_set_stay() {
    let lab = lab();
    let cases: [(&[u8], &str); 7] = [
        // thunderbird/thunderbird-android#2499, jstedfast/MailKit#629
        (b"=?gb2312?B?suLK1A==?= <j@elsewhere.org>", "测试"),
        (
            b"=?iso-2022-jp?B?GyRCJUYlOSVIGyhC?= <j@elsewhere.org>",
            "テスト",
        ),
        (b"=?euc-kr?B?x9GxuQ==?= <j@elsewhere.org>", "한국"),
        // neomutt/neomutt#1015, mscdex/node-imap PR#360
        (
            b"=?utf-8?B?SsM=?=\r\n =?utf-8?B?tmhu?= <j@elsewhere.org>",
            "J\u{f6}hn",
        ),
        // mozilla/fx-private-relay#523
        (b"J\xf6hn <j@elsewhere.org>", "J\u{f6}hn"),
        // jackbearheart/email-addresses PR#61
        (b"John \"JD\" Doe <j@elsewhere.org>", "John JD Doe"),
        (
            b"=?x-unknown?B?suLK1A==?= <j@elsewhere.org>",
            "=?x-unknown?B?suLK1A==?=",
        ),
    ];
    for (number, (from, name)) in (1..).zip(cases) {
        let head = leaves_with(&lab, number, from);
        let line = head.lines().find(|line| line.starts_with("From: "));
        let value = &line.expect("a From").as_bytes()["From: ".len()..];
        let author = mailferry::message::Author::of_value(value);
        let mailbox = author.mailbox().expect("one author");
        assert_eq!(mailbox.name.as_deref(), Some(name), "{head}");
        assert!(!head.contains('\u{fffd}'), "{head}");
    }
}

#[test]
fn a_reply_to_that_names_nobody_does_not_hinder_answers() {
    let lab = lab();
    for (number, empty) in (1..).zip(["Reply-To: <>", "Reply-To:"]) {
        let from = format!("Jane <jane@elsewhere.org>\r\n{empty}");
        let head = leaves_with(&lab, number, from.as_bytes());
        assert!(
            head.contains("Reply-To: Jane <jane@elsewhere.org>"),
            "{head}"
        );
        assert_eq!(head.matches("Reply-To").count(), 1, "{head}");
    }
}

#[test]
fn resent_bcc_is_not_told_to_anybody() {
    let lab = lab();
    let head = leaves_with(&lab, 1, b"a@example.com\r\nResent-Bcc: hidden@example.net");
    assert!(!head.contains("hidden"), "{head}");
}

#[test]
fn several_crs_before_lf_are_one_line_end() {
    let lab = lab();
    let message = b"From: a@example.com\r\r\nTo: b@example.net\r\r\nSubject: x\r\r\nDate: d\r\r\nMessage-ID: <1@x>\r\r\n\r\r\nbody\r\r\n";
    id_of(&send_raw(&lab, "a@example.com", message));
    let text = &lab.delivered(1)[0].text;
    let sent = "From: a@example.com\r\nTo: b@example.net\r\nSubject: x\r\nDate: d\r\nMessage-ID: <1@x>\r\n\r\nbody\r\n\r\n";
    assert!(text.ends_with(sent), "{text:?}");
}

#[test]
fn a_separator_of_an_mbox_file_hides_no_header() {
    let lab = lab();
    for (number, line) in (1..).zip(["From", ">From"]) {
        let message = format!(
            "{line} a@example.com Mon Jan  1 00:00:00 2024\r\nFrom: a@example.com\r\nSubject: x\r\n\r\nhi"
        );
        id_of(&send_raw(&lab, "a@example.com", message.as_bytes()));
        let text = lab.delivered(number).pop().expect("it came").text;
        let (head, body) = text.split_once("\r\n\r\n").expect("a header");
        assert!(
            head.contains("\r\nSubject: x") && !head.contains("2024"),
            "{text}"
        );
        assert_eq!(body, "hi\r\n");
    }
}

#[test]
fn postmaster_needs_no_domain() {
    let lab = lab();
    let mut client = lab.client();
    id_of(&client.send(N, &["Postmaster"], &admitted("help")));
    let got = &lab.delivered(1)[0];
    assert_eq!(got.recipients, ["postmaster@example.com"]);
}

#[test]
fn a_message_that_goes_in_a_circle_is_stopped() {
    let lab = lab();
    let with = |count: usize| {
        let trace = "Received: from a by b; Mon, 1 Jan 2024 00:00:00 +0000\r\n".repeat(count);
        lab.send(N, &(trace + &admitted("again")))
    };
    id_of(&with(99));
    let reply = with(100);
    assert!(reply.starts_with("554 5.4.6 Mail loop"), "{reply}");
}

#[test]
fn check_warns_of_a_server_that_is_our_own_listener() {
    let lab = Lab::stopped(Plan::default());
    let circle = "\n[[server]]\nname = \"circle\"\nhost = \"localhost\"\nport = 2525\ntls = \"none\"\nauth = \"none\"\n";
    lab.configure(&(USUAL.replace("127.0.0.1:0", "127.0.0.1:2525") + SERVER + circle));
    let said = lab.stdout(&["check"]);
    assert!(said.contains("mail would loop"), "{said}");
}

#[test]
fn a_name_in_ehlo_is_made_harmless() {
    let lab = lab();
    let mut client = Smtp::connect(lab.address);
    let long = "a".repeat(3_000);
    client.expect(&format!("EHLO {long}(b\u{1b}[31m)"), "250");
    client.expect("AUTH PLAIN AGVycABsb2Fk", "235");
    id_of(&client.send(N, &["b@example.net"], &admitted("x")));
    let text = &lab.delivered(1)[0].text;
    let trace = text.lines().next().expect("a line");
    assert!(trace.len() < 998 && !trace.contains('\u{1b}'), "{trace}");
    assert_eq!(trace.matches('(').count(), trace.matches(')').count());
}

#[test]
fn the_end_of_a_session_waits_for_the_message_under_way() {
    let configuration = USUAL.to_owned() + SERVER + "\n[limits]\nsession_time = \"1s\"\n";
    let lab = Lab::with(Plan {
        configuration,
        ..Plan::default()
    });
    let mut client = in_data(&lab);
    client.raw(admitted("slow").as_bytes());
    // When this newer session is closed, the session time of the older session has passed as well.
    let mut idle = lab.client();
    assert!(idle.reply().starts_with("421 4.4.2 Session time"));
    client.raw(b".\r\n");
    id_of(&client.reply());
    let next = client.try_command(&format!("MAIL FROM:<{N}>"));
    assert!(
        next.starts_with("421 4.4.2 Session time") || next.is_empty(),
        "{next}"
    );
    lab.delivered(1);
}

#[test]
fn a_message_that_ends_in_lf_dot_lf_gets_a_hint() {
    let configuration = USUAL.to_owned() + SERVER + "\n[limits]\nidle_time = \"1s\"\n";
    let lab = Lab::with(Plan {
        configuration,
        ..Plan::default()
    });
    let mut client = in_data(&lab);
    client.raw(b"From: a@example.com\n\nhi\n.\n");
    let reply = client.reply();
    assert!(
        reply.starts_with("421 4.4.2 The message ended in LF . LF"),
        "{reply}"
    );
    lab.logged(&["event=\"refused\"", "LF . LF"]);
}

#[test]
fn tls_at_a_port_in_clear_is_named() {
    let lab = lab();
    let mut client = Smtp::silent(lab.address);
    client.raw(&[
        0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03,
    ]);
    assert!(client.reply().starts_with("220"));
    assert!(
        client
            .reply()
            .starts_with("421 4.7.0 This port does not start with TLS")
    );
    lab.logged(&["event=\"speaks_tls\""]);
}

#[test]
fn a_device_that_knows_rsa_alone_is_served() {
    if !have("inputs::rsa", &["openssl"]) {
        return;
    }
    let configuration = USUAL.replace(
        "address = \"127.0.0.1:0\"",
        "address = \"127.0.0.1:0\"\ntls = \"implicit\"",
    ) + SERVER;
    let lab = Lab::with(Plan {
        configuration,
        ..Plan::default()
    });
    let handshake = |cipher: &str| {
        let address = lab.address.to_string();
        let shaken = Command::new("openssl")
            .args([
                "s_client", "-connect", &address, "-tls1_2", "-cipher", cipher,
            ])
            .stdin(std::process::Stdio::null())
            .output()
            .expect("runs");
        String::from_utf8_lossy(&shaken.stdout).into_owned()
    };
    for cipher in [
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
    ] {
        let said = handshake(cipher);
        assert!(said.contains(&format!("Cipher is {cipher}")), "{said}");
    }
    // We support no TLS_RSA cipher suite: the log says what to do.
    handshake("AES128-GCM-SHA256");
    lab.logged(&[
        "event=\"session_failed\"",
        "no cipher suite",
        "tls = \\\"none\\\"",
    ]);
}

#[test]
fn a_smarthost_that_knows_no_ehlo_is_greeted_with_helo() {
    let server = Smarthost::start(|asked, _| match asked {
        Asked::Command(line) if line.starts_with("EHLO") => Some("502 5.5.1 not implemented"),
        _ => None,
    });
    let lab = Lab::with(Plan {
        configuration: USUAL.to_owned() + &server.server("main"),
        ..Plan::default()
    });
    let id = id_of(&lab.send(N, &admitted("old")));
    lab.logged(&["event=\"delivered\"", &id]);
    let commands = server.seen().commands;
    assert!(
        commands.iter().any(|line| line == "HELO relay.example.com"),
        "{commands:?}"
    );
}

#[test]
fn a_smarthost_that_refuses_one_sender_goes_on_for_others() {
    let server = Smarthost::start(|asked, _| match asked {
        Asked::Command(line) if line.starts_with("MAIL FROM:<poison@") => {
            Some("550 5.1.8 <poison@example.com>: Sender address rejected: Domain not found")
        }
        _ => None,
    });
    let lab = Lab::with(Plan {
        configuration: USUAL.replace("default_from = \"notifications@example.com\"\n", "")
            + &server.server("main"),
        ..Plan::default()
    });
    let poison = "From: poison@example.com\r\n\r\nx";
    let refused = id_of(&lab.send("poison@example.com", poison));
    lab.logged(&["event=\"failed\"", &refused, "5.1.8"]);
    let good = id_of(&lab.send("a@example.com", "From: a@example.com\r\n\r\nx"));
    lab.logged(&["event=\"delivered\"", &good]);
    assert!(!lab.log().contains("event=\"server_held\""));
}

#[test]
fn too_many_recipients_by_552_go_in_a_further_transaction() {
    let server = Smarthost::start(|asked, seen| {
        let is_first = seen.contents.is_empty();
        match asked {
            Asked::Command("RCPT TO:<r2@example.net>") if is_first => {
                Some("552 5.5.3 Too many recipients")
            }
            _ => None,
        }
    });
    let lab = Lab::with(Plan {
        configuration: USUAL.to_owned() + &server.server("main"),
        ..Plan::default()
    });
    let to = ["r1@example.net", "r2@example.net"];
    let id = id_of(&lab.client().send(N, &to, &admitted("two")));
    lab.logged(&["event=\"delivered\"", &id, "r1@example.net"]);
    lab.logged(&["event=\"delivered\"", &id, "r2@example.net"]);
    assert_eq!(server.seen().contents.len(), 2);
}
