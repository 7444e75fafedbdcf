//! A laboratory: the stand-ins, a configuration, and the program in its own process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::LOCATION;
use reqwest::redirect::Policy;

use mailferry::sandbox::{Addresses, Delivered, Fault, Sandbox, SandboxState};

use super::{PROGRAM, Plan, SOON, Smtp};

pub struct Lab {
    pub folder: tempfile::TempDir,
    pub sandbox: Sandbox,
    runtime: tokio::runtime::Runtime,
    program: Option<Child>,
    pub address: SocketAddr,
}

impl Lab {
    /// Sets up the usual laboratory and starts the program.
    pub fn new() -> Self {
        Self::with(Plan::default())
    }

    pub fn with(plan: Plan) -> Self {
        let mut lab = Self::stopped(plan);
        lab.start();
        lab
    }

    /// Sets up a laboratory in which the program is not running yet.
    pub fn stopped(plan: Plan) -> Self {
        mailferry::base::tls::install_provider();
        let folder = tempfile::tempdir().expect("a folder");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let sandbox = runtime
            .block_on(Sandbox::start(plan.sandbox(), Addresses::default()))
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
            .replace("{imap}", &self.sandbox.addresses.imap.port().to_string())
            .replace("{pop3}", &self.sandbox.addresses.pop3.port().to_string())
            .replace("{token_url}", &self.sandbox.token_url())
            .replace("{authorize_url}", &self.sandbox.endpoint("authorize"))
            .replace("{device_url}", &self.sandbox.endpoint("devicecode"));
        self.write("mailferry.toml", &text);
    }

    /// Starts the program, and waits until it listens.
    pub fn start(&mut self) {
        let serve = self.command(&["serve"]);
        self.start_by(serve);
    }

    /// Starts the program with this command, and waits until it listens.
    pub fn start_by(&mut self, mut serve: Command) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .expect("a log");
        let before = self.log().len();
        let child = serve.stderr(log).stdout(Stdio::null()).spawn();
        self.program = Some(child.expect("starts"));
        let line = self.wait_for("listening", || {
            let log = self.log();
            let line = log[before..]
                .lines()
                .find(|line| line.contains("event=\"listening\""))?;
            line.split("address=\"").nth(1).map(str::to_owned)
        });
        let address = line.split('"').next().expect("an address");
        self.address = address.parse().expect("an address");
    }

    /// Starts the program under strace, which injects this fault into the program's system calls on the file
    /// (`--inject` in strace(1)) and writes the calls to `trace`.
    pub fn start_with_faults(&mut self, file: &Path, inject: &str) {
        let [trace, file] = [&self.path("trace"), file].map(|path| path.display().to_string());
        let inject = format!("inject={inject}");
        let strace = [
            "strace", "-D", "-f", "-qq", "-o", &trace, "-P", &file, "-e", &inject, PROGRAM,
        ];
        let serve = self.prefixed(&strace, &["serve"]);
        self.start_by(serve);
    }

    /// Runs a command that starts the program when the first client connects to this address.
    pub fn started_by_a_client(&mut self, mut serve: Command, address: SocketAddr) {
        let log = std::fs::File::create(self.path("log")).expect("a log");
        let child = serve.stderr(log).stdout(Stdio::null()).spawn();
        self.program = Some(child.expect("starts"));
        self.wait_for("socket", || std::net::TcpStream::connect(address).ok());
        self.address = address;
    }

    /// Lets systemd-socket-activate start the program, with a socket of this name, when the first client connects.
    pub fn started_by_systemd(&mut self, name: &str) {
        let address = format!("127.0.0.1:{}", super::free_port());
        let name = format!("--fdname={name}");
        let prefix = [
            "systemd-socket-activate",
            &name,
            "-E",
            "TEST_SECRET",
            "-E",
            "MAILFERRY_ALLOW_ROOT",
            "-l",
            &address,
            PROGRAM,
        ];
        let serve = self.prefixed(&prefix, &["serve"]);
        self.started_by_a_client(serve, address.parse().expect("an address"));
    }

    /// Returns the id of the program's process.
    pub fn id(&self) -> u32 {
        self.program.as_ref().expect("it runs").id()
    }

    /// Returns a command that runs the program with these arguments and this laboratory's configuration.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.prefixed(&[PROGRAM], arguments)
    }

    /// Returns a command that begins with `prefix` (such as `strace`, its options and the program), has these
    /// arguments, and uses this laboratory's configuration.
    pub fn prefixed(&self, prefix: &[&str], arguments: &[&str]) -> Command {
        let mut command = Command::new(prefix[0]);
        command
            .args(&prefix[1..])
            .args(arguments)
            .arg("--config")
            .arg(self.path("mailferry.toml"));
        command
            .env("TEST_SECRET", "sandbox-secret")
            // Containers run the suite as root.
            .env("MAILFERRY_ALLOW_ROOT", "1")
            .env_remove("MAILFERRY_LOG")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to completion. Returns its exit status and output.
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

    /// Requests a page as a browser does, and follows redirects. Returns the status and the page.
    pub fn get(&self, url: url::Url) -> (u16, String) {
        let response = self.browse(Policy::default(), |http| http.get(url));
        self.page(response)
    }

    /// Sends a form as a browser does, and follows redirects. Returns the status and the page.
    pub fn post(&self, url: url::Url, fields: &[(String, String)]) -> (u16, String) {
        let response = self.browse(Policy::default(), |http| posted(http, url, fields));
        self.page(response)
    }

    /// Sends a form, but follows no redirect. Returns the address that the browser is redirected to.
    pub fn redirected(&self, url: url::Url, fields: &[(String, String)]) -> String {
        let response = self.browse(Policy::none(), |http| posted(http, url, fields));
        let location = response.headers().get(LOCATION).expect("a redirect");
        location.to_str().expect("text").to_owned()
    }

    /// Runs asynchronous work of the test itself, such as a request, until it is done.
    pub fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    fn browse(
        &self,
        redirects: Policy,
        request: impl FnOnce(&reqwest::Client) -> reqwest::RequestBuilder,
    ) -> reqwest::Response {
        let roots = mailferry::base::tls::read_certificates(&self.path("ca.pem")).expect("roots");
        let tls = mailferry::base::tls::client_config(&roots).expect("TLS");
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(redirects)
            .build();
        let request = request(&http.expect("a client"));
        self.wait(request.send()).expect("answers")
    }

    fn page(&self, response: reqwest::Response) -> (u16, String) {
        let status = response.status().as_u16();
        (status, self.wait(response.text()).expect("a page"))
    }

    pub fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let sent = Command::new("kill")
            .args(["-s", name, &id])
            .status()
            .expect("kill runs");
        assert!(sent.success());
    }

    /// Ends the program with kill -9.
    pub fn kill(&mut self) {
        if let Some(mut program) = self.program.take() {
            let _ = program.kill();
            let _ = program.wait();
        }
    }

    /// Waits for the program to end after a signal from the test. Returns the exit status.
    pub fn ended(&mut self) -> ExitStatus {
        let mut program = self.program.take().expect("it runs");
        self.wait_for("end", || program.try_wait().expect("ours"))
    }

    /// Sends SIGTERM. Returns true if the program ended successfully, and the time it took.
    pub fn stop(&mut self) -> (bool, Duration) {
        let begin = Instant::now();
        self.signal("TERM");
        let status = self.program.take().expect("it runs").wait().expect("ends");
        (status.success(), begin.elapsed())
    }

    /// Returns the end of the log, for the message of a failed test.
    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub fn state(&self) -> &Arc<SandboxState> {
        &self.sandbox.state
    }

    pub fn fault(&self, json: &str) {
        let fault: Fault = serde_json::from_str(json).expect("a fault");
        self.state().script.add([fault]);
    }

    /// Waits until the stand-in has accepted this many messages, and returns them.
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

    /// Waits until the queue is empty: all deliveries are then committed as well.
    pub fn empties(&self) {
        self.queued(0);
    }

    /// Waits until this many messages are in the queue and all deliveries are committed. Returns the list.
    pub fn queued(&self, count: usize) -> String {
        let line = format!("{count} in the queue");
        self.wait_for(&line, || {
            let list = self.stdout(&["queue", "list"]);
            list.lines().any(|it| it == line).then_some(list)
        })
    }

    /// Waits for a line of the log that contains all these parts, and returns it.
    pub fn logged(&self, parts: &[&str]) -> String {
        self.wait_for(&format!("{parts:?} in the log"), || {
            let log = self.log();
            let line = log
                .lines()
                .find(|line| parts.iter().all(|part| line.contains(part)));
            line.map(str::to_owned)
        })
    }

    /// Calls `look` until it has a result, so that a slow machine does not fail the test. Fails after
    /// [`SOON`].
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

    /// Connects a client and signs it in.
    pub fn client(&self) -> Smtp {
        self.client_as("erp", "load")
    }

    /// Connects a client and signs it in as this user.
    pub fn client_as(&self, user: &str, password: &str) -> Smtp {
        let credentials = BASE64_STANDARD.encode(format!("\0{user}\0{password}"));
        let mut client = Smtp::connect(self.address);
        client.expect("EHLO test", "250");
        client.expect(&format!("AUTH PLAIN {credentials}"), "235");
        client
    }

    /// Sends a message as the user "erp". Returns the reply to it.
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

fn posted(
    http: &reqwest::Client,
    url: url::Url,
    fields: &[(String, String)],
) -> reqwest::RequestBuilder {
    let body = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    let form = "application/x-www-form-urlencoded";
    http.post(url).header("content-type", form).body(body)
}

/// Returns a hash of "load", the password of the user "erp". The hash is cheap to check, so that tests are
/// fast.
fn hash() -> String {
    use argon2::password_hash::CustomizedPasswordHasher;
    let params = argon2::Params::new(64, 1, 1, None).expect("parameters");
    let argon2 = argon2::Argon2::default();
    argon2
        .hash_password_customized(b"load", b"somesaltsomesalt", None, None, params)
        .expect("hashes")
        .to_string()
}
