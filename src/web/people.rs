//! The people who may log in to the page with a password.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher};
use std::time::{Duration, Instant};

use crate::base::window::Window;
use crate::door::password::Hash;
use crate::operator::Role;

/// The number of wrong passwords for one name after which the name cannot log in for a time.
const FAILURES: u64 = 10;

/// The time in which wrong passwords are counted.
const PERIOD: Duration = Duration::from_secs(600);

/// A person who may log in.
#[derive(Clone)]
pub struct Person {
    /// The name.
    pub name: String,
    /// The hash of the password.
    pub hash: Hash,
    /// The person's rights.
    pub role: Role,
}

/// The number of counters for wrong passwords. Names share them, so that nobody learns from a refusal if a name
/// exists, and so that their number is bounded.
const COUNTERS: u64 = 1_024;

/// The recent wrong passwords.
#[derive(Default)]
pub(super) struct Failures(HashMap<u64, Window>);

impl Failures {
    fn window(&mut self, name: &str) -> &mut Window {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let counter = hasher.finish() % COUNTERS;
        self.0.entry(counter).or_insert_with(|| Window::new(PERIOD))
    }

    /// True if there were too many wrong passwords for a name.
    pub(super) fn are_too_many(&mut self, name: &str, now: Instant) -> bool {
        self.window(name).count(now) >= FAILURES
    }

    /// Counts a wrong password.
    pub(super) fn add(&mut self, name: &str, now: Instant) {
        self.window(name).add(1, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_wrong_passwords_block_a_name_for_a_time() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        for _ in 0..FAILURES {
            assert!(!failures.are_too_many("jane", now));
            failures.add("jane", now);
        }
        assert!(failures.are_too_many("jane", now));
        assert!(!failures.are_too_many("jane", now + PERIOD * 2));
    }
}
