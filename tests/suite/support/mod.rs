//! The tools that the tests share.

mod cutter;
mod lab;
mod memory;
mod node;
mod nodes;
mod plan;
pub mod postgresql;
mod smarthost;
mod smtp;

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

pub use cutter::Cutter;
pub use lab::Lab;
pub use memory::Memory;
pub use node::Node;
pub use nodes::Nodes;
pub use plan::{Plan, SERVER, USUAL, by_refresh_token, for_reading, reading};
pub use smarthost::{Asked, Smarthost};
pub use smtp::Smtp;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_mailferry");

/// The longest time that a test waits for anything.
pub const SOON: Duration = Duration::from_secs(60);

/// Returns the seed of random choices. `MAILFERRY_SEED` sets it, to a number or to `random`. Without the
/// variable, the seed is always the same, so that a test that has passed passes again.
pub fn seed() -> u64 {
    let said = std::env::var("MAILFERRY_SEED");
    match said.as_deref() {
        Ok("random") => rand::random_range(0..u64::MAX / 2),
        Ok(number) => number.parse().expect("MAILFERRY_SEED is a number"),
        Err(_) => 20_261_122,
    }
}

/// Returns the id in a 250 reply.
pub fn id_of(reply: &str) -> String {
    let id = reply.trim_end().rsplit(' ').next().expect("an id");
    assert!(reply.starts_with("250 2.0.0 Ok: queued as "), "{reply}");
    id.to_owned()
}

/// Returns a message that routing accepts without rewriting.
pub fn admitted(subject: &str) -> String {
    format!(
        "From: Notifications <notifications@example.com>\r\nTo: someone@example.net\r\nSubject: {subject}\r\n\r\nHello\r\n"
    )
}

/// Returns a free port of loopback, below the range from which the system assigns ports to programs that
/// request any port.
pub fn free_port() -> u16 {
    // The first port depends on the process id, so that suites that run at the same time use different ports.
    // Suites that start together have consecutive process ids: their first ports are 200 apart.
    static NEXT: LazyLock<AtomicU16> =
        LazyLock::new(|| AtomicU16::new(20_000 + 200 * (std::process::id() % 50) as u16));
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let mut ports = (0..2_000).map(|_| NEXT.fetch_add(1, Ordering::Relaxed));
    ports.find(is_free).expect("a free port")
}

/// True if all these programs are installed. If one is missing, the test is skipped with a message, or fails
/// if `MAILFERRY_TESTS` is `all`.
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
    skipped(
        test,
        &format!("{missing:?} is not installed; run tests/run"),
    );
    false
}

/// Prints that a test is skipped, and why. Fails if `MAILFERRY_TESTS` is `all`.
pub fn skipped(test: &str, why: &str) {
    let all = std::env::var("MAILFERRY_TESTS").is_ok_and(|value| value == "all");
    assert!(!all, "{test} may not be skipped here: {why}");
    let _ = writeln!(std::io::stderr(), "\nSKIPPED {test}: {why}\n");
}
