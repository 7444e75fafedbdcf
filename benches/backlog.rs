//! A million waiting messages: the start-up time, the time to claim a due message, and the memory used.
//!
//! `cargo bench --bench backlog` (makes a spool of 1 GB below target/, and removes it)

mod common;
#[path = "common/program.rs"]
mod program;

use std::time::{Duration, Instant};

use common::{median, memory, verdict};
use mailferry::base::Timestamp;
use mailferry::message::{Envelope, Parameters, Priority, Recipient, ReversePath};
use mailferry::spool::{
    ClaimFrom, Content, Flow, Intake, NewMessage, Origin, Owner, Place, Record, State, Work,
};
use mailferry::spool::{SpoolSettings, SqliteSpool};
use program::{configuration, free_port, serve};

const MESSAGES: usize = 1_000_000;
const USERS: usize = 20;
const CLAIMS: usize = 50;

fn message(spool: &SqliteSpool, number: usize, now: Timestamp) -> NewMessage {
    let text = format!(
        "From: <notifications@example.com>\r\nSubject: {number}\r\n\r\n{}\r\n",
        "x".repeat(256)
    );
    let recipient = format!("someone{number}@example.net");
    let record = Record {
        size: text.len() as u64,
        lane: "n".into(),
        state: State::Queued,
        // Spread over the past, so that messages are not due in the order of their arrival.,
        due: now.before(Duration::from_millis((number as u64 * 7_919) % 1_000_000)),
        ..Record::new(
            spool.next_id(now),
            now,
            Origin::Client {
                user: format!("user{}", number % USERS),
                listener: String::new(),
                peer: "127.0.0.1".into(),
                helo: "app.example.com".into(),
                protocol: "ESMTPA".into(),
            },
            Envelope {
                sender: ReversePath::parse("notifications@example.com").expect("an address"),
                parameters: Parameters::default(),
                recipients: vec![Recipient {
                    address: recipient.parse().expect("an address"),
                    parameters: Parameters::default(),
                }],
            },
        )
    };
    let content = Content::Memory(text.into());
    NewMessage { record, content }
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let settings = SpoolSettings {
        folder: folder.path().join("data/spool"),
        reserve: 0,
        history: Duration::ZERO,
        ..SpoolSettings::default()
    };
    let open = || SqliteSpool::open(settings.clone(), Owner::new("bench", 1, 1)).expect("opens");
    let begin = Instant::now();
    let spool = open();
    let now = Timestamp::now();
    for batch in 0..MESSAGES / 1_000 {
        let numbers = batch * 1_000..(batch + 1) * 1_000;
        let messages = numbers.map(|number| message(&spool, number, now)).collect();
        runtime.block_on(spool.put(messages)).expect("puts");
        let fresh = spool.claim(ClaimFrom::Fresh, 1_000, now, now);
        runtime.block_on(fresh).expect("claims");
    }
    drop(spool);
    println!("  {MESSAGES} messages put in {:.1?}", begin.elapsed());
    let begin = Instant::now();
    let spool = open();
    let opened = begin.elapsed().as_secs_f64();
    verdict(
        "the spool opens with 1,000,000 messages, s",
        format!("{opened:.2}"),
        "< 2",
        opened < 2.0,
    );
    let mut times = Vec::new();
    for claim in 0..CLAIMS {
        let flow = Flow {
            priority: Priority::Normal,
            user: format!("user{}", claim % USERS),
        };
        let lane = "n".to_owned();
        let place = Place { lane, flow };
        let begin = Instant::now();
        let until = now.after(Duration::from_secs(900));
        let claimed = runtime.block_on(spool.claim(ClaimFrom::DueIn(place), 1, now, until));
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        assert_eq!(claimed.expect("claims").len(), 1);
    }
    let time = median(times);
    verdict(
        "  claiming the next due message, median, ms",
        format!("{time:.3}"),
        "< 1",
        time < 1.0,
    );
    drop(spool);
    starts(&runtime, &folder);
}

/// Starts the program itself with the backlog.
fn starts(runtime: &tokio::runtime::Runtime, folder: &tempfile::TempDir) {
    let sandbox = runtime.block_on(program::sandbox());
    std::fs::write(folder.path().join("ca.pem"), &sandbox.ca).expect("writes");
    let (port, smtp) = (free_port(), sandbox.addresses.smtp.port());
    configuration(
        folder.path(),
        smtp,
        &sandbox.token_url(),
        port,
        "sessions = 3",
    );
    let begin = Instant::now();
    let relay = serve(folder.path(), port);
    let started = begin.elapsed().as_secs_f64();
    verdict(
        "  time until `serve` sends a greeting, s",
        format!("{started:.2}"),
        "< 2",
        started < 2.0,
    );
    let wanted = 20_000;
    let begin = Instant::now();
    while sandbox.state.stats().messages < wanted {
        assert!(
            begin.elapsed() < Duration::from_secs(120),
            "not enough messages are delivered in time"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    let rate = wanted as f64 / begin.elapsed().as_secs_f64();
    println!("  delivered from the backlog at {rate:.0}/s");
    let resident = memory(relay.0.id(), "VmHWM") as f64 / 1_024.0;
    verdict(
        "  the relay's peak resident memory, MB",
        format!("{resident:.1}"),
        "< 100",
        resident < 100.0,
    );
}
