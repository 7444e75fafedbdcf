//! A user moves from this machine's disk to PostgreSQL, and back.

use crate::support::{Node, Nodes, Plan, USUAL, admitted, by_refresh_token};

fn count(node: &Node) -> usize {
    let listed = node.stdout(&["queue", "list", "--json"]);
    listed
        .lines()
        .filter(|line| line.contains("\"id\""))
        .count()
}

fn said(node: &Node, arguments: &[&str], code: i32) -> String {
    let output = node.run(arguments);
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    text
}

#[test]
fn queue_history_and_tokens_move_to_postgresql_and_back() {
    let plan = Plan {
        configuration: USUAL.to_owned() + &by_refresh_token(),
        ..Plan::default()
    };
    let Some(mut nodes) = Nodes::new("copy", 1, plan) else {
        return;
    };
    let file = nodes.nodes[0].folder.join("mailferry.toml");
    let configuration = std::fs::read_to_string(file).expect("a configuration");
    let (on_disk, _) = configuration.split_once("\n[spool]").expect("a spool");
    let mut old = Node::new(&nodes.lab, "old", on_disk);
    let from = old.folder.join("mailferry.toml");
    let from = from.to_str().expect("UTF-8").to_owned();
    let copy = ["spool", "copy", "--from", &from];
    let refused = said(&nodes.nodes[0], &copy, 69);
    assert!(refused.contains("there is no spool"), "{refused}");
    old.start(&nodes.lab);
    old.send(&admitted("delivered before"));
    nodes.lab.delivered(1);
    old.stdout(&["hold", "notifications"]);
    for number in 0..3 {
        old.send(&admitted(&format!("waits {number}")));
    }
    let refused = said(&nodes.nodes[0], &copy, 69);
    assert!(
        refused.contains("is in use by another mailferry"),
        "{refused}"
    );
    assert!(old.stop());

    let copied = said(&nodes.nodes[0], &copy, 0);
    assert!(
        copied.starts_with(
            "Copied: messages of the queue 3, stories of the history 1, accounts with tokens 1."
        ),
        "{copied}"
    );
    let again = said(&nodes.nodes[0], &copy, 0);
    assert!(again.starts_with("Everything was copied before"), "{again}");
    let refused = said(&old, &["serve"], 69);
    assert!(refused.contains("were copied to"), "{refused}");
    nodes.start();
    let new = &nodes.nodes[0];
    assert_eq!(count(new), 3);
    let traced = new.stdout(&["trace", "someone@example.net"]);
    assert!(traced.contains("delivered"), "{traced}");
    let servers = new.stdout(&["servers"]);
    assert!(servers.contains("by hand"), "{servers}");
    new.stdout(&["release", "notifications"]);
    nodes.lab.delivered(4);
    let requests = nodes.lab.state().stats().token_requests;
    new.stdout(&["hold", "notifications"]);
    new.send(&admitted("waits for the way back"));
    let to = new.folder.join("mailferry.toml");
    let to = to.to_str().expect("UTF-8").to_owned();
    let back = ["spool", "copy", "--from", &to];
    let refused = said(&old, &back, 69);
    assert!(refused.contains("in use by the node"), "{refused}");
    assert!(nodes.nodes[0].stop());
    said(&old, &back, 0);
    let refused = said(&nodes.nodes[0], &["serve"], 69);
    assert!(refused.contains("were copied to"), "{refused}");
    old.start(&nodes.lab);
    assert_eq!(count(&old), 1);
    old.stdout(&["release", "notifications"]);
    nodes.lab.delivered(5);
    assert_eq!(nodes.lab.state().stats().token_requests, requests);
    assert!(old.stop());
}
