//! Several nodes on one PostgreSQL, each in a process of its own.

use super::postgresql::Postgresql;
use super::{Lab, Node, Plan};

/// Nodes on one database, and the stand-ins that they use.
pub struct Nodes {
    // They end in this order.
    pub nodes: Vec<Node>,
    pub lab: Lab,
    pub server: Postgresql,
}

/// A key as `mailferry vault new-key` prints it.
const VAULT_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

impl Nodes {
    /// Sets up `count` nodes that are not running yet. If PostgreSQL is not installed, the test is skipped with a message.
    pub fn new(test: &str, count: usize, plan: Plan) -> Option<Self> {
        let server = Postgresql::start(test, "-c synchronous_commit=on")?;
        let port = server.port;
        Some(Self::behind(server, &port.to_string(), count, plan))
    }

    /// Sets up nodes that reach the server by a proxy on this port, or by several addresses.
    pub fn behind(server: Postgresql, port: &str, count: usize, plan: Plan) -> Self {
        let configuration = plan.configuration.clone();
        let lab = Lab::stopped(plan);
        let url = lab.wait(server.database());
        let url = url.replace(&format!(":{}/", server.port), &format!(":{port}/"));
        lab.write_private("vault.key", VAULT_KEY);
        lab.write_private("refresh", "refresh-notifications@example.com");
        let spool = format!(
            "\n[spool]\npostgresql = {{ url = \"{url}?target_session_attrs=read-write\" }}\n"
        );
        let key = "vault_key = { file = \"vault.key\" }\n";
        let configuration = key.to_owned() + &configuration + &spool;
        let nodes =
            (0..count).map(|number| Node::new(&lab, &format!("node{number}"), &configuration));
        let nodes = nodes.collect();
        Self { nodes, lab, server }
    }

    pub fn start(&mut self) {
        let lab = &self.lab;
        self.nodes.iter_mut().for_each(|node| node.start(lab));
    }
}
