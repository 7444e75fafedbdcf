//! Several nodes on one PostgreSQL, each in a process of its own.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::support::postgresql::Postgresql;
use crate::support::{Lab, Node, Plan, SERVER, Smtp, USUAL, admitted, seed};

/// Nodes on one database, and the stand-ins that they use.
struct Nodes {
    server: Postgresql,
    lab: Lab,
    nodes: Vec<Node>,
}

impl Nodes {
    /// Sets up `count` nodes that are not running yet. If PostgreSQL is not installed, the test is skipped with a message.
    fn new(test: &str, count: usize, plan: Plan) -> Option<Self> {
        let server = Postgresql::start(test, "-c synchronous_commit=on")?;
        let configuration = plan.configuration.clone();
        let lab = Lab::stopped(plan);
        let url = lab.wait(server.database());
        let spool = format!("\n[spool]\npostgresql = {{ url = \"{url}\" }}\n");
        let configuration = configuration + &spool;
        let nodes =
            (0..count).map(|number| Node::new(&lab, &format!("node{number}"), &configuration));
        let nodes = nodes.collect();
        Some(Self { server, lab, nodes })
    }

    fn start(&mut self) {
        let lab = &self.lab;
        self.nodes.iter_mut().for_each(|node| node.start(lab));
    }
}

#[test]
fn any_node_takes_mail_and_everything_is_seen_from_each() {
    let Some(mut nodes) = Nodes::new("nodes", 2, Plan::default()) else {
        return;
    };
    nodes.start();
    for (number, node) in nodes.nodes.iter().enumerate() {
        let reply = node.send(&admitted(&format!("from node {number}")));
        assert!(reply.starts_with("250"), "{reply}");
    }
    let delivered = nodes.lab.delivered(2);
    assert_eq!(delivered.len(), 2);
    for node in &nodes.nodes {
        let listed = nodes.lab.wait_for("an empty queue", || {
            let listed = node.stdout(&["queue", "list"]);
            listed.contains("0 in the queue").then_some(listed)
        });
        println!("{listed}");
        let traced = node.stdout(&["trace", "someone@example.net"]);
        assert_eq!(traced.matches("delivered").count(), 2, "{traced}");
        println!("{}", node.stdout(&["status"]));
    }
    assert!(nodes.nodes.iter_mut().all(Node::stop));
    drop(nodes.server);
}

/// How often a node is killed.
const ROUNDS: usize = 50;

/// Sessions of the load at each node.
const SESSIONS: usize = 2;

/// Sends messages until the round is over or the node is killed, and records the subject of each message that was answered 250.
fn load(address: SocketAddr, name: &str, promised: &Mutex<Vec<String>>, is_over: &AtomicBool) {
    if std::net::TcpStream::connect(address).is_err() {
        return;
    }
    let mut client = Smtp::connect(address);
    if !client.command("EHLO load").starts_with("250")
        || !client.command("AUTH PLAIN AGVycABsb2Fk").starts_with("235")
    {
        return;
    }
    for number in 0.. {
        if is_over.load(Ordering::Acquire) {
            return;
        }
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
        let message = format!(
            "Message-ID: <{subject}@load.example>\r\n{}.",
            admitted(&subject)
        );
        if !client.try_command(&message).starts_with("250") {
            return;
        }
        promised.lock().expect("no panic").push(subject);
    }
}

/// Counts the arrivals of each message.
fn arrivals(lab: &Lab) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for message in lab.state().delivered() {
        let mut lines = message.text.lines();
        let subject = lines.find_map(|line| line.strip_prefix("Subject: "));
        *counts
            .entry(subject.expect("a subject").to_owned())
            .or_default() += 1;
    }
    counts
}

impl Nodes {
    /// Waits until everything that was promised has arrived and the queue is empty. Each message that arrived twice
    /// must have been known to be uncertain. Returns how many these are.
    fn settled(&self, promised: &[String], said: &str) -> usize {
        let counts = self.lab.wait_for(
            &format!("delivery of all that was promised ({said})"),
            || {
                let counts = arrivals(&self.lab);
                let mut promised = promised.iter();
                promised.all(|it| counts.contains_key(it)).then_some(counts)
            },
        );
        self.lab.wait_for("an empty queue", || {
            let listed = self.nodes[0].stdout(&["queue", "list"]);
            listed.contains("0 in the queue").then_some(())
        });
        let twice: Vec<&String> = counts
            .iter()
            .filter(|it| *it.1 > 1)
            .map(|it| it.0)
            .collect();
        for subject in &twice {
            let id = format!("<{subject}@load.example>");
            let story = self.nodes[0].stdout(&["trace", "--json", &id]);
            assert!(
                story.contains("\"uncertain\":true"),
                "{subject} arrived {} times without an excuse ({said}): {story}",
                counts[*subject]
            );
        }
        twice.len()
    }
}

#[test]
fn what_was_promised_arrives_whichever_node_is_killed() {
    let seed = seed();
    let plan = Plan {
        configuration: format!("{USUAL}{SERVER}sessions = 4\n"),
        ..Plan::default()
    };
    let Some(mut nodes) = Nodes::new("nodes killed", 3, plan) else {
        return;
    };
    nodes.start();
    let (mut random, promised) = (StdRng::seed_from_u64(seed), Mutex::new(Vec::new()));
    for round in 0..ROUNDS {
        let killed = random.random_range(0..nodes.nodes.len());
        let pause = Duration::from_micros(random.random_range(0..200_000));
        let is_over = AtomicBool::new(false);
        let addresses: Vec<SocketAddr> = nodes.nodes.iter().map(|node| node.address).collect();
        std::thread::scope(|scope| {
            for (number, address) in addresses.into_iter().enumerate() {
                for session in 0..SESSIONS {
                    let name = format!("{round}-{number}-{session}");
                    let (promised, is_over) = (&promised, &is_over);
                    // Ignore a session that breaks off midway: this test kills the program on purpose.
                    scope.spawn(move || {
                        std::panic::catch_unwind(|| load(address, &name, promised, is_over)).is_ok()
                    });
                }
            }
            std::thread::park_timeout(pause);
            nodes.nodes[killed].kill();
            is_over.store(true, Ordering::Release);
        });
        nodes.nodes[killed].start(&nodes.lab);
    }
    let promised = promised.into_inner().expect("no panic");
    assert!(!promised.is_empty(), "seed {seed}: none was sent");
    let twice = nodes.settled(&promised, &format!("seed {seed}"));
    println!(
        "seed {seed}: {} promised, {twice} arrived twice",
        promised.len()
    );
}
