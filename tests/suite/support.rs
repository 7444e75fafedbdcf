//! A laboratory: the stand-ins, a configuration, the program as a process of its own, and a client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mailferry::sandbox::{
    Addresses, App, Delivered, Fault, Limits, Mailbox, Sandbox, Settings, State,
};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_mailferry");

/// How long anything may take that should happen soon.
pub const SOON: Duration = Duration::from_secs(60);

/// What a test may change before the laboratory is set up.
pub struct Plan {
    pub mailboxes: Vec<&'static str>,
    pub limits: Limits,
    pub token_life: Duration,
    pub rotates: bool,
    /// App registrations besides the usual one.
    pub apps: Vec<App>,
    /// Replaces the usual configuration; `{smtp}`, `{token_url}` are filled in.
    pub configuration: String,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            mailboxes: vec!["notifications@example.com"],
            limits: Limits::none(),
            token_life: Duration::from_secs(3_600),
            rotates: false,
            apps: Vec::new(),
            configuration: USUAL.to_owned() + SERVER,
        }
    }
}

/// Listener, users and app; the servers follow.
pub const USUAL: &str = r#"
host = "relay.example.com"
data_dir = "data"

[[listener]]
address = "127.0.0.1:0"

[sender]
default_from = "notifications@example.com"

[[user]]
name = "erp"
password = { file = "erp.argon2" }

[delivery]
retry = ["1s"]
grace = "20s"

[oauth.contoso]
tenant = "contoso"
client_id = "sandbox-app"
client_secret = { env = "TEST_SECRET" }
token_url = "{token_url}"
ca = "ca.pem"
"#;

/// The one server of most tests.
pub const SERVER: &str = r#"
[[server]]
name = "notifications"
username = "notifications@example.com"
from_filter = "notifications@example.com"
oauth = "contoso"
grant = "client_credentials"
host = "localhost"
port = {smtp}
ca = "ca.pem"
"#;

pub struct Lab {
    pub folder: tempfile::TempDir,
    pub sandbox: Sandbox,
    runtime: tokio::runtime::Runtime,
    program: Option<Child>,
    pub address: SocketAddr,
}

impl Lab {
    /// The usual laboratory, the program running.
    pub fn new() -> Self {
        Self::with(Plan::default())
    }

    pub fn with(plan: Plan) -> Self {
        let mut lab = Self::stopped(plan);
        lab.start();
        lab
    }

    /// All but the program.
    pub fn stopped(plan: Plan) -> Self {
        mailferry::base::tls::install_provider();
        let folder = tempfile::tempdir().expect("a folder");
        let mailbox = |address: &&str| Mailbox {
            address: address.parse().expect("an address"),
            send_as: Vec::new(),
            refresh_token: Some(format!("refresh-{address}")),
        };
        let settings = Settings {
            tenant: "contoso".into(),
            apps: [
                vec![App::with_secret("sandbox-app", "sandbox-secret")],
                plan.apps,
            ]
            .concat(),
            mailboxes: plan.mailboxes.iter().map(mailbox).collect(),
            token_life: plan.token_life,
            rotates: plan.rotates,
            limits: plan.limits,
            keep: 100_000,
        };
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let sandbox = runtime
            .block_on(Sandbox::start(settings, Addresses::default()))
            .expect("starts");
        let lab = Self {
            folder,
            sandbox,
            runtime,
            program: None,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        lab.write("ca.pem", &lab.sandbox.ca);
        lab.write_private("erp.argon2", &hash());
        lab.configure(&plan.configuration);
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("writes");
    }

    pub fn write_private(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        self.write(name, text);
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(self.path(name), mode).expect("chmod");
    }

    /// Writes the configuration file.
    pub fn configure(&self, text: &str) {
        let text = text
            .replace("{smtp}", &self.sandbox.addresses.smtp.port().to_string())
            .replace("{token_url}", &self.sandbox.token_url())
            .replace("{authorize_url}", &self.sandbox.endpoint("authorize"))
            .replace("{device_url}", &self.sandbox.endpoint("devicecode"));
        self.write("mailferry.toml", &text);
    }

    /// Starts the program, and waits until it listens.
    pub fn start(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .expect("a log");
        let before = self.log().len();
        let child = self
            .command(&["serve"])
            .stderr(log)
            .stdout(Stdio::null())
            .spawn()
            .expect("starts");
        self.program = Some(child);
        let line = self.wait_for("listening", || {
            let log = self.log();
            let line = log[before..]
                .lines()
                .find(|line| line.contains("event=\"listening\""))?;
            line.split("address=").nth(1).map(str::to_owned)
        });
        let address = line.split_whitespace().next().expect("an address");
        self.address = address.parse().expect("an address");
    }

    /// A command of the program with this laboratory's configuration.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(arguments)
            .arg("--config")
            .arg(self.path("mailferry.toml"));
        command
            .env("TEST_SECRET", "sandbox-secret")
            .env_remove("MAILFERRY_LOG")
            .stdin(Stdio::null());
        command
    }

    /// What a command printed.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("runs")
    }

    pub fn stdout(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// As a browser: status and page, redirects followed.
    pub fn get(&self, url: url::Url) -> (u16, String) {
        self.browse(|http| http.get(url))
    }

    /// The same, sending a form.
    pub fn post(&self, url: url::Url, fields: &[(String, String)]) -> (u16, String) {
        self.browse(|http| {
            let body = url::form_urlencoded::Serializer::new(String::new())
                .extend_pairs(fields)
                .finish();
            let form = "application/x-www-form-urlencoded";
            http.post(url).header("content-type", form).body(body)
        })
    }

    /// Waits for what is not the program's.
    pub fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    fn browse(
        &self,
        request: impl FnOnce(&reqwest::Client) -> reqwest::RequestBuilder,
    ) -> (u16, String) {
        let roots = mailferry::base::tls::read_certificates(&self.path("ca.pem")).expect("roots");
        let tls = mailferry::base::tls::client_config(&roots).expect("TLS");
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .build();
        let request = request(&http.expect("a client"));
        self.runtime.block_on(async {
            let response = request.send().await.expect("answers");
            let status = response.status().as_u16();
            (status, response.text().await.expect("a page"))
        })
    }

    pub fn signal(&self, name: &str) {
        let id = self.program.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("kill")
            .args(["-s", name, &id])
            .status()
            .expect("kill runs");
        assert!(sent.success());
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut program) = self.program.take() {
            let _ = program.kill();
            let _ = program.wait();
        }
    }

    /// SIGTERM; gives whether it ended well, and in how long.
    pub fn stop(&mut self) -> (bool, Duration) {
        let begin = Instant::now();
        self.signal("TERM");
        let status = self.program.take().expect("it runs").wait().expect("ends");
        (status.success(), begin.elapsed())
    }

    /// The end of the log, for a failure's message.
    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub fn state(&self) -> &Arc<State> {
        &self.sandbox.state
    }

    pub fn fault(&self, json: &str) {
        let fault: Fault = serde_json::from_str(json).expect("a fault");
        self.state().script.add([fault]);
    }

    /// Waits until the stand-in has taken so many messages; gives them.
    pub fn delivered(&self, count: u64) -> Vec<Delivered> {
        let reached = async { tokio::time::timeout(SOON, self.state().reached(count)).await };
        let reached = self.runtime.block_on(reached);
        assert!(
            reached.is_ok(),
            "{} of {count} delivered; the log:\n{}",
            self.state().stats().messages,
            self.log_end()
        );
        self.state().delivered()
    }

    /// Waits until the queue is empty: what was delivered is then committed as well.
    pub fn empties(&self) {
        self.wait_for("an empty queue", || {
            self.stdout(&["queue", "list"])
                .starts_with("0 in")
                .then_some(())
        });
    }

    /// Waits for a line of the log with all these parts.
    pub fn logged(&self, parts: &[&str]) -> String {
        self.wait_for(&format!("{parts:?} in the log"), || {
            let log = self.log();
            let line = log
                .lines()
                .find(|line| parts.iter().all(|part| line.contains(part)));
            line.map(str::to_owned)
        })
    }

    /// Looks again until there is an answer; how fast is not a matter of the test.
    pub fn wait_for<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(
                begin.elapsed() < SOON,
                "no {what}; the log:\n{}",
                self.log_end()
            );
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// A client that is signed in.
    pub fn client(&self) -> Smtp {
        let mut client = Smtp::connect(self.address);
        client.expect("EHLO test", "250");
        client.expect("AUTH PLAIN AGVycABsb2Fk", "235");
        client
    }

    /// Sends a message as the user "erp"; gives the reply to it.
    pub fn send(&self, sender: &str, message: &str) -> String {
        self.client()
            .send(sender, &["someone@example.net"], message)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The password "load" of the user "erp", hashed cheaply so that tests do not wait for it.
fn hash() -> String {
    use argon2::password_hash::CustomizedPasswordHasher;
    let params = argon2::Params::new(64, 1, 1, None).expect("parameters");
    let argon2 = argon2::Argon2::default();
    argon2
        .hash_password_customized(b"load", b"somesaltsomesalt", None, None, params)
        .expect("hashes")
        .to_string()
}

/// An app.
pub struct Smtp {
    reader: BufReader<TcpStream>,
}

impl Smtp {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connects");
        stream.set_read_timeout(Some(SOON)).expect("timeout");
        let mut client = Self {
            reader: BufReader::new(stream),
        };
        let greeting = client.reply();
        assert!(greeting.starts_with("220"), "{greeting}");
        client
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).expect("writes");
    }

    /// The next reply, all its lines.
    pub fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let start = reply.len();
            if self.reader.read_line(&mut reply).unwrap_or(0) == 0 {
                return reply;
            }
            if reply.as_bytes().get(start + 3) != Some(&b'-') {
                return reply;
            }
        }
    }

    pub fn command(&mut self, line: &str) -> String {
        self.raw(format!("{line}\r\n").as_bytes());
        self.reply()
    }

    /// As [`Smtp::command`], where the server may be gone: then the reply is empty.
    pub fn try_command(&mut self, line: &str) -> String {
        match self
            .reader
            .get_mut()
            .write_all(format!("{line}\r\n").as_bytes())
        {
            Ok(()) => self.reply(),
            Err(_) => String::new(),
        }
    }

    pub fn expect(&mut self, line: &str, code: &str) -> String {
        let reply = self.command(line);
        assert!(reply.starts_with(code), "{line}: {reply}");
        reply
    }

    /// One transaction; `message` has its line ends as they are, and no dots stuffed.
    pub fn send(&mut self, sender: &str, recipients: &[&str], message: &str) -> String {
        let reply = self.command(&format!("MAIL FROM:<{sender}>"));
        if !reply.starts_with("250") {
            return reply;
        }
        for recipient in recipients {
            self.expect(&format!("RCPT TO:<{recipient}>"), "250");
        }
        self.expect("DATA", "354");
        let stuffed = message.replace("\r\n.", "\r\n..");
        self.raw(format!("{stuffed}\r\n.\r\n").as_bytes());
        self.reply()
    }

    /// A transaction that may be refused at DATA already.
    pub fn send_or_refused(&mut self, sender: &str, message: &str) -> String {
        self.expect(&format!("MAIL FROM:<{sender}>"), "250");
        self.expect("RCPT TO:<someone@example.net>", "250");
        let reply = self.command("DATA");
        if !reply.starts_with("354") {
            return reply;
        }
        self.raw(format!("{message}.\r\n").as_bytes());
        self.reply()
    }

    /// Whether the server has closed.
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        matches!(self.reader.read(&mut byte), Ok(0) | Err(_))
    }
}

/// The id in a 250 reply.
pub fn id_of(reply: &str) -> String {
    let id = reply.trim_end().rsplit(' ').next().expect("an id");
    assert!(reply.starts_with("250 2.0.0 Ok: queued as "), "{reply}");
    id.to_owned()
}

/// A message that routing admits as it is.
pub fn admitted(subject: &str) -> String {
    format!(
        "From: Notifications <notifications@example.com>\r\nTo: someone@example.net\r\nSubject: {subject}\r\n\r\nHello\r\n"
    )
}

/// Whether a program is here. Where it is not the test is skipped, which is said, or fails where
/// everything has to be.
pub fn have(test: &str, programs: &[&str]) -> bool {
    let is_here = |program: &&str| {
        let paths = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        paths
            .split(':')
            .any(|folder| Path::new(folder).join(program).exists())
    };
    let missing: Vec<&&str> = programs
        .iter()
        .filter(|program| !is_here(program))
        .collect();
    if missing.is_empty() {
        return true;
    }
    let all = std::env::var("MAILFERRY_TESTS").is_ok_and(|value| value == "all");
    assert!(
        !all,
        "{test} needs {missing:?}, and tests/run must have installed it"
    );
    let mut terminal = std::io::stderr();
    let _ = writeln!(
        terminal,
        "\nSKIPPED {test}: {missing:?} is not installed; run tests/run\n"
    );
    false
}
