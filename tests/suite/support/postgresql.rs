//! A real PostgreSQL server, in a folder of its own, on a free port of loopback. It ends when the test process ends,
//! however that happens, because a shell around it reads the end of a pipe.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use tokio_postgres::{Client, NoTls};

use super::{free_port, skipped};

/// A server.
pub struct Postgresql {
    /// The port on 127.0.0.1.
    pub port: u16,
    folder: PathBuf,
    programs: PathBuf,
    options: String,
    running: Mutex<Option<Child>>,
}

/// Runs the server `$2` in the folder `$1` with the options `$3`, until standard input says with which signal to stop
/// it, or ends; then the folder is removed too. `$4` runs it as another user if this one is root, who may not.
const WATCHED: &str = r#"
$4 "$2/postgres" -D "$1/data" $3 >>"$1/log" 2>&1 &
server=$!
if read -r signal; then
    if [ "$signal" = KILL ]; then
        # The server's processes, too: they would answer a last time.
        kill -STOP "$server"
        kill -KILL $(ps -o pid= --ppid "$server")
    fi
    kill "-$signal" "$server"
    wait "$server"
else
    kill -INT "$server"
    wait "$server"
    rm -rf "$1"
fi
"#;

/// Finds the folder with the server's programs.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let folders = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    folders.filter(|it| it.join("initdb").exists()).max()
}

/// Returns what runs a command as a user who may run PostgreSQL.
fn as_other_user() -> &'static str {
    let is_root = Command::new("id").arg("-u").output().expect("id runs");
    match is_root.stdout.trim_ascii() {
        b"0" => "setpriv --reuid postgres --regid postgres --clear-groups",
        _ => "",
    }
}

fn shell(script: &str) {
    let output = Command::new("sh").args(["-euc", script]).output();
    let output = output.expect("sh runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{said}");
}

impl Postgresql {
    /// Starts a server with these options. If PostgreSQL is not installed, the test is skipped with a message.
    pub fn start(test: &str, options: &str) -> Option<Self> {
        let Some(programs) = programs() else {
            skipped(test, "postgresql is not installed; run tests/run");
            return None;
        };
        let folder = tempfile::tempdir().expect("a folder").keep();
        let (at, initdb) = (folder.display(), programs.join("initdb"));
        let (own, initdb) = (as_other_user(), initdb.display());
        if !own.is_empty() {
            shell(&format!("chown postgres:postgres {at}"));
        }
        shell(&format!(
            "cd {at}; {own} {initdb} -D {at}/data -U postgres -E UTF8 --locale=C --auth=trust --no-sync >/dev/null"
        ));
        let port = free_port();
        let server = Self {
            port,
            programs,
            options: format!("-p {port} -c listen_addresses=127.0.0.1 -k {at} {options}"),
            folder,
            running: Mutex::default(),
        };
        server.run();
        Some(server)
    }

    /// Starts a streaming standby of this server. From now on, this server commits only what the standby has too.
    pub fn standby(&self) -> Self {
        let folder = tempfile::tempdir().expect("a folder").keep();
        let (at, own, port) = (folder.display(), as_other_user(), free_port());
        if !own.is_empty() {
            shell(&format!("chown postgres:postgres {at}"));
        }
        let (copy, from) = (self.programs.join("pg_basebackup"), self.port);
        let copy = copy.display();
        shell(&format!(
            "cd {at}; {own} {copy} -D {at}/data -R -c fast -h 127.0.0.1 -p {from} -U postgres; chmod 700 {at}/data"
        ));
        let standby = Self {
            port,
            programs: self.programs.clone(),
            options: format!("-p {port} -c listen_addresses=127.0.0.1 -k {at}"),
            folder,
            running: Mutex::default(),
        };
        standby.run();
        standby
    }

    /// Makes a standby the primary.
    pub fn promote(&self) {
        let (own, pg_ctl) = (as_other_user(), self.programs.join("pg_ctl"));
        let (pg_ctl, at) = (pg_ctl.display(), self.folder.display());
        shell(&format!(
            "cd {at}; {own} {pg_ctl} promote -w -D {at}/data >/dev/null"
        ));
    }

    /// Returns the server that the tests of this process share. It does not wait for the disk.
    pub fn shared(test: &str) -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Postgresql>> = OnceLock::new();
        let shared =
            SHARED.get_or_init(|| Self::start(test, "-c fsync=off -c max_connections=500"));
        if shared.is_none() {
            skipped(test, "postgresql is not installed; run tests/run");
        }
        shared.as_ref()
    }

    /// Starts the server, and waits until it answers.
    pub fn run(&self) {
        let running = Command::new("sh")
            .args(["-uc", WATCHED, "postgresql"])
            .args([&self.folder, &self.programs])
            .args([&self.options, as_other_user()])
            .stdin(Stdio::piped())
            .spawn()
            .expect("sh runs");
        *self.running() = Some(running);
        let ready = self.programs.join("pg_isready");
        let is_ready = || {
            let asked = Command::new(&ready)
                .args([
                    "-q",
                    "-t",
                    "1",
                    "-h",
                    "127.0.0.1",
                    "-p",
                    &self.port.to_string(),
                ])
                .status();
            asked.expect("pg_isready runs").success()
        };
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !is_ready() {
            assert!(std::time::Instant::now() < deadline, "{}", self.log());
            std::thread::yield_now();
        }
    }

    /// Stops the server with a signal: `INT` ends its connections, `KILL` kills it.
    pub fn stop(&self, signal: &str) {
        let mut running = self.running().take().expect("it runs");
        let mut pipe = running.stdin.take().expect("a pipe");
        writeln!(pipe, "{signal}").expect("the shell reads");
        running.wait().expect("it ends");
        if signal == "KILL" {
            // The other processes of the server notice that the first one is gone.
            let data = self.folder.join("data/postmaster.pid");
            let _ = std::fs::remove_file(data);
        }
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Creates a new database, and returns its URL.
    pub async fn database(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("mailferry{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let create = format!("CREATE DATABASE {name}");
        self.client("postgres")
            .await
            .batch_execute(&create)
            .await
            .expect("creates");
        self.url(&name)
    }

    /// Returns the URL of a database of this server.
    pub fn url(&self, name: &str) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{name}", self.port)
    }

    /// Connects to a database.
    pub async fn client(&self, name: &str) -> Client {
        client(&self.url(name)).await
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.running
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Connects to a database.
pub async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("connects");
    tokio::spawn(connection);
    client
}

impl Drop for Postgresql {
    fn drop(&mut self) {
        // The shell stops the server and removes the folder when its input ends.
        if let Some(mut running) = self.running().take() {
            drop(running.stdin.take());
            let _ = running.wait();
        } else {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}
