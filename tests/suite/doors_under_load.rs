//! Overload of every kind: sessions, memory, open files, clients that do not read. No client waits forever,
//! and nothing is lost.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use mailferry::base::{BoxFuture, Clock};
use mailferry::door::{self, Door, DoorLimits, Endpoint, Listener, User, Users};
use mailferry::routing::{Key, Policy, ServerRule};
use mailferry::smtp;
use mailferry::spool::{Content, Owner, Record};
use mailferry::spool::{SpoolSettings, SqliteSpool};
use mailferry::submission::{self, Answered, Direct, Shared, Submission, SubmissionOptions};

use crate::doors::plan;
use crate::support::{Lab, SOON, Smtp, have};

const SENDER: &str = "notifications@example.com";
const MESSAGE: &str = "From: notifications@example.com\r\nSubject: x\r\n\r\nhi\r\n";

#[test]
fn five_hundred_clients_of_one_instant_are_all_greeted() {
    let lab = Lab::new();
    let (count, address) = (500, lab.address);
    let instant = Arc::new(Barrier::new(count));
    let clients: Vec<_> = (0..count)
        .map(|_| {
            let instant = instant.clone();
            std::thread::spawn(move || {
                instant.wait();
                Smtp::silent(address).reply()
            })
        })
        .collect();
    for client in clients {
        assert!(client.join().expect("ends").starts_with("220"));
    }
}

#[test]
fn sessions_have_their_limits_in_all_for_an_address_and_for_a_user() {
    let cases = [
        ("sessions = 2", "421 4.3.2 Too many sessions"),
        (
            "sessions_per_address = 2",
            "421 4.7.0 127.0.0.1 has 2 sessions",
        ),
    ];
    for (limit, words) in cases {
        let lab = Lab::with(plan("", "", &format!("[limits]\n{limit}\n")));
        let _two = [Smtp::connect(lab.address), Smtp::connect(lab.address)];
        let mut third = Smtp::silent(lab.address);
        let reply = third.reply();
        assert!(reply.starts_with(words), "{limit}: {reply}");
        assert!(third.is_closed());
        drop(_two);
        lab.wait_for("a free session", || {
            Smtp::silent(lab.address)
                .reply()
                .starts_with("220")
                .then_some(())
        });
    }
    let lab = Lab::with(plan("", "sessions = 1", ""));
    let _one = lab.client();
    let mut second = Smtp::connect(lab.address);
    second.expect("EHLO test", "250");
    let reply = second.command("AUTH PLAIN AGVycABsb2Fk");
    assert!(
        reply.starts_with("421 4.7.0 User erp has 1 sessions"),
        "{reply}"
    );
}

#[test]
fn recipients_take_memory_too() {
    let lab = Lab::with(plan("", "", "[limits]\nmemory = 20000\n"));
    let mut client = lab.client();
    client.expect(&format!("MAIL FROM:<{SENDER}>"), "250");
    let taken = (0..1_000)
        .take_while(|number| {
            let reply = client.command(&format!("RCPT TO:<a{number}@example.net>"));
            assert!(
                reply.starts_with("250") || reply.starts_with("452 4.3.1"),
                "{reply}"
            );
            reply.starts_with("250")
        })
        .count();
    assert!((20..400).contains(&taken), "{taken}");
    client.expect("RSET", "250");
    client.expect(&format!("MAIL FROM:<{SENDER}>"), "250");
    client.expect("RCPT TO:<a@example.net>", "250");
}

#[test]
fn who_does_not_read_is_cut_off() {
    let limits = "[limits]\nidle_time = \"3s\"\ncommands = 100000000\n";
    let lab = Lab::with(plan("", "", limits));
    let mut client = lab.client();
    while client.try_raw(&b"HELP\r\n".repeat(1_000)).is_ok() {}
    lab.logged(&[
        "event=\"session_failed\"",
        "the client does not read its replies",
    ]);
}

#[test]
fn memory_that_is_used_up_is_452_and_comes_back() {
    let lab = Lab::with(plan("", "", "[limits]\nmemory = 100000\n"));
    let piece = format!("{}\r\n", "x".repeat(70)).repeat(500);
    let mut holding: Vec<Smtp> = Vec::new();
    let begun = || {
        let mut client = lab.client();
        client.expect(&format!("MAIL FROM:<{SENDER}>"), "250");
        client.expect("RCPT TO:<a@example.net>", "250");
        client.expect("DATA", "354");
        client.raw(format!("{MESSAGE}{piece}").as_bytes());
        client
    };
    for _ in 0..4 {
        holding.push(begun());
    }
    let replies: Vec<String> = holding
        .iter_mut()
        .map(|client| {
            client.raw(b"\r\n.\r\n");
            client.reply()
        })
        .collect();
    let taken = replies
        .iter()
        .filter(|reply| reply.starts_with("250"))
        .count();
    let refused = replies
        .iter()
        .filter(|reply| reply.starts_with("452 4.3.1"))
        .count();
    assert!(
        taken >= 1 && refused >= 1 && taken + refused == 4,
        "{replies:?}"
    );
    assert!(lab.send(SENDER, MESSAGE).starts_with("250"));
    lab.delivered(taken as u64 + 1);
}

#[test]
fn nobody_waits_for_a_greeting_when_files_are_used_up() {
    if !have("doors_under_load::files", &["prlimit"]) {
        return;
    }
    let lab = Lab::new();
    let mut before = lab.client();
    let files = std::fs::read_dir(format!("/proc/{}/fd", lab.id()))
        .expect("it runs")
        .count();
    let limited = Command::new("prlimit")
        .args([
            "--pid",
            &lab.id().to_string(),
            &format!("--nofile={files}:"),
        ])
        .status();
    assert!(limited.expect("runs").success());
    for _ in 0..5 {
        let reply = Smtp::silent(lab.address).reply();
        assert!(
            reply.starts_with("421") || reply.starts_with("220"),
            "{reply:?}"
        );
    }
    lab.logged(&["event=\"accept_failed\""]);
    let raised = Command::new("prlimit")
        .args(["--pid", &lab.id().to_string(), "--nofile=1024:"])
        .status();
    assert!(raised.expect("runs").success());
    assert!(
        before
            .send(SENDER, &["a@example.net"], MESSAGE)
            .starts_with("250")
    );
    lab.wait_for("a greeting", || {
        Smtp::silent(lab.address)
            .reply()
            .starts_with("220")
            .then_some(())
    });
    lab.delivered(1);
}

/// A defect in the part that sends a message directly.
struct Defect;

impl Direct for Defect {
    fn submit<'a>(&'a self, _: &'a Record, _: &'a Content) -> BoxFuture<'a, Answered> {
        panic!("a defect, on purpose")
    }
}

#[test]
fn a_panic_ends_its_session_and_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (door, listener) = runtime.block_on(async {
        let settings = SpoolSettings {
            folder: folder.path().to_owned(),
            reserve: 0,
            history: Duration::ZERO,
            ..SpoolSettings::default()
        };
        let spool = SqliteSpool::open(settings, Owner::this_process("test")).expect("opens");
        let rule = ServerRule {
            name: "n".into(),
            address: None,
            filter: None,
            ..ServerRule::default()
        };
        let user = User {
            networks: vec!["127.0.0.1/32".parse().expect("a network")],
            ..User::named("app")
        };
        let settings = submission::SubmissionSettings {
            policy: Policy {
                servers: vec![rule],
                keys: vec![Key::Envelope],
                ..Policy::default()
            },
            direct: HashSet::from(["n".to_owned()]),
        };
        let door = Door::new(
            door::DoorSettings {
                dialogues: door::Dialogues::default(),
                users: Users::new(vec![user], Arc::default()),
                limits: DoorLimits::default(),
            },
            None,
        );
        let shared = Shared::new(
            settings,
            Arc::new(spool),
            Arc::new(Defect),
            Clock::default(),
        );
        let session = smtp::SessionSettings {
            host: "relay.example".into(),
            message_size: 1_000_000,
            recipients: 10,
            commands: 100,
            errors: 10,
            reject_bare_newlines: false,
            offers_auth: false,
            bare_lf: false,
            postmaster: None,
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let bound = Listener::bind(address, false).expect("binds");
        let service = Submission::new(SubmissionOptions::new(session), &shared);
        let endpoint = Endpoint::open(address);
        let listener = bound.serve(endpoint, door.clone(), Arc::new(service));
        (door, listener.expect("serves"))
    });
    let address = listener.address().expect("an address");
    let mut other = Smtp::connect(address);
    other.expect("EHLO other", "250");
    let mut client = Smtp::connect(address);
    client.expect("EHLO unlucky", "250");
    assert_eq!(client.send(SENDER, &["a@example.net"], MESSAGE), "");
    other.expect("NOOP", "250");
    Smtp::connect(address).expect("QUIT", "221");
    drop(client);
    let begin = Instant::now();
    while door.sessions() > 1 {
        assert!(begin.elapsed() < SOON, "a session was not freed");
        std::thread::yield_now();
    }
    other.expect("NOOP", "250");
}
