//! Delivery from the app to the stand-in for Exchange, and the reports that come back.

use std::time::Duration;

use mailferry::sandbox::SandboxLimits;

use crate::support::{Lab, Plan, SERVER, Smtp, USUAL, admitted, have, id_of};

#[test]
fn only_the_requested_changes_reach_the_upstream() {
    let lab = Lab::new();
    let body = ".\r\n..two\r\ncaf\u{e9}\r\n\ttab \r\n\r\n.\r\n";
    let headers = "Subject:  odd\r\n \t folding \r\nFROM : <notifications@example.com>\r\nDate: now\r\nMessage-Id: <1@x>\r\nX-8: \u{e9}\r\n";
    let sent = format!("{headers}\r\n{body}");
    let mut client = lab.client();
    let id = id_of(&client.send(
        "notifications@example.com",
        &["someone@example.net"],
        sent.trim_end_matches("\r\n"),
    ));
    let got = &lab.delivered(1)[0];
    let (trace, rest) = got
        .text
        .split_at(got.text.find("Subject:").expect("the subject"));
    assert_eq!(rest, sent.trim_end_matches("\r\n").to_owned() + "\r\n");
    assert!(trace.starts_with("Received: from test ([127.0.0.1])\r\n\tby relay.example.com (mailferry) with ESMTPA id "), "{trace}");
    assert!(trace.contains(&id));
    assert_eq!(
        (got.mailbox.as_str(), got.sender.as_str()),
        ("notifications@example.com", "notifications@example.com")
    );
    let line = lab.logged(&["delivered", &id]);
    assert!(line.contains("250 2.0.0 OK <1@x>"), "{line}");
}

#[test]
fn bare_newlines_leave_as_crlf() {
    let lab = Lab::new();
    let mut client = lab.client();
    let sent =
        "From: notifications@example.com\r\nDate: d\r\nMessage-ID: <1>\r\n\r\none\ntwo\rthree\r\n";
    assert!(
        client
            .send("notifications@example.com", &["a@b.c"], sent)
            .starts_with("250")
    );
    assert!(
        lab.delivered(1)[0]
            .text
            .ends_with("\r\n\r\none\r\ntwo\r\nthree\r\n\r\n")
    );
}

#[test]
fn a_rewritten_message_speaks_as_the_default() {
    let lab = Lab::new();
    lab.send(
        "john@x.com",
        "From: \"Doe, John\" <john@x.com>\r\nBcc: hidden@x.com\r\n\r\nhi",
    );
    let got = &lab.delivered(1)[0];
    assert_eq!(got.sender, "notifications@example.com");
    assert!(got.text.contains("From: \"Doe, John\" <notifications@example.com>\r\nReply-To: \"Doe, John\" <john@x.com>\r\n"));
    assert!(
        !got.text.contains("hidden")
            && got.text.contains("\r\nMessage-ID: <")
            && got.text.contains("\r\nDate: ")
    );
}

#[test]
fn large_messages_stream_through_a_file() {
    let lab = Lab::new();
    let line = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef012345\r\n";
    let message = admitted("large") + &".dotted\r\n".repeat(10) + &line.repeat(60_000);
    id_of(&lab.send("notifications@example.com", &message));
    let got = &lab.delivered(1)[0];
    assert!(
        got.text
            .ends_with(&(message[message.find("\r\n\r\n").unwrap()..].to_owned() + "\r\n"))
    );
    lab.wait_for("an empty content folder", || {
        let mut files = std::fs::read_dir(lab.path("data/spool/content")).ok()?;
        files.next().is_none().then_some(())
    });
}

#[test]
fn transient_trouble_is_tried_again() {
    let lab = Lab::new();
    for fault in [
        r#"{"stage":"connect","action":"drop"}"#,
        r#"{"stage":"auth","action":{"reply":"451 4.7.0 Temporary server error"}}"#,
        r#"{"stage":"mail","action":{"reply":"451 4.3.2 later"}}"#,
        r#"{"stage":"final_dot","action":{"reply":"432 4.3.2 Concurrent connections limit exceeded"}}"#,
        r#"{"stage":"final_dot","action":"drop"}"#,
    ] {
        lab.fault(fault);
    }
    let id = id_of(&lab.send("notifications@example.com", &admitted("patience")));
    assert_eq!(lab.delivered(1).len(), 1);
    lab.logged(&["deferred", &id, "uncertain=true"]);
    lab.logged(&["delivered", &id]);
}

#[test]
fn a_recipient_that_fails_is_reported_and_the_others_go_on() {
    let lab = Lab::new();
    lab.fault(r#"{"stage":"rcpt","action":{"reply":"550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found"},"matches":"bad@","times":9}"#);
    lab.fault(r#"{"stage":"rcpt","action":{"reply":"451 4.7.500 Server busy"},"matches":"slow@"}"#);
    let mut client = lab.client();
    let recipients = ["good@example.net", "bad@example.net", "slow@example.net"];
    let id = id_of(&client.send("notifications@example.com", &recipients, &admitted("three")));
    let got = lab.delivered(3);
    let to = |recipient: &str| got.iter().find(|message| message.recipients == [recipient]);
    assert!(to("good@example.net").is_some() && to("slow@example.net").is_some());
    let report = to("notifications@example.com").expect("a report");
    assert_eq!(report.sender, "");
    for part in [
        "multipart/report",
        "Final-Recipient: rfc822; bad@example.net",
        "Diagnostic-Code: smtp; 550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found",
        "Action: failed",
        "Subject: three",
        id.as_str(),
    ] {
        assert!(
            report.text.contains(part),
            "{part:?} is not in\n{}",
            report.text
        );
    }
}

#[test]
fn no_report_is_sent_unless_requested() {
    let lab = Lab::new();
    lab.fault(r#"{"stage":"rcpt","action":{"reply":"550 5.1.1 no"},"times":3}"#);
    let mut client = lab.client();
    client.expect("MAIL FROM:<notifications@example.com>", "250");
    client.expect("RCPT TO:<a@b.c> NOTIFY=NEVER", "250");
    client.expect("DATA", "354");
    let never = id_of(&client.command("From: notifications@example.com\r\n\r\nx\r\n."));
    lab.logged(&["failed", &never]);
    let null = id_of(&client.send("", &["a@b.c"], "From: notifications@example.com\r\n\r\nx"));
    lab.logged(&["held", &null]);
    lab.wait_for("the held one alone", || {
        let listed = lab.stdout(&["queue", "list"]);
        let is_so = listed.contains("held") && listed.contains(&null) && !listed.contains(&never);
        is_so.then_some(())
    });
    assert_eq!(lab.state().stats().messages, 0);
}

#[test]
fn what_is_given_up_is_reported() {
    let configuration = USUAL.replace(
        "retry = [\"1s\"]",
        "retry = [\"1ms\"]\nexpire_after = \"1s\"",
    ) + SERVER;
    let lab = Lab::with(Plan {
        configuration,
        ..Plan::default()
    });
    lab.fault(r#"{"stage":"mail","action":{"reply":"451 4.3.2 never"},"times":1000000,"matches":"notifications"}"#);
    lab.send("notifications@example.com", &admitted("hopeless"));
    let report = &lab.delivered(1)[0];
    assert!(
        report.text.contains("Given up after") && report.text.contains("451 4.3.2 never"),
        "{}",
        report.text
    );
}

#[test]
fn a_direct_server_gives_the_app_the_upstreams_own_reply() {
    let configuration = format!("{USUAL}{SERVER}mode = \"direct\"\n");
    let lab = Lab::with(Plan {
        configuration,
        ..Plan::default()
    });
    let reply = lab.send("notifications@example.com", &admitted("direct"));
    assert!(
        reply.starts_with("250 2.0.0 OK <") && reply.contains("SANDBOX"),
        "{reply}"
    );
    lab.fault(r#"{"stage":"rcpt","action":{"reply":"550 5.1.10 Recipient not found"}}"#);
    let reply = lab.send("notifications@example.com", &admitted("direct"));
    assert_eq!(reply, "550 5.1.10 Recipient not found\r\n");
    lab.fault(r#"{"stage":"final_dot","action":{"reply":"432 4.3.2 Concurrent connections limit exceeded"}}"#);
    assert!(
        lab.send("notifications@example.com", &admitted("direct"))
            .starts_with("432 4.3.2 Concurrent")
    );
    lab.fault(r#"{"stage":"rcpt","action":{"reply":"550 5.1.1 no"},"matches":"bad@"}"#);
    let both = lab.client().send(
        "notifications@example.com",
        &["good@x.y", "bad@x.y"],
        &admitted("both"),
    );
    assert_eq!(both, "550 5.1.1 no\r\n");
    assert_eq!(
        lab.state().stats().messages,
        1,
        "nothing is sent unless all are accepted"
    );
    assert_eq!(lab.stdout(&["queue", "list"]), "0 in the queue\n");
}

#[test]
fn sessions_are_kept_between_messages() {
    let lab = Lab::new();
    let mut client = lab.client();
    for count in 1..=20 {
        id_of(&client.send("notifications@example.com", &["a@b.c"], &admitted("kept")));
        lab.delivered(count);
    }
    let stats = lab.state().stats();
    assert!(stats.connections <= 3, "{stats:?}");
    assert_eq!(stats.token_requests, 1);
}

#[test]
fn a_mailbox_that_may_not_send_as_somebody_says_so_to_the_sender() {
    let configuration =
        USUAL.to_owned() + &SERVER.replace("from_filter = \"", "from_filter = \"example.com, ");
    let lab = Lab::with(Plan {
        configuration,
        ..Plan::default()
    });
    lab.send(
        "boss@example.com",
        "From: The Boss <boss@example.com>\r\n\r\nx",
    );
    let report = &lab.delivered(1)[0];
    assert_eq!(report.recipients, ["boss@example.com"]);
    assert!(
        report.text.contains("554 5.2.252 SendAsDenied"),
        "{}",
        report.text
    );
}

#[test]
fn the_limits_of_a_mailbox_lose_nothing() {
    let limits = SandboxLimits {
        per_minute: 5,
        sessions: 1,
        ..SandboxLimits::default()
    };
    let configuration = format!("{USUAL}{SERVER}sessions = 3\n");
    let lab = Lab::with(Plan {
        limits,
        configuration,
        ..Plan::default()
    });
    let mut client = lab.client();
    for _ in 0..5 {
        id_of(&client.send(
            "notifications@example.com",
            &["a@b.c"],
            &admitted("limited"),
        ));
    }
    assert_eq!(lab.delivered(5).len(), 5);
    id_of(&client.send(
        "notifications@example.com",
        &["a@b.c"],
        &admitted("one more"),
    ));
    lab.logged(&[
        "server_crowded",
        "Message submission rate for this client has exceeded",
    ]);
    lab.queued(1);
}

#[test]
fn a_second_session_resumes_the_tls_of_the_first() {
    let lab = Lab::with(Plan {
        configuration: USUAL.to_owned() + SERVER,
        ..Plan::default()
    });
    let tested = |times: usize| {
        let said = lab.stdout(&["test", "notifications"]);
        assert_eq!(said.matches(", resumed").count(), times, "{said}");
    };
    tested(0);
    tested(1);
}

#[test]
fn a_day_that_is_used_up_elsewhere_holds_the_mailbox() {
    let limits = SandboxLimits {
        per_day: 2,
        ..SandboxLimits::none()
    };
    let lab = Lab::with(Plan {
        limits,
        ..Plan::default()
    });
    for _ in 0..3 {
        id_of(&lab.send("notifications@example.com", &admitted("day")));
    }
    lab.delivered(2);
    lab.logged(&[
        "server_held",
        "SubmissionQuotaExceeded",
        "10,000 recipients in 24 hours",
    ]);
    lab.queued(1);
}

#[test]
fn a_mailbox_is_let_rest_before_repeated_errors_make_it_worse() {
    let limits = SandboxLimits {
        errors: 2,
        ..SandboxLimits::none()
    };
    let filter = "from_filter = \"notifications@example.com\"";
    let server = SERVER.replace(filter, "from_filter = \"example.com\"");
    let lab = Lab::with(Plan {
        limits,
        configuration: USUAL.to_owned() + &server,
        ..Plan::default()
    });
    let mut client = lab.client();
    for name in ["one", "two", "three"] {
        let sender = format!("{name}@example.com");
        let message = admitted(name).replace("notifications@example.com", &sender);
        let id = id_of(&client.send(&sender, &["a@b.c"], &message));
        if name != "three" {
            lab.logged(&["failed", &id, "SendAsDenied"]);
        }
    }
    lab.logged(&["server_held", "550 5.2.251", "repeated errors"]);
}

#[test]
fn starttls_is_offered_with_a_certificate_and_parameters_are_passed_on() {
    let made =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let listener = "address = \"127.0.0.1:0\"\ncertificate = \"relay.pem\"\nkey = \"relay.key\"";
    let configuration = USUAL.replace("address = \"127.0.0.1:0\"", listener) + SERVER;
    let mut lab = Lab::stopped(Plan {
        configuration,
        ..Plan::default()
    });
    lab.write("relay.pem", &made.cert.pem());
    lab.write_private("relay.key", &made.signing_key.serialize_pem());
    lab.start();
    let mut client = Smtp::connect(lab.address);
    assert!(client.expect("EHLO x", "250").contains("STARTTLS"));
    client.expect("AUTH PLAIN AGVycABsb2Fk", "235");
    client.expect(
        "MAIL FROM:<notifications@example.com> BODY=8BITMIME RET=HDRS ENVID=e1",
        "250",
    );
    client.expect("RCPT TO:<a@b.c> NOTIFY=FAILURE ORCPT=rfc822;o@b.c", "250");
    client.expect("DATA", "354");
    id_of(&client.command("From: notifications@example.com\r\n\r\nx\r\n."));
    let commands = &lab.delivered(1)[0].commands;
    assert!(
        commands[0].contains(" BODY=8BITMIME RET=HDRS ENVID=e1") && commands[0].contains("SIZE="),
        "{commands:?}"
    );
    assert_eq!(
        commands[1],
        "RCPT TO:<a@b.c> NOTIFY=FAILURE ORCPT=rfc822;o@b.c"
    );
}

#[test]
fn one_held_server_delays_no_other() {
    let other = SERVER.replace("notifications", "sales");
    let configuration = format!("{USUAL}{SERVER}{other}");
    let lab = Lab::with(Plan {
        mailboxes: vec!["notifications@example.com", "sales@example.com"],
        configuration,
        ..Plan::default()
    });
    lab.fault(r#"{"stage":"auth","action":{"reply":"535 5.7.139 disabled"},"times":1000}"#);
    lab.send("notifications@example.com", &admitted("held"));
    lab.logged(&["server_held", "notifications"]);
    while lab
        .state()
        .script
        .strike(mailferry::sandbox::FaultStage::Auth, "")
        .is_some()
    {}
    let mut client = lab.client();
    for _ in 0..10 {
        client.send("notifications@example.com", &["a@b.c"], &admitted("held"));
        client.send(
            "sales@example.com",
            &["a@b.c"],
            "From: sales@example.com\r\n\r\nx",
        );
    }
    assert!(
        lab.delivered(10)
            .iter()
            .all(|message| message.mailbox == "sales@example.com")
    );
    lab.queued(11);
}

/// A small separate disk, which is removed after the test.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(at: std::path::PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&at).expect("a folder");
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=12m", "tmpfs"])
            .arg(&at)
            .stderr(std::process::Stdio::null())
            .status();
        mount
            .is_ok_and(|status| status.success())
            .then_some(Self(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .status();
    }
}

#[test]
fn a_full_disk_is_452_and_nothing_promised_is_lost() {
    let mut lab = Lab::stopped(Plan::default());
    let Some(_disk) = SmallDisk::mount(lab.path("data")) else {
        // Only root may mount; `tests/run` runs as root in CI.
        have(
            "a_full_disk_is_452_and_nothing_promised_is_lost",
            &["the right to mount a tmpfs"],
        );
        return;
    };
    lab.start();
    lab.fault(r#"{"stage":"auth","action":{"reply":"535 5.7.139 disabled"},"times":1000}"#);
    let mut client = lab.client();
    let mut taken = 0;
    for size in [200_000, 400_000, 5_000, 100].into_iter().cycle() {
        let message = admitted("full") + &"0123456789abcdef\r\n".repeat(size / 18);
        let reply = client.send_or_refused("notifications@example.com", &message);
        if !reply.starts_with("250") {
            assert!(reply.starts_with("452 4.3.1"), "{reply}");
            break;
        }
        taken += 1;
        assert!(taken < 1_000, "the disk does not fill");
    }
    assert!(taken > 5, "only {taken} were taken");
    // The session goes on. If DATA itself was refused, its transaction is still open.
    client.expect("RSET", "250");
    lab.logged(&["server_held"]);
    while lab
        .state()
        .script
        .strike(mailferry::sandbox::FaultStage::Auth, "")
        .is_some()
    {}
    lab.stdout(&["queue", "retry", "--all"]);
    lab.delivered(taken);
    lab.empties();
    id_of(&client.send(
        "notifications@example.com",
        &["a@b.c"],
        &admitted("room again"),
    ));
    lab.delivered(taken + 1);
}

#[test]
fn a_message_that_comes_in_leaves_the_reserve_alone() {
    const RESERVE: u64 = 4 * 1024 * 1024;
    let mut lab = Lab::stopped(Plan::default());
    let Some(_disk) = SmallDisk::mount(lab.path("data")) else {
        have(
            "a_message_that_comes_in_leaves_the_reserve_alone",
            &["the right to mount a tmpfs"],
        );
        return;
    };
    lab.start();
    let mut client = lab.client();
    client.expect("MAIL FROM:<notifications@example.com>", "250");
    client.expect("RCPT TO:<a@example.net>", "250");
    client.expect("DATA", "354");
    client.raw(b"Subject: large\r\n\r\n");
    client.raw(&b"0123456789abcdef\r\n".repeat(10_000_000 / 18));
    // The program refuses the message and removes its file before the end of the message has arrived.
    lab.wait_for("room", || {
        let disk = rustix::fs::statvfs(lab.path("data")).expect("a disk");
        let contents = std::fs::read_dir(lab.path("data/spool/content")).expect("a folder");
        (disk.f_bavail * disk.f_frsize > RESERVE && contents.count() == 0).then_some(())
    });
    client.raw(b".\r\n");
    assert!(client.reply().starts_with("452 4.3.1"));
    assert!(
        client
            .send("notifications@example.com", &["a@b.c"], &admitted("small"))
            .starts_with("250")
    );
    lab.delivered(1);
}

#[test]
fn a_silent_client_and_an_endless_session_are_closed_with_421() {
    let limited = |limit: &str| {
        let configuration = format!("{USUAL}{SERVER}[limits]\n{limit}\n");
        Lab::with(Plan {
            configuration,
            ..Plan::default()
        })
    };
    let lab = limited("idle_time = \"300ms\"");
    let mut idle = Smtp::connect(lab.address);
    assert!(idle.reply().starts_with("421 4.4.2 Idle"));
    assert!(idle.is_closed());
    let lab = limited("session_time = \"1s\"");
    let mut endless = Smtp::connect(lab.address);
    let reply = loop {
        let reply = endless.command("NOOP");
        if !reply.starts_with("250") {
            break reply;
        }
        std::thread::park_timeout(Duration::from_millis(50));
    };
    assert!(reply.starts_with("421 4.4.2 Session time"), "{reply}");
}

#[test]
fn a_message_to_more_than_a_transaction_takes_goes_in_several() {
    let configuration = format!("{USUAL}{SERVER}recipients_per_message = 2\n");
    let lab = Lab::with(Plan {
        configuration,
        ..Plan::default()
    });
    let recipients: Vec<String> = (0..5)
        .map(|number| format!("r{number}@example.net"))
        .collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    id_of(
        &lab.client()
            .send("notifications@example.com", &recipients, &admitted("many")),
    );
    let delivered = lab.delivered(3);
    let counts: Vec<usize> = delivered
        .iter()
        .map(|message| message.recipients.len())
        .collect();
    assert_eq!(counts, [2, 2, 1]);
    let all: Vec<&str> = delivered
        .iter()
        .flat_map(|message| message.recipients.iter().map(String::as_str))
        .collect();
    assert_eq!(all, recipients);
    assert!(
        !lab.log().contains("event=\"deferred\""),
        "this is not a failed attempt"
    );
}
