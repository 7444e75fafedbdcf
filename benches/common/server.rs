//! The PostgreSQL of the suite's tests.

#[allow(dead_code)]
#[path = "../../tests/suite/support/postgresql.rs"]
pub mod postgresql;

use crate::program::free_port;

fn skipped(what: &str, reason: &str) {
    panic!("{what}: {reason}");
}
