//! A node is taken out of service without a client noticing.

use std::net::TcpStream;
use std::process::{Child, Stdio};

use crate::support::{Lab, Node, Nodes, Plan, SERVER, Smtp, USUAL, admitted};

/// What a proxy sends ahead of a client's connection from 192.0.2.1 (PROXY protocol v2, §2.2: version 2, PROXY, TCP4).
const OF_A_CLIENT: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\x7f\x00\x00\x01\x30\x39\x00\x19";

/// What a proxy sends ahead of a check of its own (version 2, LOCAL).
const OF_A_CHECK: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";

fn behind_a_proxy() -> Option<Nodes> {
    let proxied = USUAL.replace("127.0.0.1:0\"", "127.0.0.1:0\"\nproxies = [\"127.0.0.1\"]");
    let mut nodes = Nodes::new(
        "drain",
        2,
        Plan {
            configuration: proxied + SERVER,
            ..Plan::default()
        },
    )?;
    nodes.start();
    Some(nodes)
}

/// Connects as a proxy. Returns the greeting too.
fn connect(node: &Node, header: &[u8]) -> (Smtp, String) {
    let mut client = Smtp::silent(node.address);
    client.raw(header);
    let greeting = client.reply();
    (client, greeting)
}

fn client(node: &Node) -> Smtp {
    let (mut client, greeting) = connect(node, OF_A_CLIENT);
    assert!(greeting.starts_with("220"), "{greeting}");
    client.expect("EHLO test", "250");
    client.expect("AUTH PLAIN AGVycABsb2Fk", "235");
    client
}

fn send(client: &mut Smtp, subject: &str) {
    let to = ["someone@example.net"];
    let reply = client.send("notifications@example.com", &to, &admitted(subject));
    assert!(reply.starts_with("250"), "{reply}");
}

/// Begins to drain a node, and waits until it has begun.
fn drain(nodes: &Nodes, number: usize, arguments: &[&str]) -> Child {
    let node = &nodes.nodes[number];
    let mut command = node.command(&[&["drain"], arguments].concat());
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let draining = command.spawn().expect("starts");
    node.logged(&nodes.lab, &["event=\"draining\""]);
    draining
}

fn said(draining: Child) -> String {
    let output = draining.wait_with_output().expect("ends");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn a_node_that_is_drained_serves_its_clients_to_the_end() {
    let Some(mut nodes) = behind_a_proxy() else {
        return;
    };
    let mut kept = client(&nodes.nodes[0]);
    send(&mut kept, "before");
    nodes.lab.delivered(1);

    let draining = drain(&nodes, 0, &[]);
    let (_, greeting) = connect(&nodes.nodes[0], OF_A_CHECK);
    assert!(greeting.starts_with("421 4.3.2 This node"), "{greeting}");
    let mut late = client(&nodes.nodes[0]);
    send(&mut late, "on a connection that came late");
    late.expect("QUIT", "221");
    send(&mut kept, "on the old connection");
    nodes.lab.delivered(3);
    nodes.nodes[1].logged(&nodes.lab, &["event=\"delivered\""]);

    let is_closed = || {
        TcpStream::connect(nodes.nodes[0].address)
            .is_err()
            .then_some(())
    };
    nodes.lab.wait_for("a closed listener", is_closed);
    send(&mut kept, "when no others can come");
    nodes.lab.delivered(4);
    let status = nodes.nodes[0].run(&["status"]);
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("1 session with an app left"), "{status}");
    kept.expect("QUIT", "221");
    let said = said(draining);
    assert!(said.starts_with("This node is drained"), "{said}");

    let status = nodes.nodes[1].stdout(&["status"]);
    assert!(status.contains(", out of service"), "{status}");
    let refused = nodes.nodes[1].run(&["drain"]);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{why}");
    assert!(why.contains("no other node is in service"), "{why}");
    let refused = nodes.nodes[0].run(&["reload"]);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("drain --undo"), "{why}");

    let said = nodes.nodes[0].stdout(&["drain", "--undo"]);
    assert_eq!(said, "This node is in service again.\n");
    let status = nodes.nodes[0].stdout(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    assert!(status.get("drain").is_none(), "{status}");
    let address = status["about"]["listeners"][0]["address"].as_str();
    nodes.nodes[0].address = address.expect("an address").parse().expect("an address");
    let mut again = client(&nodes.nodes[0]);
    send(&mut again, "after all");
    nodes.lab.delivered(5);
    assert!(nodes.nodes.iter_mut().all(Node::stop));
}

#[test]
fn a_session_that_does_not_end_is_ended_between_messages() {
    let Some(mut nodes) = behind_a_proxy() else {
        return;
    };
    let mut idle = client(&nodes.nodes[0]);
    let draining = drain(&nodes, 0, &["--wait", "0"]);
    let reply = idle.reply();
    assert!(reply.starts_with("421 4.3.2"), "{reply}");
    assert!(said(draining).starts_with("This node is drained"));
    assert!(nodes.nodes.iter_mut().all(Node::stop));
}

#[test]
fn a_program_without_other_nodes_is_not_drained() {
    let lab = Lab::new();
    let refused = lab.run(&["drain"]);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{why}");
    assert!(why.contains("shares its queue with no other one"), "{why}");
}
