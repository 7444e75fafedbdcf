//! Listeners with their own policies, and users with limits, tested with the program as it is built.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;

use ppp::v2::{Builder, Protocol, Version};

use crate::support::{Lab, Plan, SERVER, SOON, Smtp, USUAL, free_port, have};

const PLAIN: &str = "AUTH PLAIN AGVycABsb2Fk";
const WRONG: &str = "AUTH PLAIN AGVycAB3cm9uZw==";
const MESSAGE: &str = "From: notifications@example.com\r\nSubject: x\r\n\r\nhi\r\n";
const SENDER: &str = "notifications@example.com";

/// Returns the usual configuration with additional lines in its listener, in its user, and elsewhere.
pub fn plan(listener: &str, user: &str, besides: &str) -> Plan {
    let door = format!("address = \"127.0.0.1:0\"\n{listener}");
    let password = "password = { file = \"erp.argon2\" }";
    let usual = USUAL
        .replace("address = \"127.0.0.1:0\"", &door)
        .replace(password, &format!("{password}\n{user}"));
    Plan {
        configuration: usual + besides + SERVER,
        ..Plan::default()
    }
}

#[test]
fn tls_comes_first_with_a_certificate_of_our_own() {
    let lab = Lab::with(plan("tls = \"implicit\"", "", ""));
    let own = lab.path("data/tls/self-signed.pem");
    let mut client = Smtp::silent(lab.address)
        .protected("localhost", &own)
        .expect("trusted");
    assert!(client.reply().starts_with("220"));
    let offered = client.expect("EHLO test", "250");
    assert!(
        !offered.contains("STARTTLS") && offered.contains("AUTH"),
        "{offered}"
    );
    client.expect(PLAIN, "235");
    assert!(
        client
            .send(SENDER, &["a@example.net"], MESSAGE)
            .starts_with("250")
    );
    lab.delivered(1);
}

#[test]
fn a_changed_certificate_is_shown_and_a_broken_one_is_not() {
    let mut lab = Lab::stopped(plan(
        "tls = \"required\"\ncertificate = \"c.pem\"\nkey = \"k.pem\"",
        "",
        "",
    ));
    let renew = |lab: &Lab| {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("made");
        lab.write("k.pem", &made.signing_key.serialize_pem());
        lab.write("c.pem", &made.cert.pem());
        made.cert.der().to_vec()
    };
    let shown = |lab: &Lab| {
        let mut client = Smtp::connect(lab.address);
        assert!(!client.expect("EHLO test", "250").contains("AUTH"));
        client.expect("MAIL FROM:<a@example.com>", "530");
        client.expect("STARTTLS", "220");
        let client = client.protected("localhost", &lab.path("trusted.pem"));
        client.ok().and_then(|client| client.certificate())
    };
    let trust = |lab: &Lab| std::fs::copy(lab.path("c.pem"), lab.path("trusted.pem"));
    let first = renew(&lab);
    trust(&lab).expect("copies");
    lab.start();
    assert_eq!(shown(&lab).as_deref(), Some(&first[..]));
    let second = renew(&lab);
    trust(&lab).expect("copies");
    lab.wait_for("the new certificate", || {
        (shown(&lab).as_deref() == Some(&second[..])).then_some(())
    });
    lab.write("c.pem", "broken");
    lab.wait_for("a log line about it", || {
        assert_eq!(shown(&lab).as_deref(), Some(&second[..]));
        lab.log().contains("certificate_refused").then_some(())
    });
}

#[test]
fn users_networks_servers_and_sizes_are_the_listeners_own() {
    let listener = "name = \"printers\"\nusers = [\"scanner\"]\nmessage_size = 1000\nservers = [\"other\"]\nmessages_per_minute = 2\nassume_from = \"notifications@example.com\"";
    let besides = "[[user]]\nname = \"scanner\"\nnetworks = [\"127.0.0.0/8\"]\n";
    let mut plan = plan(listener, "", besides);
    let other = SERVER.replace("name = \"notifications\"", "name = \"other\"");
    plan.configuration.push_str(&other);
    let lab = Lab::with(plan);
    let mut client = Smtp::connect(lab.address);
    let route = |arguments: &[&str]| {
        let output = lab.run(&[&["route", "--listener", "printers"], arguments].concat());
        String::from_utf8(output.stdout).expect("text")
    };
    let by_erp = route(&["--user", "erp", "--from", SENDER]);
    assert!(
        by_erp.contains("the listener's `users` or `auth` do not admit this user"),
        "{by_erp}"
    );
    assert!(route(&["--user", "scanner", "--from", "<>"]).contains("other"));
    let offered = client.expect("EHLO test", "250");
    assert!(
        offered.contains("SIZE 1000") && !offered.contains("AUTH"),
        "{offered}"
    );
    let queued = client.send("", &["a@example.net"], MESSAGE);
    assert!(queued.starts_with("250"), "{queued}");
    lab.delivered(1);
    let line = lab.logged(&["event=\"delivered\""]);
    assert!(line.contains("server=\"other\""), "{line}");
    let large = client.send(
        "",
        &["a@example.net"],
        &format!("{MESSAGE}{}", "x".repeat(2_000)),
    );
    assert!(large.starts_with("552 5.3.4"), "{large}");
    lab.logged(&["event=\"refused\"", "listener=\"printers\"", "552 5.3.4"]);
    assert!(
        client
            .send("", &["a@example.net"], MESSAGE)
            .starts_with("250")
    );
    let over = client.command("MAIL FROM:<>");
    assert!(
        over.starts_with("450 4.7.1 Listener printers: 2 messages per minute are allowed"),
        "{over}"
    );
}

#[test]
fn an_open_session_follows_its_listeners_new_settings() {
    let lab = Lab::new();
    let (mut client, mut other) = (lab.client(), lab.client());
    assert!(
        client
            .send(SENDER, &["a@example.net"], MESSAGE)
            .starts_with("250")
    );
    let configure = |listener: &str, times| {
        lab.configure(&plan(listener, "", "").configuration);
        lab.signal("HUP");
        lab.wait_for("the reload", || {
            (lab.log().matches("event=\"reloaded\"").count() == times).then_some(())
        });
    };
    configure("networks = [\"192.0.2.0/24\"]", 1);
    let refused = client.command(&format!("MAIL FROM:<{SENDER}>"));
    assert!(refused.starts_with("554 5.7.1 127.0.0.1"), "{refused}");
    assert!(client.is_closed());
    configure("", 2);
    assert!(
        other
            .send(SENDER, &["a@example.net"], MESSAGE)
            .starts_with("250")
    );
}

#[test]
fn a_network_that_is_not_served_is_told_so_at_once() {
    let lab = Lab::with(plan("networks = [\"192.0.2.0/24\"]", "", ""));
    let mut client = Smtp::silent(lab.address);
    let reply = client.reply();
    assert!(reply.starts_with("554 5.7.1 127.0.0.1"), "{reply}");
    assert!(client.is_closed());
}

#[test]
fn who_speaks_before_the_greeting_is_sent_away_where_it_is_said() {
    let lab = Lab::with(plan("refuse_early_talkers = \"60s\"", "", ""));
    let mut client = Smtp::silent(lab.address);
    client.raw(b"EHLO hasty\r\n");
    let reply = client.reply();
    assert!(reply.starts_with("554 5.5.1"), "{reply}");
    let lab = Lab::new();
    let mut client = Smtp::silent(lab.address);
    client.raw(b"EHLO hasty\r\n");
    assert!(client.reply().starts_with("220"));
    assert!(client.reply().starts_with("250"));
}

#[test]
fn a_proxy_says_who_the_client_is() {
    let lab = Lab::with(plan(
        "proxies = [\"127.0.0.1\"]\nnetworks = [\"192.0.2.0/24\"]",
        "",
        "",
    ));
    let header = |client: [u8; 4]| {
        let ends = ((Ipv4Addr::from(client), 4_000), (Ipv4Addr::LOCALHOST, 25));
        let ends = (ends.0.into(), ends.1.into());
        let ends: (std::net::SocketAddr, std::net::SocketAddr) = ends;
        let version = Version::Two | ppp::v2::Command::Proxy;
        let builder = Builder::with_addresses(version, Protocol::Stream, ends);
        builder.build().expect("a header")
    };
    let mut client = Smtp::silent(lab.address);
    client.raw(&header([192, 0, 2, 7]));
    assert!(client.reply().starts_with("220"));
    client.expect("EHLO test", "250");
    client.expect(WRONG, "535");
    lab.logged(&["event=\"auth_failed\"", "peer=\"192.0.2.7\""]);
    let mut client = Smtp::silent(lab.address);
    client.raw(&header([198, 51, 100, 1]));
    assert!(client.reply().starts_with("554 5.7.1 198.51.100.1"));
    let mut client = Smtp::silent(lab.address);
    client.raw(b"EHLO no.proxy.example.com\r\n");
    assert!(client.is_closed());
}

#[test]
fn a_socket_of_systemd_is_taken_by_its_name() {
    if !have("doors::systemd", &["systemd-socket-activate"]) {
        return;
    }
    let mut plan = Plan::default();
    let systemd = "systemd = \"smtp\"\nallow_plaintext = true";
    plan.configuration = plan
        .configuration
        .replace("address = \"127.0.0.1:0\"", systemd);
    let mut lab = Lab::stopped(plan);
    lab.started_by_systemd("smtp");
    assert!(lab.send(SENDER, MESSAGE).starts_with("250"));
    lab.delivered(1);
    let wrong = lab.run(&["serve"]);
    let said = String::from_utf8_lossy(&wrong.stderr);
    assert!(
        said.contains("systemd:smtp") && said.contains("FileDescriptorName="),
        "{said}"
    );
}

#[test]
fn a_user_sends_as_and_to_what_is_listed_and_no_more_than_that() {
    let user = "senders = \"notifications@example.com, shop.example.com\"\nrecipients = \"example.net\"\nrecipients_per_day = 3\nmessages_per_minute = 2";
    let lab = Lab::with(plan("", user, ""));
    let mut client = lab.client();
    let route = |arguments: &[&str]| {
        let output = lab.run(&[&["route", "--user", "erp"], arguments].concat());
        String::from_utf8(output.stdout).expect("text")
    };
    assert!(route(&["--from", "boss@example.com"]).contains("refused:   550"));
    let refused = client.command("MAIL FROM:<boss@example.com>");
    assert!(
        refused.starts_with("550 5.7.1 User erp may not send as <boss@example.com>"),
        "{refused}"
    );
    client.expect(&format!("MAIL FROM:<{SENDER}>"), "250");
    let refused = client.command("RCPT TO:<a@example.org>");
    assert!(
        refused.starts_with("550 5.7.1 User erp may not send to <a@example.org>"),
        "{refused}"
    );
    client.expect("RSET", "250");
    let hidden = MESSAGE.replace("From: n", "From: boss@example.com, n");
    let refused = client.send(SENDER, &["a@example.net"], &hidden);
    assert!(
        refused.contains("may not send as <several addresses>, the header From"),
        "{refused}"
    );
    let spoofed = MESSAGE.replace("notifications@", "boss@");
    let refused = client.send(SENDER, &["a@example.net"], &spoofed);
    assert!(
        refused.contains("the header From (setting `senders`)"),
        "{refused}"
    );
    assert!(
        client
            .send(SENDER, &["a@example.net", "b@example.net"], MESSAGE)
            .starts_with("250")
    );
    client.expect(&format!("MAIL FROM:<{SENDER}>"), "250");
    client.expect("RCPT TO:<a@example.net>", "250");
    let over = client.command("RCPT TO:<b@example.net>");
    assert!(
        over.contains("3 recipients per day are allowed (setting `recipients_per_day`)"),
        "{over}"
    );
    client.expect("RSET", "250");
    assert!(
        client
            .send(SENDER, &["c@example.net"], MESSAGE)
            .starts_with("250")
    );
    let over = client.command(&format!("MAIL FROM:<{SENDER}>"));
    assert!(
        over.starts_with(
            "450 4.7.1 User erp: 2 messages per minute are allowed (setting `messages_per_minute`)"
        ),
        "{over}"
    );
    lab.delivered(2);
}

#[test]
fn who_guesses_passwords_is_shut_out() {
    let limits = "[limits]\nauth_failures = 2\nnever_shut_out = []\nsessions = 1\n";
    let lab = Lab::with(plan("", "", limits));
    let mut client = Smtp::connect(lab.address);
    client.expect("EHLO test", "250");
    client.expect(WRONG, "535");
    client.expect("AUTH PLAIN AG5vYm9keQB3cm9uZw==", "535");
    let last = client.reply();
    assert!(
        last.starts_with("421 4.7.0 Too many failed sign-ins"),
        "{last}"
    );
    // A client that is turned away does not count as a session, even if it does not hang up.
    let mut waiting = Vec::new();
    let mut shut_out = || {
        let mut client = Smtp::silent(lab.address);
        let reply = client.reply();
        waiting.push(client);
        let words = "421 4.7.0 Too many failed sign-ins from 127.0.0.1";
        reply.starts_with(words).then_some(())
    };
    lab.wait_for("the end of the session", &mut shut_out);
    for _ in 0..3 {
        assert_eq!(shut_out(), Some(()));
    }
    lab.logged(&["event=\"auth_failed\"", "reason=\"wrong password\""]);
    lab.logged(&["event=\"auth_failed\"", "reason=\"there is no such user\""]);
    lab.logged(&["event=\"shut_out\"", "peer=\"127.0.0.1\"", "failures=2"]);
    assert_eq!(
        lab.log()
            .matches("event=\"auth_failed\" peer=\"127.0.0.1\"")
            .count(),
        2
    );
}

#[test]
fn who_guesses_in_many_sessions_at_once_has_no_more_guesses() {
    let limits = "[limits]\nauth_failures = 3\nnever_shut_out = []\n";
    let lab = Lab::with(plan("", "", limits));
    let mut clients: Vec<Smtp> = (0..20).map(|_| Smtp::connect(lab.address)).collect();
    for client in &mut clients {
        client.expect("EHLO test", "250");
    }
    for client in &mut clients {
        client.raw(format!("{WRONG}\r\n").as_bytes());
    }
    let replies: Vec<String> = clients.iter_mut().map(Smtp::reply).collect();
    let checked = replies.iter().filter(|reply| reply.starts_with("535"));
    assert_eq!(checked.count(), 3, "{replies:?}");
    let shut_out = replies
        .iter()
        .filter(|reply| reply.starts_with("421 4.7.0"));
    assert_eq!(shut_out.count(), 17, "{replies:?}");
    // Even a client with the right password is refused until the address is exempt.
    assert!(Smtp::silent(lab.address).reply().starts_with("421 4.7.0"));
    lab.configure(&plan("", "", "").configuration);
    lab.signal("HUP");
    lab.logged(&["event=\"reloaded\""]);
    lab.client();
}

#[test]
fn fail2ban_reads_the_log_of_failed_sign_ins() {
    if !have("doors::fail2ban", &["fail2ban-regex"]) {
        return;
    }
    let filter = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/fail2ban.conf");
    for format in ["human", "json"] {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let mut plan = plan("", "", &format!("[log]\nformat = \"{format}\"\n"));
        plan.configuration = plan
            .configuration
            .replace("127.0.0.1:0", &address.to_string());
        let mut lab = Lab::stopped(plan);
        let serve = lab.command(&["serve"]);
        lab.started_by_a_client(serve, address);
        let mut client = Smtp::connect(lab.address);
        client.expect("EHLO test", "250");
        client.expect(WRONG, "535");
        lab.logged(&["auth_failed"]);
        let output = Command::new("fail2ban-regex")
            .arg(lab.path("log"))
            .arg(&filter)
            .output();
        let said = String::from_utf8(output.expect("runs").stdout).expect("text");
        assert!(said.contains(" 1 matched"), "{format}: {said}");
    }
}

#[test]
fn commands_may_end_in_a_bare_lf_where_it_is_said() {
    let lab = Lab::with(plan("bare_lf_commands = true", "", ""));
    let mut client = Smtp::connect(lab.address);
    client.raw(b"EHLO old\n");
    let offered = client.reply();
    assert!(
        offered.starts_with("250") && !offered.contains("PIPELINING"),
        "{offered}"
    );
    client.raw(format!("{PLAIN}\n").as_bytes());
    assert!(client.reply().starts_with("235"));
    assert!(
        client
            .send(SENDER, &["a@example.net"], MESSAGE)
            .starts_with("250")
    );
    lab.delivered(1);
    client.raw(b"NOOP\nNOOP\n");
    assert!(client.reply().starts_with("421 4.7.0 PIPELINING"));
}

#[test]
fn signing_in_replaces_the_user_of_the_network() {
    let scanner = "[[user]]\nname = \"scanner\"\nnetworks = [\"127.0.0.0/8\"]\nassume_from = \"notifications@example.com\"\nsessions = 1\n";
    let lab = Lab::with(plan("", "sessions = 0", scanner));
    let mut client = Smtp::connect(lab.address);
    client.expect("EHLO test", "250");
    client.expect("MAIL FROM:<scanner>", "250");
    client.expect("RSET", "250");
    // A client over the limit on sessions receives the refusal instead of a greeting.
    assert!(
        Smtp::silent(lab.address)
            .reply()
            .starts_with("421 4.7.0 User scanner has 1 sessions")
    );
    client.expect(PLAIN, "235");
    client.expect("MAIL FROM:<scanner>", "501");
}

#[test]
fn a_user_with_senders_hides_behind_no_from_that_cannot_be_read() {
    let mut plan = plan("", "senders = \"example.com\"\nserver = \"free\"", "");
    let filter = plan
        .configuration
        .lines()
        .find(|line| line.starts_with("from_filter"));
    let filter = filter.expect("a filter").to_owned();
    let free = SERVER
        .replace("name = \"notifications\"", "name = \"free\"")
        .replace(&filter, "");
    plan.configuration.push_str(&free);
    let lab = Lab::with(plan);
    let mut client = lab.client();
    for from in [
        "From: boss@example.org\r\nFrom: boss@example.org",
        "From: Boss <boss@example.org> x",
    ] {
        let hidden = format!("{from}\r\n\r\nhi\r\n");
        let refused = client.send(SENDER, &["a@example.net"], &hidden);
        assert!(
            refused.starts_with("550 5.7.1 User erp may not send as"),
            "{refused}"
        );
    }
    assert!(
        client
            .send(SENDER, &["a@example.net"], MESSAGE)
            .starts_with("250")
    );
    lab.delivered(1);
}

#[test]
fn root_is_refused_unless_it_becomes_somebody_else() {
    if !is_root() {
        have("doors::root", &["the rights of root"]);
        return;
    }
    let lab = Lab::stopped(plan("", "", ""));
    let mut serve = lab.command(&["serve"]);
    let refused = serve
        .env_remove("MAILFERRY_ALLOW_ROOT")
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains("refuses to run as root") && said.contains("run_as"),
        "{said}"
    );
    let mut lab = Lab::stopped(Plan {
        configuration: format!("run_as = \"nobody\"\n{}", plan("", "", "").configuration),
        ..Plan::default()
    });
    let nobody = Command::new("chown")
        .arg("-R")
        .arg("nobody")
        .arg(lab.folder.path())
        .status();
    assert!(nobody.expect("runs").success());
    let mut serve = lab.command(&["serve"]);
    serve.env_remove("MAILFERRY_ALLOW_ROOT");
    lab.start_by(serve);
    let status = std::fs::read_to_string(format!("/proc/{}/status", lab.id())).expect("it runs");
    let uids = status
        .lines()
        .find(|line| line.starts_with("Uid:"))
        .expect("a line");
    assert!(
        uids.split_whitespace().skip(1).all(|uid| uid == "65534"),
        "{uids}"
    );
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
    assert!(lab.send(SENDER, MESSAGE).starts_with("250"));
    lab.delivered(1);
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn addresses_are_masked_and_clients_hidden_where_it_is_said() {
    let lab = Lab::with(plan(
        "",
        "",
        "[privacy]\nmask_addresses = true\nreceived = \"none\"\n",
    ));
    let refused = lab.client().send(
        "nobody@example.org",
        &["a.secret@example.net"],
        "Subject: x\r\n\r\n",
    );
    assert!(refused.starts_with("250"), "{refused}");
    let delivered = lab.delivered(1);
    lab.logged(&["event=\"delivered\"", "to=\"a***@example.net\""]);
    let log = lab.log();
    assert!(
        !log.contains("a.secret@") && !log.contains("nobody@"),
        "{log}"
    );
    let text = &delivered[0].text;
    assert!(text.contains("Received: by relay.example.com"), "{text}");
    assert!(!text.contains("127.0.0.1"), "{text}");
}

#[test]
fn ipv4_reaches_a_listener_of_ipv6_unless_it_may_not() {
    if TcpStream::connect_timeout(&"[::1]:9".parse().expect("an address"), SOON)
        .is_err_and(|error| error.kind() == std::io::ErrorKind::AddrNotAvailable)
    {
        return;
    }
    let configured = |more: &str| {
        let mut plan = Plan::default();
        let port = free_port();
        let door = format!("address = \"[::]:{port}\"\nallow_plaintext = true\n{more}");
        plan.configuration = plan
            .configuration
            .replace("address = \"127.0.0.1:0\"", &door);
        Lab::with(plan)
    };
    let by_v4 = |lab: &Lab| TcpStream::connect((Ipv4Addr::LOCALHOST, lab.address.port()));
    assert!(by_v4(&configured("")).is_ok());
    assert!(by_v4(&configured("only_ipv6 = true")).is_err());
}

#[test]
fn the_dialogue_of_one_user_is_logged_without_secrets_until_a_reload() {
    let usual = Plan::default().configuration;
    let configuration = format!("{usual}\n[log]\ndebug_users = [\"erp\"]\n");
    let lab = Lab::with(Plan {
        configuration: configuration.clone(),
        ..Plan::default()
    });
    let mut client = lab.client();
    client.send(
        "notifications@example.com",
        &["someone@example.net"],
        MESSAGE,
    );
    client.command("c2VjcmV0LXBhc3N3b3Jk");
    lab.logged(&[
        "event=\"dialogue\"",
        "from=\"client\"",
        "text=\"MAIL FROM:<notifications@example.com>\"",
    ]);
    lab.logged(&["event=\"dialogue\"", "from=\"mailferry\"", "text=\"250 "]);
    lab.logged(&["text=\"(content, "]);
    lab.logged(&["text=\"AUTH PLAIN (secret)\""]);
    lab.logged(&["text=\"(not a command)\""]);
    assert!(!lab.log().contains("c2VjcmV0"), "{}", lab.log());
    lab.configure(&configuration.replace("debug_users = [\"erp\"]", ""));
    lab.stdout(&["reload"]);
    let before = lab.log().matches("event=\"dialogue\"").count();
    client.command("NOOP");
    client.command("NOOP");
    assert_eq!(lab.log().matches("event=\"dialogue\"").count(), before);
}
