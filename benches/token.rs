//! The cost of getting a cached token for a delivery, and the cost of a start with a thousand connected
//! servers.
//!
//! `cargo bench --bench token`

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{median, memory, verdict};
use mailferry::base::{Clock, tls};
use mailferry::config::{self, Config, Secrets};
use mailferry::sandbox::{
    Addresses, App, Sandbox, SandboxLimits, SandboxMailbox, SandboxSettings, SharedSignIn,
};
use mailferry::token::{Sources, Vault};
use tokio::runtime::Runtime;

const PROGRAM: &str = env!("CARGO_BIN_EXE_mailferry");

const SERVERS: usize = 1_000;

/// The number of token look-ups in one measurement, and the number of measurements.
const LOOKS: u32 = 1_000_000;
const ROUNDS: usize = 5;

fn address(number: usize) -> String {
    format!("user{number}@example.com")
}

fn main() {
    tls::install_provider();
    let runtime = Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let sandbox = runtime.block_on(sandbox());
    write(folder.path(), &sandbox);
    let config = config::load(&folder.path().join("mailferry.toml"), Secrets::Read);
    let config = config.expect("loads");
    runtime.block_on(connect(&config));
    at_hand(&runtime, &config);
    starts(folder.path(), &sandbox);
}

async fn sandbox() -> Sandbox {
    let mailbox = |number| SandboxMailbox {
        address: address(number).parse().expect("an address"),
        shared_with: Vec::new(),
        send_as: Vec::new(),
        refresh_token: Some(format!("refresh-{number}")),
    };
    let settings = SandboxSettings {
        tenant: "contoso".into(),
        apps: vec![App::with_secret("sandbox-app", "sandbox-secret")],
        mailboxes: (0..SERVERS).map(mailbox).collect(),
        clock_skew: 0,
        token_life: Duration::from_secs(3_600),
        rotates: false,
        shared_sign_in: SharedSignIn::Person,
        limits: SandboxLimits::none(),
        keep: 0,
    };
    let sandbox = Sandbox::start(settings, Addresses::default()).await;
    sandbox.expect("starts")
}

fn write(folder: &Path, sandbox: &Sandbox) {
    use std::os::unix::fs::PermissionsExt;
    let mut text = format!(
        "host = \"relay.example.com\"\ndata_dir = \"data\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n\
         [[user]]\nname = \"erp\"\nnetworks = [\"127.0.0.1/32\"]\n\
         [oauth.o]\ntenant = \"contoso\"\nclient_id = \"sandbox-app\"\nclient_secret = \"sandbox-secret\"\n\
         token_url = \"{}\"\nca = \"ca.pem\"\n",
        sandbox.token_url()
    );
    for number in 0..SERVERS {
        let address = address(number);
        text.push_str(&format!(
            "[[server]]\nname = \"s{number}\"\nusername = \"{address}\"\nfrom_filter = \"{address}\"\noauth = \"o\"\n\
             grant = \"refresh_token\"\nrefresh_token = \"refresh-{number}\"\nhost = \"localhost\"\nport = {}\nca = \"ca.pem\"\n",
            sandbox.addresses.smtp.port()
        ));
    }
    let file = folder.join("mailferry.toml");
    std::fs::write(&file, text).expect("writes");
    let only_ours = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&file, only_ours).expect("chmod");
    std::fs::write(folder.join("ca.pem"), &sandbox.ca).expect("writes");
}

fn sources(config: &Config) -> Sources {
    let vault = Vault::open(config.fixed.data_dir.join("tokens"), None).expect("opens");
    Sources::new(vault, None, Clock::default())
}

/// Requests a token once for every server, which leaves the same state as a person's sign-in or a first
/// start.
async fn connect(config: &Config) {
    let sources = sources(config);
    for server in &config.live.servers {
        let settings = server.token.clone().expect("by token");
        let source = sources.source(settings).expect("TLS");
        source.get().await.expect("granted");
    }
}

fn at_hand(runtime: &Runtime, config: &Config) {
    let sources = sources(config);
    let settings = config.live.servers[0].token.clone().expect("by token");
    let source = sources.source(settings).expect("TLS");
    runtime.block_on(async { source.get().await.expect("kept") });
    let locked = Mutex::new(Arc::new(0));
    let mut took = Vec::new();
    let mut baseline = Vec::new();
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        runtime.block_on(async {
            for _ in 0..LOOKS {
                std::hint::black_box(source.get().await.expect("at hand"));
            }
        });
        took.push(begin.elapsed().as_secs_f64() * 1e9 / f64::from(LOOKS));
        let begin = Instant::now();
        for _ in 0..LOOKS {
            std::hint::black_box(locked.lock().expect("no panic").clone());
        }
        baseline.push(begin.elapsed().as_secs_f64() * 1e9 / f64::from(LOOKS));
    }
    let (took, baseline) = (median(took), median(baseline));
    verdict(
        &format!(
            "a cached token ({:.1} times an uncontended Mutex<Arc>)",
            took / baseline
        ),
        format!("{took:.0} ns"),
        "< 1000 ns",
        took < 1_000.0,
    );
}

/// A process that is killed when this value is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn starts(folder: &Path, sandbox: &Sandbox) {
    let asked = sandbox.state.stats().token_requests;
    let mut took = Vec::new();
    let mut resident = 0;
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        let child = Command::new(PROGRAM)
            .arg("serve")
            .arg("--config")
            .arg(folder.join("mailferry.toml"))
            .env("MAILFERRY_ALLOW_ROOT", "1")
            .stderr(Stdio::piped())
            .spawn();
        let mut process = Process(child.expect("starts"));
        let errors = process.0.stderr.take().expect("piped");
        let listens =
            |line: std::io::Result<String>| line.is_ok_and(|line| line.contains("listening"));
        assert!(BufReader::new(errors).lines().any(listens), "it listens");
        took.push(begin.elapsed().as_secs_f64());
        let tokens = Command::new(PROGRAM)
            .args(["tokens", "--json", "--config"])
            .arg(folder.join("mailferry.toml"))
            .output()
            .expect("runs");
        let rows = String::from_utf8_lossy(&tokens.stdout).lines().count();
        assert!(
            tokens.status.success() && rows == SERVERS,
            "{rows} of {SERVERS} are valid"
        );
        resident = memory(process.0.id(), "VmRSS");
    }
    let asked = sandbox.state.stats().token_requests - asked;
    let took = median(took);
    verdict(
        &format!(
            "start with {SERVERS} connected servers ({} KiB resident)",
            resident
        ),
        format!("{took:.2} s"),
        "< 1 s",
        took < 1.0,
    );
    verdict(
        "  token requests during the starts",
        asked.to_string(),
        "0",
        asked == 0,
    );
}
