//! The people who may log in to the page with a password.

use std::collections::HashMap;
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
    /// What the person may do.
    pub role: Role,
}

/// The recent wrong passwords. All names that nobody has count as one, so that the number of names is bounded.
#[derive(Default)]
pub(super) struct Failures(HashMap<String, Window>);

impl Failures {
    fn window(&mut self, person: Option<&Person>) -> &mut Window {
        let name = person.map(|person| person.name.clone()).unwrap_or_default();
        self.0.entry(name).or_insert_with(|| Window::new(PERIOD))
    }

    /// True if there were too many wrong passwords for a person, or for nobody.
    pub(super) fn are_too_many(&mut self, person: Option<&Person>, now: Instant) -> bool {
        self.window(person).count(now) >= FAILURES
    }

    /// Counts a wrong password.
    pub(super) fn add(&mut self, person: Option<&Person>, now: Instant) {
        self.window(person).add(1, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_wrong_passwords_close_the_door_for_a_time() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        for _ in 0..FAILURES {
            assert!(!failures.are_too_many(None, now));
            failures.add(None, now);
        }
        assert!(failures.are_too_many(None, now));
        assert!(!failures.are_too_many(None, now + PERIOD * 2));
    }
}
