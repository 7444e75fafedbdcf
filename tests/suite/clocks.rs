//! Nodes whose clocks differ by hours.

use std::path::Path;

use crate::support::{Node, Nodes, Plan, SERVER, USUAL, admitted, skipped};

/// Lets a program see another time (`libfaketime`).
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// Sets a node's clock ahead by this many seconds, or back.
fn set_clock(node: &mut Node, by: i64) {
    let variables = [
        ("LD_PRELOAD", FAKETIME.to_owned()),
        ("FAKETIME", format!("{by:+}")),
        // Only the wall clock is wrong.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    let variables = variables.into_iter();
    node.environment = variables
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
}

#[test]
fn nodes_whose_clocks_are_hours_apart_follow_one_time() {
    if !Path::new(FAKETIME).exists() {
        return skipped(
            "clocks apart",
            "libfaketime is not installed; run tests/run",
        );
    }
    let limits = "messages_per_minute = 0\nrecipients_per_day = 12\n";
    let unlimited = "messages_per_minute = 0\nrecipients_per_day = 0\n";
    let plan = Plan {
        configuration: USUAL.to_owned() + &SERVER.replace(unlimited, limits),
        ..Plan::default()
    };
    let Some(mut nodes) = Nodes::new("clocks apart", 3, plan) else {
        return;
    };
    for (node, by) in nodes.nodes.iter_mut().zip([3_600, 0, -3_600]) {
        set_clock(node, by);
    }
    nodes.start();
    // An attempt that fails is made again in a second, whichever node makes it.
    nodes.lab.fault(
        r#"{"stage": "final_dot", "times": 3, "action": {"reply": "451 4.7.0 Temporary server error"}}"#,
    );
    for number in 0..6 {
        let reply = nodes.nodes[number % 3].send(&admitted(&format!("number {number}")));
        assert!(reply.starts_with("250"), "{reply}");
    }
    nodes.lab.delivered(6);
    // The node that is behind dies, and the one that is ahead takes over at once, not in an hour.
    nodes.nodes[1].stdout(&["hold", "notifications"]);
    let is_held = || nodes.nodes[2].stdout(&["servers"]).contains("by hand");
    nodes.lab.wait_for("a hold", || is_held().then_some(()));
    for number in 6..9 {
        let reply = nodes.nodes[2].send(&admitted(&format!("number {number}")));
        assert!(reply.starts_with("250"), "{reply}");
    }
    nodes.nodes[2].kill();
    nodes.nodes[0].stdout(&["release", "notifications"]);
    nodes.lab.delivered(9);
    // A node whose clock is a day ahead knows what was sent in the day that the nodes share.
    set_clock(&mut nodes.nodes[2], 86_400);
    let Nodes {
        nodes: all, lab, ..
    } = &mut nodes;
    all[2].start(lab);
    for number in 9..15 {
        let reply = nodes.nodes[2].send(&admitted(&format!("number {number}")));
        assert!(reply.starts_with("250"), "{reply}");
    }
    nodes.lab.delivered(12);
    let waiting = || {
        let listed = nodes.nodes[0].stdout(&["queue", "list"]);
        listed.contains("3 in the queue").then_some(())
    };
    nodes.lab.wait_for("3 in the queue", waiting);
    let messages = nodes.lab.state().stats().messages;
    assert_eq!(messages, 12, "the day has 12");
    let mut subjects: Vec<String> = nodes
        .lab
        .delivered(12)
        .iter()
        .filter_map(|it| {
            Some(
                it.text
                    .split("Subject: ")
                    .nth(1)?
                    .lines()
                    .next()?
                    .to_owned(),
            )
        })
        .collect();
    subjects.sort();
    subjects.dedup();
    assert_eq!(subjects.len(), 12, "a message arrived twice");
}
