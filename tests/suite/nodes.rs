//! Several nodes on one PostgreSQL, each in a process of its own.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mailferry::sandbox::SandboxLimits;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::support::postgresql::Postgresql;
use crate::support::{
    Cutter, Lab, Node, Nodes, Plan, SERVER, Smtp, USUAL, admitted, by_refresh_token, seed, skipped,
};

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
        let is_empty = || has(0, &node.stdout(&["queue", "list"])).then_some(());
        nodes.lab.wait_for("an empty queue", is_empty);
        let traced = node.stdout(&["trace", "someone@example.net"]);
        assert_eq!(traced.matches("delivered").count(), 2, "{traced}");
        let status = node.stdout(&["status"]);
        assert_eq!(status.matches("\nnode ").count(), 2, "{status}");
        assert_eq!(status.matches(", leads").count(), 1, "{status}");
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

/// True if a list of the queue has this many messages.
fn has(count: usize, listed: &str) -> bool {
    let last = format!("{count} in the queue");
    listed.lines().any(|line| line == last)
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
        let what = format!("delivery of all that was promised ({said})");
        let counts = self.lab.wait_for(&what, || {
            let listed = self.nodes[0].stdout(&["queue", "list"]);
            // Two nodes have died while they were sending the same message. An operator decides about it.
            if listed.contains("held uncertain") {
                self.nodes[0].stdout(&["queue", "release", "--all"]);
            }
            has(0, &listed).then(|| arrivals(&self.lab))
        });
        let lost: Vec<&String> = promised
            .iter()
            .filter(|it| !counts.contains_key(*it))
            .collect();
        if let Some(subject) = lost.first() {
            let id = format!("<{subject}@load.example>");
            let story = self.nodes[0].run(&["trace", "--json", &id]);
            panic!("{subject} was lost ({said}): {story:?}");
        }
        let twice: Vec<&String> = promised.iter().filter(|it| counts[*it] > 1).collect();
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

/// Sends this many messages, through all nodes in turn, over a session for each node.
fn send_through_all(nodes: &Nodes, count: usize) {
    let mut clients: Vec<Smtp> = nodes.nodes.iter().map(Node::client).collect();
    let at_once = clients.len();
    for number in 0..count {
        let to = ["someone@example.net"];
        let message = admitted(&format!("number {number}"));
        let reply = clients[number % at_once].send("notifications@example.com", &to, &message);
        assert!(reply.starts_with("250"), "{reply}");
    }
}

/// Returns the plan of a mailbox with these limits at the stand-in, and the same limits in the configuration.
fn limited(sessions: usize, per_minute: usize, per_day: usize) -> Plan {
    let unlimited = "messages_per_minute = 0\nrecipients_per_day = 0\n";
    let limits = format!(
        "sessions = {sessions}\nmessages_per_minute = {per_minute}\nrecipients_per_day = {per_day}\n"
    );
    assert!(SERVER.contains(unlimited));
    let or_more = |limit| if limit == 0 { 1_000_000 } else { limit };
    Plan {
        configuration: USUAL.to_owned() + &SERVER.replace(unlimited, &limits),
        limits: SandboxLimits {
            sessions,
            per_minute: or_more(per_minute),
            per_day: or_more(per_day),
            ..SandboxLimits::none()
        },
        ..Plan::default()
    }
}

impl Nodes {
    /// Waits until a node, by its number, lists this many messages in the queue.
    fn queued(&self, node: usize, count: usize) {
        let is_so = || has(count, &self.nodes[node].stdout(&["queue", "list"])).then_some(());
        self.lab.wait_for(&format!("{count} in the queue"), is_so);
    }

    /// Checks that the stand-in has refused nothing because of a limit.
    fn were_within_limits(&self) {
        let stats = self.lab.state().stats();
        assert_eq!(stats.contents, stats.messages, "a message was refused");
        for node in &self.nodes {
            let log = node.log();
            let mut lines = log.lines();
            let refused = lines.find(|line| line.contains("event=\"server_crowded\""));
            assert_eq!(refused, None);
        }
    }
}

#[test]
fn a_mailbox_has_one_minute_and_few_sessions_for_all_nodes() {
    let Some(mut nodes) = Nodes::new("nodes and the minute", 3, limited(1, 12, 0)) else {
        return;
    };
    nodes.start();
    send_through_all(&nodes, 18);
    assert_eq!(nodes.lab.delivered(12).len(), 12);
    // The nodes know that there is nothing more to send in this minute, or have no session.
    nodes.queued(1, 6);
    nodes.were_within_limits();
    // A node that starts later knows what the others have sent.
    assert!(nodes.nodes[0].stop());
    nodes.nodes[0].start(&nodes.lab);
    assert!(nodes.nodes[0].send(&admitted("late")).starts_with("250"));
    nodes.queued(1, 7);
    nodes.were_within_limits();
    assert_eq!(nodes.lab.state().stats().messages, 12);
}

#[test]
fn a_user_has_one_day_for_all_nodes() {
    let user = "name = \"erp\"\nmessages_per_day = 7";
    let plan = Plan {
        configuration: USUAL.replace("name = \"erp\"", user) + SERVER,
        ..Plan::default()
    };
    let Some(mut nodes) = Nodes::new("nodes and a user", 3, plan) else {
        return;
    };
    nodes.start();
    send_through_all(&nodes, 7);
    for node in &nodes.nodes {
        let reply = node.send(&admitted("one too many"));
        let wanted = "450 4.7.1 User erp: 7 messages per day are allowed (setting `messages_per_day`), try again in ";
        assert!(reply.starts_with(wanted), "{reply}");
    }
    assert_eq!(nodes.lab.delivered(7).len(), 7);
}

#[test]
fn a_user_has_few_sessions_for_all_nodes() {
    let user = "name = \"erp\"\nsessions = 2";
    let plan = Plan {
        configuration: USUAL.replace("name = \"erp\"", user) + SERVER,
        ..Plan::default()
    };
    let Some(mut nodes) = Nodes::new("nodes and sessions", 3, plan) else {
        return;
    };
    nodes.start();
    let [one, two, three] = [0, 1, 2].map(|node| &nodes.nodes[node]);
    let (first, _second) = (one.client(), two.client());
    let Err(refused) = three.sign_in() else {
        panic!("a third session");
    };
    let wanted = "421 4.7.0 User erp has 2 sessions already, the maximum (setting `sessions`)";
    assert!(refused.starts_with(wanted), "{refused}");
    drop(first);
    let third = || three.sign_in().ok();
    let _third = nodes.lab.wait_for("a free slot", third);
    assert!(one.sign_in().is_err());
    // The slots of a node that has died are free when the others notice.
    nodes.nodes[1].kill();
    let again = || nodes.nodes[0].sign_in().ok();
    nodes.lab.wait_for("a free slot", again);
}

#[test]
fn a_mailbox_has_one_day_for_all_nodes() {
    let Some(mut nodes) = Nodes::new("nodes and the day", 3, limited(2, 0, 20)) else {
        return;
    };
    nodes.start();
    send_through_all(&nodes, 26);
    assert_eq!(nodes.lab.delivered(20).len(), 20);
    let held = |node: &Node| {
        node.log()
            .contains("the daily limit of 20 recipients is reached")
    };
    nodes.lab.wait_for("the end of the day", || {
        nodes.nodes.iter().any(held).then_some(())
    });
    nodes.queued(2, 6);
    nodes.were_within_limits();
    assert_eq!(nodes.lab.state().stats().messages, 20);
    // Each node shows what all have used.
    for node in &nodes.nodes {
        let shows = || {
            let server = node.stdout(&["servers", "--json"]);
            let server: serde_json::Value = serde_json::from_str(&server).expect("JSON");
            server["recipients_of_day"] == 20
        };
        nodes.lab.wait_for("the usage", || shows().then_some(()));
    }
}

#[test]
fn a_node_that_sleeps_and_wakes_up_decides_nothing_twice() {
    let Some(mut nodes) = Nodes::new("nodes asleep", 2, limited(2, 0, 0)) else {
        return;
    };
    nodes.start();
    // The stand-in is slow to answer, so that the node falls asleep while it is sending.
    nodes
        .lab
        .fault(r#"{"stage": "final_dot", "action": {"stall": 3000}}"#);
    let message = format!(
        "Message-ID: <asleep-0@load.example>\r\n{}",
        admitted("asleep-0")
    );
    assert!(nodes.nodes[0].send(&message).starts_with("250"));
    nodes.lab.wait_for("a message under way", || {
        let listed = nodes.nodes[1].stdout(&["queue", "list"]);
        listed.contains("active").then_some(())
    });
    nodes.nodes[0].signal("STOP");
    nodes.nodes[1].logged(&nodes.lab, &["event=\"node_dead\""]);
    nodes.nodes[0].signal("CONT");
    nodes.nodes[0].logged(&nodes.lab, &["event=\"node_taken_over\""]);
    let twice = nodes.settled(&["asleep-0".to_owned()], "asleep");
    assert!(twice <= 1);
    assert!(nodes.nodes[0].send(&admitted("awake")).starts_with("250"));
    nodes.settled(&["awake".to_owned()], "awake");
}

#[test]
fn one_node_refreshes_the_token_and_all_use_it() {
    let plan = Plan {
        rotates: true,
        // A refresh token that was used does not work again.
        configuration: USUAL.to_owned() + &by_refresh_token(),
        ..Plan::default()
    };
    let Some(mut nodes) = Nodes::new("nodes and tokens", 3, plan) else {
        return;
    };
    nodes.start();
    for round in 0..3 {
        std::thread::scope(|scope| {
            for node in &nodes.nodes {
                scope.spawn(move || {
                    let reply = node.send(&admitted(&format!("round {round}")));
                    assert!(reply.starts_with("250"), "{reply}");
                });
            }
        });
        nodes.lab.delivered(3 * (round + 1));
    }
    assert_eq!(nodes.lab.state().stats().token_requests, 1);
    // The server refuses the token: one node gets another one for all.
    nodes.lab.state().revoke_access();
    for node in &nodes.nodes {
        assert!(node.send(&admitted("revoked")).starts_with("250"));
    }
    nodes.lab.delivered(12);
    let requests = nodes.lab.state().stats().token_requests;
    assert!(requests <= 4, "{requests} requests");
}

#[test]
fn nodes_get_a_new_vault_key_together() {
    let plan = Plan {
        configuration: USUAL.to_owned() + &by_refresh_token(),
        ..Plan::default()
    };
    let Some(mut nodes) = Nodes::new("nodes and the vault key", 2, plan) else {
        return;
    };
    nodes.start();
    send_through_all(&nodes, 2);
    nodes.lab.delivered(2);
    let requests = nodes.lab.state().stats().token_requests;
    let key = nodes.nodes[0].stdout(&["vault", "new-key"]);
    let file = nodes.lab.path("new.key");
    nodes.lab.write_private("new.key", key.trim());
    let rotate = [
        "vault",
        "rotate",
        "--new-key",
        file.to_str().expect("UTF-8"),
    ];
    let refused = nodes.nodes[0].run(&rotate);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "{why}");
    assert!(why.contains("stop all other nodes"), "{why}");
    assert!(nodes.nodes[1].stop());
    let said = nodes.nodes[0].stdout(&rotate);
    assert!(said.contains("1 account"), "{said}");
    assert!(nodes.nodes[0].stop());
    for node in &nodes.nodes {
        std::fs::copy(&file, node.folder.join("vault.key")).expect("copies");
    }
    nodes.start();
    send_through_all(&nodes, 4);
    nodes.lab.delivered(6);
    assert_eq!(nodes.lab.state().stats().token_requests, requests);
}

#[test]
fn while_the_database_restarts_nothing_is_lost_and_nothing_is_sent_twice() {
    let seed = seed();
    let plan = Plan {
        configuration: format!("{USUAL}{SERVER}sessions = 4\n"),
        ..Plan::default()
    };
    let Some(mut nodes) = Nodes::new("nodes and restarts", 3, plan) else {
        return;
    };
    nodes.start();
    let (mut random, promised) = (StdRng::seed_from_u64(seed), Mutex::new(Vec::new()));
    for (round, signal) in ["INT", "KILL", "INT", "KILL"].into_iter().enumerate() {
        let pause = Duration::from_micros(random.random_range(50_000..200_000));
        let is_over = AtomicBool::new(false);
        let addresses: Vec<SocketAddr> = nodes.nodes.iter().map(|node| node.address).collect();
        std::thread::scope(|scope| {
            for (number, address) in addresses.into_iter().enumerate() {
                let (promised, is_over) = (&promised, &is_over);
                scope.spawn(move || load(address, &format!("{round}-{number}"), promised, is_over));
            }
            std::thread::park_timeout(pause);
            nodes.server.stop(signal);
            nodes.server.run();
            is_over.store(true, Ordering::Release);
        });
        // The nodes take mail again.
        let lab = &nodes.lab;
        for node in &nodes.nodes {
            lab.wait_for("mail", || {
                node.send(&admitted("again"))
                    .starts_with("250")
                    .then_some(())
            });
        }
    }
    let promised = promised.into_inner().expect("no panic");
    let counts = |subject: &str| arrivals(&nodes.lab).remove(subject).unwrap_or_default();
    nodes.settled(&promised, &format!("seed {seed}"));
    for subject in &promised {
        assert_eq!(counts(subject), 1, "{subject} (seed {seed})");
    }
}

#[test]
fn while_the_database_is_away_apps_get_451_and_direct_mode_goes_on() {
    let direct = SERVER.replace("from_filter", "mode = \"direct\"\nfrom_filter");
    let plan = Plan {
        configuration: USUAL.to_owned() + &direct,
        ..Plan::default()
    };
    let Some(mut nodes) = Nodes::new("nodes and direct", 1, plan) else {
        return;
    };
    nodes.start();
    let node = &nodes.nodes[0];
    assert!(node.send(&admitted("before")).starts_with("250"));
    assert!(node.stdout(&["check"]).contains("Database"));
    nodes.server.stop("INT");
    assert!(node.send(&admitted("meanwhile")).starts_with("250"));
    assert_eq!(nodes.lab.delivered(2).len(), 2);
    let checked = node.run(&["check"]);
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(
        said.contains("does not answer") && !checked.status.success(),
        "{said}"
    );
    nodes.server.run();
    assert!(node.send(&admitted("after")).starts_with("250"));
}

#[test]
fn a_hold_on_one_node_is_a_hold_on_all() {
    let Some(mut nodes) = Nodes::new("nodes and holds", 2, Plan::default()) else {
        return;
    };
    nodes.start();
    let [one, other] = &nodes.nodes[..] else {
        panic!("two nodes");
    };
    let is_held = |node: &Node| node.stdout(&["servers"]).contains("on purpose");
    one.stdout(&["hold", "notifications", "--reason", "on purpose"]);
    nodes
        .lab
        .wait_for("a hold", || is_held(other).then_some(()));
    assert!(other.send(&admitted("held")).starts_with("250"));
    assert!(is_held(one) && nodes.lab.state().stats().messages == 0);
    other.stdout(&["release", "notifications"]);
    nodes.lab.delivered(1);
    nodes
        .lab
        .wait_for("a release", || (!is_held(one)).then_some(()));
    assert!(one.send(&admitted("released")).starts_with("250"));
    nodes.lab.delivered(2);
    // A node that has not heard of the hold yet can end it too.
    one.stdout(&["hold", "notifications"]);
    let said = other.stdout(&["release", "notifications"]);
    assert!(said.contains("is released"), "{said}");
    nodes.lab.wait_for("a release", || {
        (!one.stdout(&["servers"]).contains("by hand")).then_some(())
    });
    assert!(one.send(&admitted("at once")).starts_with("250"));
    nodes.lab.delivered(3);
}

#[test]
fn while_connections_to_the_database_are_cut_nothing_is_lost_and_nothing_is_sent_twice() {
    let seed = seed();
    let Some(server) = Postgresql::start("nodes cut", "") else {
        return;
    };
    let cutter = Cutter::start(server.port);
    let plan = Plan {
        configuration: format!("{USUAL}{SERVER}sessions = 4\n"),
        ..Plan::default()
    };
    let mut nodes = Nodes::behind(server, &cutter.port.to_string(), 2, plan);
    nodes.start();
    let (mut random, promised) = (StdRng::seed_from_u64(seed), Mutex::new(Vec::new()));
    for round in 0..ROUNDS {
        let is_over = AtomicBool::new(false);
        let addresses: Vec<SocketAddr> = nodes.nodes.iter().map(|node| node.address).collect();
        std::thread::scope(|scope| {
            for (number, address) in addresses.into_iter().enumerate() {
                let (promised, is_over) = (&promised, &is_over);
                scope.spawn(move || load(address, &format!("{round}-{number}"), promised, is_over));
            }
            std::thread::park_timeout(Duration::from_micros(random.random_range(0..60_000)));
            cutter.cut();
            is_over.store(true, Ordering::Release);
        });
    }
    let promised = promised.into_inner().expect("no panic");
    assert!(!promised.is_empty(), "seed {seed}: none was sent");
    let twice = nodes.settled(&promised, &format!("seed {seed}"));
    assert_eq!(twice, 0, "seed {seed}");
    println!("seed {seed}: {} promised", promised.len());
}

#[test]
fn the_nodes_follow_a_failover_to_a_synchronous_standby() {
    let Some(server) = Postgresql::start("nodes failover", "") else {
        return;
    };
    let standby = server.standby();
    let plan = Plan {
        configuration: format!("{USUAL}{SERVER}sessions = 4\n"),
        ..Plan::default()
    };
    let hosts = format!("{},127.0.0.1:{}", server.port, standby.port);
    let mut nodes = Nodes::behind(server, &hosts, 2, plan);
    nodes.lab.wait(async {
        let client = nodes.server.client("postgres").await;
        // Each statement of its own, because ALTER SYSTEM may be in no transaction.
        for sql in [
            "ALTER SYSTEM SET synchronous_standby_names = '*'",
            "SELECT pg_reload_conf()",
        ] {
            client.batch_execute(sql).await.expect("sets");
        }
    });
    nodes.start();
    let (promised, is_over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let addresses: Vec<SocketAddr> = nodes.nodes.iter().map(|node| node.address).collect();
    std::thread::scope(|scope| {
        for (number, address) in addresses.into_iter().enumerate() {
            let (promised, is_over) = (&promised, &is_over);
            scope.spawn(move || load(address, &format!("failover-{number}"), promised, is_over));
        }
        nodes.lab.wait_for("promises", || {
            (promised.lock().expect("no panic").len() > 50).then_some(())
        });
        nodes.server.stop("KILL");
        standby.promote();
        is_over.store(true, Ordering::Release);
    });
    for node in &nodes.nodes {
        let sends = || {
            node.send(&admitted("after the failover"))
                .starts_with("250")
        };
        nodes.lab.wait_for("mail", || sends().then_some(()));
    }
    let promised = promised.into_inner().expect("no panic");
    let twice = nodes.settled(&promised, "failover");
    assert_eq!(twice, 0);
}

#[test]
fn the_version_before_works_beside_this_one() {
    let Some(before) = std::env::var_os("MAILFERRY_BEFORE") else {
        return skipped(
            "two versions",
            "MAILFERRY_BEFORE does not name the program of the commit before; run tests/run",
        );
    };
    let before = PathBuf::from(before);
    // The order decides which version makes the tables.
    for first_is_old in [true, false] {
        let Some(mut nodes) = Nodes::new("two versions", 2, Plan::default()) else {
            return;
        };
        nodes.nodes[usize::from(!first_is_old)]
            .version
            .clone_from(&before);
        nodes.start();
        send_through_all(&nodes, 10);
        nodes.lab.delivered(10);
        for node in 0..2 {
            nodes.queued(node, 0);
            let status = nodes.nodes[node].stdout(&["status"]);
            assert_eq!(status.matches("\nnode ").count(), 2, "{status}");
            let traced = nodes.nodes[node].stdout(&["trace", "someone@example.net"]);
            assert_eq!(traced.matches("delivered").count(), 10, "{traced}");
        }
        nodes.nodes[0].stdout(&["hold", "notifications"]);
        let is_held = || nodes.nodes[1].stdout(&["servers"]).contains("by hand");
        nodes.lab.wait_for("a hold", || is_held().then_some(()));
        send_through_all(&nodes, 4);
        nodes.queued(1, 4);
        // The node that made the tables ends; the other one has its messages, and goes on alone.
        assert!(nodes.nodes[0].stop());
        nodes.nodes[1].stdout(&["release", "notifications"]);
        nodes.lab.delivered(14);
        nodes.nodes[0].start(&nodes.lab);
        send_through_all(&nodes, 2);
        nodes.lab.delivered(16);
        assert!(nodes.nodes.iter_mut().all(Node::stop));
    }
}
