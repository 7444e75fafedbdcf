//! What the tests work with.

mod lab;
mod plan;
mod smtp;

use std::io::Write;
use std::path::Path;
use std::time::Duration;

pub use lab::Lab;
pub use plan::{Plan, SERVER, USUAL, by_refresh_token};
pub use smtp::Smtp;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_mailferry");

/// How long anything may take that should happen soon.
pub const SOON: Duration = Duration::from_secs(60);

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
