//! kill -9 at random moments under load: each message that was answered 250 arrives. A message that arrives
//! twice was in the uncertain window, between the upstream's acceptance and the commit that records it.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::support::{Lab, Plan, SERVER, Smtp, USUAL, admitted, seed};

const ROUNDS: u64 = 50;
const SESSIONS: usize = 4;

/// Sends messages until the program is killed, and records the subject of each message that was answered 250.
fn load(address: std::net::SocketAddr, name: &str, promised: &Mutex<Vec<String>>) {
    let Ok(stream) = std::net::TcpStream::connect(address) else {
        return;
    };
    drop(stream);
    let mut client = Smtp::connect(address);
    if !client.command("EHLO load").starts_with("250")
        || !client.command("AUTH PLAIN AGVycABsb2Fk").starts_with("235")
    {
        return;
    }
    for number in 0.. {
        let subject = format!("{name}-{number}");
        for (line, code) in [
            ("MAIL FROM:<notifications@example.com>", "250"),
            ("RCPT TO:<a@b.c>", "250"),
            ("DATA", "354"),
        ] {
            if !client.try_command(line).starts_with(code) {
                return;
            }
        }
        if !client
            .try_command(&format!("{}.", admitted(&subject)))
            .starts_with("250")
        {
            return;
        }
        promised.lock().expect("no panic").push(subject);
    }
}

#[test]
fn what_was_promised_arrives_whenever_it_is_killed() {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut lab = Lab::stopped(Plan {
        configuration: format!("{USUAL}{SERVER}sessions = {SESSIONS}\n"),
        ..Plan::default()
    });
    let promised = Mutex::new(Vec::new());
    for round in 0..ROUNDS {
        lab.start();
        let address = lab.address;
        let pause = Duration::from_micros(random.random_range(0..120_000));
        std::thread::scope(|scope| {
            for session in 0..SESSIONS {
                let promised = &promised;
                scope.spawn(move || {
                    // Ignore a session that breaks off midway: this test kills the program on purpose.
                    let _ = std::panic::catch_unwind(|| {
                        load(address, &format!("{round}-{session}"), promised)
                    });
                });
            }
            std::thread::park_timeout(pause);
            lab.kill();
        });
    }
    lab.start();
    let promised = promised.into_inner().expect("no panic");
    let counts = lab.wait_for(
        &format!("delivery of all that was promised (seed {seed})"),
        || {
            let counts = arrivals(&lab);
            promised
                .iter()
                .all(|subject| counts.contains_key(subject))
                .then_some(counts)
        },
    );
    lab.empties();
    let twice: HashSet<&String> = counts
        .iter()
        .filter(|(_, count)| **count > 1)
        .map(|(subject, _)| subject)
        .collect();
    let most = (ROUNDS as usize) * uncertain_window();
    println!(
        "seed {seed}: {} promised in {ROUNDS} rounds, {} arrived, {} of them twice (at most {most} could be uncertain)",
        promised.len(),
        counts.len(),
        twice.len()
    );
    assert!(!promised.is_empty(), "seed {seed}: none was sent");
    assert!(
        counts.values().all(|&count| count <= 1 + ROUNDS as usize),
        "seed {seed}"
    );
    assert!(twice.len() <= most, "seed {seed}: {twice:?}");
}

/// Returns the greatest number of messages that the upstream has accepted, but the spool has not yet
/// committed as delivered, at any moment: one in each session, and up to 16 that wait for the next commit.
fn uncertain_window() -> usize {
    SESSIONS + 16
}

fn arrivals(lab: &Lab) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for message in lab.state().delivered() {
        let subject = message
            .text
            .lines()
            .find_map(|line| line.strip_prefix("Subject: "))
            .map(str::to_owned);
        *counts.entry(subject.expect("a subject")).or_default() += 1;
    }
    counts
}
