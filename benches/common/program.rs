//! The built program as a process, its configuration, and a stand-in in this process.

#![allow(dead_code)]

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use mailferry::sandbox::{
    Addresses, App, Sandbox, SandboxLimits, SandboxMailbox, SandboxSettings, SharedSignIn,
};

use crate::common;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_mailferry");

/// A process that is killed when this value is dropped.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The number of the program's users, who sign in with a password.
pub const USERS: usize = 20;

/// Writes a configuration with one server. `keys` are lines to add to that server's table.
pub fn configuration(folder: &Path, smtp: u16, token_url: &str, port: u16, keys: &str) {
    let users = (0..USERS).map(|number| {
        let name = crate::common::user(number);
        format!("[[user]]\nname = \"{name}\"\npassword = {{ file = \"erp.argon2\" }}\n")
    });
    let users: String = users.collect();
    let text = format!(
        "host = \"relay.example.com\"\ndata_dir = \"data\"\n[log]\nlevel = \"info\"\n\
         [[listener]]\naddress = \"127.0.0.1:{port}\"\n\
         {users}\
         [oauth.o]\ntenant = \"contoso\"\nclient_id = \"sandbox-app\"\nclient_secret = {{ env = \"BENCH_SECRET\" }}\n\
         token_url = \"{token_url}\"\nca = \"ca.pem\"\n\
         [[server]]\nname = \"n\"\nusername = \"notifications@example.com\"\nfrom_filter = \"example.com\"\noauth = \"o\"\n\
         grant = \"client_credentials\"\nhost = \"localhost\"\nport = {smtp}\nca = \"ca.pem\"\n{keys}\nmessages_per_minute = 0\nrecipients_per_day = 0\n"
    );
    std::fs::write(folder.join("mailferry.toml"), text).expect("writes");
    let hash = Command::new("sh")
        .arg("-c")
        .arg(format!(
            "echo load | {PROGRAM} hash-password -o {}",
            folder.join("erp.argon2").display()
        ))
        .status();
    assert!(hash.expect("runs").success());
}

/// Returns a certificate that signs nothing here, for a configuration that needs a file.
pub fn certificate() -> String {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]);
    made.expect("makes").cert.pem()
}

pub fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    socket.local_addr().expect("bound").port()
}

/// Starts the program, and returns once it sends a greeting.
pub fn serve(folder: &Path, port: u16) -> Process {
    let log = std::fs::File::create(folder.join("log")).expect("a log");
    let child = Command::new(PROGRAM)
        .args(["serve", "--config"])
        .arg(folder.join("mailferry.toml"))
        .env("BENCH_SECRET", "sandbox-secret")
        .env("MAILFERRY_ALLOW_ROOT", "1")
        .stderr(log)
        .spawn();
    let process = Process(child.expect("starts"));
    let server = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let begin = Instant::now();
    while common::greeted(server, Duration::from_secs(1)).is_none() {
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "the program sends no greeting"
        );
    }
    process
}

/// The stand-ins for Exchange Online and Entra ID, without limits.
pub async fn sandbox() -> Sandbox {
    sandbox_that_keeps(0).await
}

/// The stand-ins, which keep this many messages.
pub async fn sandbox_that_keeps(keep: usize) -> Sandbox {
    mailferry::base::tls::install_provider();
    let mailbox = SandboxMailbox {
        address: "notifications@example.com".parse().expect("an address"),
        shared_with: Vec::new(),
        send_as: Vec::new(),
        refresh_token: None,
    };
    let settings = SandboxSettings {
        tenant: "contoso".into(),
        apps: vec![App::with_secret("sandbox-app", "sandbox-secret")],
        mailboxes: vec![mailbox],
        clock_skew: 0,
        token_life: Duration::from_secs(3_600),
        rotates: false,
        shared_sign_in: SharedSignIn::Person,
        limits: SandboxLimits::none(),
        keep,
    };
    let started = Sandbox::start(settings, Addresses::default()).await;
    started.expect("starts")
}
