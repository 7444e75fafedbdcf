//! One of several nodes: the program with a folder of its own, beside a laboratory whose stand-ins it uses.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use super::{Lab, PROGRAM, Smtp};

/// A node.
pub struct Node {
    pub folder: PathBuf,
    pub address: SocketAddr,
    /// The program, which may be of another version than this one.
    pub version: PathBuf,
    /// Variables of its environment.
    pub environment: Vec<(String, String)>,
    program: Option<Child>,
}

impl Node {
    /// Sets up a node that is not running yet. Placeholders in the configuration are filled in by the laboratory.
    pub fn new(lab: &Lab, name: &str, configuration: &str) -> Self {
        lab.configure(configuration);
        let folder = lab.path(name);
        std::fs::create_dir(&folder).expect("a folder");
        for file in [
            "mailferry.toml",
            "ca.pem",
            "erp.argon2",
            "vault.key",
            "refresh",
        ] {
            if lab.path(file).exists() {
                std::fs::copy(lab.path(file), folder.join(file)).expect("copies");
            }
        }
        Self {
            folder,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            version: PathBuf::from(PROGRAM),
            environment: Vec::new(),
            program: None,
        }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.version);
        command
            .args(arguments)
            .arg("--config")
            .arg(self.folder.join("mailferry.toml"))
            .envs(self.environment.clone())
            .env("TEST_SECRET", "sandbox-secret")
            .env("MAILFERRY_ALLOW_ROOT", "1")
            .env_remove("MAILFERRY_LOG")
            .stdin(Stdio::null());
        command
    }

    /// Starts the node, and waits until it listens.
    pub fn start(&mut self, lab: &Lab) {
        let before = self.log().len();
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("log"));
        let child = self
            .command(&["serve"])
            .stderr(log.expect("a log"))
            .stdout(Stdio::null())
            .spawn();
        self.program = Some(child.expect("starts"));
        let line = lab.wait_for("listening node", || {
            let log = self.log();
            let mut lines = log[before..].lines();
            let line = lines.find(|line| line.contains("event=\"listening\""))?;
            line.split("address=\"").nth(1).map(str::to_owned)
        });
        let address = line.split('"').next().expect("an address");
        self.address = address.parse().expect("an address");
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Waits for a line of the log that contains all these parts, and returns it.
    pub fn logged(&self, lab: &Lab, parts: &[&str]) -> String {
        lab.wait_for(&format!("{parts:?} in the log of a node"), || {
            let log = self.log();
            let mut lines = log.lines();
            let line = lines.find(|line| parts.iter().all(|part| line.contains(part)));
            line.map(str::to_owned)
        })
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("runs")
    }

    pub fn stdout(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    pub fn signal(&self, name: &str) {
        let id = self.program.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Ends the program with kill -9.
    pub fn kill(&mut self) {
        if let Some(mut program) = self.program.take() {
            let _ = program.kill();
            let _ = program.wait();
        }
    }

    /// Sends SIGTERM. Returns true if the program ended successfully.
    pub fn stop(&mut self) -> bool {
        self.signal("TERM");
        let ended = self.program.take().expect("it runs").wait();
        ended.expect("ends").success()
    }

    /// Connects a client and signs it in.
    pub fn client(&self) -> Smtp {
        self.sign_in().expect("signs in")
    }

    /// Connects a client and signs it in. The error is the reply to the attempt.
    pub fn sign_in(&self) -> Result<Smtp, String> {
        let mut client = Smtp::connect(self.address);
        client.expect("EHLO test", "250");
        client.raw(b"AUTH PLAIN AGVycABsb2Fk\r\n");
        let reply = client.reply();
        match reply.starts_with("235") {
            true => Ok(client),
            false => Err(reply),
        }
    }

    /// Sends a message. Returns the reply to it.
    pub fn send(&self, message: &str) -> String {
        let to = ["someone@example.net"];
        self.client()
            .send("notifications@example.com", &to, message)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(30)..].join("\n");
            eprintln!("The log of {}:\n{end}", self.folder.display());
        }
        self.kill();
    }
}
