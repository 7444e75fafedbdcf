//! A node is taken out of service without a client noticing.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::{Lab, Node, Nodes, Plan, SERVER, Smtp, USUAL, admitted, free_port, have};

/// What a proxy sends ahead of a client's connection from 192.0.2.1 (PROXY protocol v2, §2.2: version 2, PROXY, TCP4).
const OF_A_CLIENT: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\x7f\x00\x00\x01\x30\x39\x00\x19";

/// What a proxy sends ahead of a check of its own (version 2, LOCAL).
const OF_A_CHECK: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";

fn behind_a_proxy() -> Option<Nodes> {
    let mut nodes = behind_a_proxy_that_is_not_running()?;
    nodes.start();
    Some(nodes)
}

fn behind_a_proxy_that_is_not_running() -> Option<Nodes> {
    let proxied = USUAL.replace("127.0.0.1:0\"", "127.0.0.1:0\"\nproxies = [\"127.0.0.1\"]");
    Nodes::new(
        "drain",
        2,
        Plan {
            configuration: proxied + SERVER,
            ..Plan::default()
        },
    )
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
    assert!(!status.contains("listeners   smtp"), "{status}");
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

/// A process that is killed when this value is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts HAProxy with the configuration that we recommend, in front of these nodes. Returns its address.
fn haproxy(nodes: &Nodes, ports: &[u16]) -> (Killed, SocketAddr) {
    let port = free_port();
    let mut text = std::fs::read_to_string("config/haproxy.cfg").expect("a configuration");
    text = text.replace("bind :2525", &format!("bind 127.0.0.1:{port}"));
    text = text.replace(" resolvers system", "");
    for (number, port) in ports.iter().enumerate() {
        let name = format!(" mailferry{}:2525", number + 1);
        assert!(text.contains(&name), "{text}");
        text = text.replace(&name, &format!(" 127.0.0.1:{port}"));
    }
    nodes.lab.write("haproxy.cfg", &text);
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
    let haproxy = Command::new("haproxy")
        .env("PATH", path)
        .args(["-db", "-f"])
        .arg(nodes.lab.path("haproxy.cfg"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let haproxy = Killed(haproxy.expect("starts"));
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let is_ready = || TcpStream::connect(address).is_ok().then_some(());
    nodes.lab.wait_for("HAProxy", is_ready);
    (haproxy, address)
}

/// An app that connects again and again until it is told to stop, and sends one or two messages each time.
fn app(address: SocketAddr, sent: &AtomicUsize, is_over: &AtomicBool) {
    let mut number = 0;
    while !is_over.load(Ordering::Acquire) {
        let mut client = Smtp::connect(address);
        client.expect("EHLO app", "250");
        client.expect("AUTH PLAIN AGVycABsb2Fk", "235");
        for _ in 0..1 + number % 2 {
            send(&mut client, &format!("number {number}"));
            sent.fetch_add(1, Ordering::AcqRel);
            number += 1;
        }
        client.expect("QUIT", "221");
    }
}

#[test]
fn behind_haproxy_both_nodes_are_restarted_and_no_app_notices() {
    if !have("drain behind HAProxy", &["haproxy"]) {
        return;
    }
    let Some(mut nodes) = behind_a_proxy_that_is_not_running() else {
        return;
    };
    let ports = [free_port(), free_port()];
    for (node, port) in nodes.nodes.iter().zip(ports) {
        let file = node.folder.join("mailferry.toml");
        let text = std::fs::read_to_string(&file).expect("a configuration");
        std::fs::write(
            &file,
            text.replace("127.0.0.1:0\"", &format!("127.0.0.1:{port}\"")),
        )
        .expect("writes");
    }
    nodes.start();
    let (_haproxy, address) = haproxy(&nodes, &ports);
    let (sent, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        // If an assertion fails, the apps end too.
        let _over = Over(&is_over);
        let apps: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| app(address, &sent, &is_over)))
            .collect();
        for number in [0, 1] {
            let used = used_by_haproxy(&nodes, number, 0);
            let said = said(drain(&nodes, number, &[]));
            assert!(said.starts_with("This node is drained"), "{said}");
            assert!(nodes.nodes[number].stop());
            let Nodes {
                nodes: all, lab, ..
            } = &mut nodes;
            all[number].start(lab);
            used_by_haproxy(&nodes, number, used);
            assert!(
                apps.iter().all(|app| !app.is_finished()),
                "an app has failed"
            );
        }
    });
    let sent = sent.load(Ordering::Acquire);
    nodes.lab.delivered(sent as u64);
    assert!(nodes.nodes.iter_mut().all(Node::stop));
}

/// Ends the apps when it is dropped.
struct Over<'o>(&'o AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Waits until a node has accepted more than `before` messages from apps. Returns the length of its log then.
fn used_by_haproxy(nodes: &Nodes, number: usize, before: usize) -> usize {
    let node = &nodes.nodes[number];
    nodes.lab.wait_for("apps at a node", || {
        let log = node.log();
        let new = log[before..]
            .lines()
            .any(|line| line.contains("event=\"accepted\"") && line.contains("peer=\"127.0.0.1\""));
        new.then_some(())
    });
    node.log().len()
}
